"""Checks of privileges and of audit tables."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import IS_AUDIT_TABLE, ask
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Fix, RecordedFix
from datafixes.report.document import Fact, attention, bad, good
from datafixes.script.literal import text
from datafixes.script.tables import CHAIN, KEYS, LEDGER, LEDGER_TABLES, RANGES

# The comment of an audit table names its target.
_AUDITS = """
SELECT n.nspname, c.relname, t.nspname AS target_schema, t.relname AS target,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
              WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_attribute AS b
                     WHERE b.attrelid = c.oid AND b.attname = a.attname AND NOT b.attisdropped)
              ORDER BY a.attnum)
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN (SELECT tc.oid, tn.nspname, tc.relname, pg_catalog.format('%I.%I', tn.nspname, tc.relname) AS label
               FROM pg_catalog.pg_class AS tc JOIN pg_catalog.pg_namespace AS tn ON tn.oid = tc.relnamespace
              WHERE tc.relkind IN ('r', 'p')) AS t
    ON pg_catalog.obj_description(c.oid, 'pg_class')
       = pg_catalog.concat('datafixes: images of rows of ', t.label, ', before and after a data fix')
 WHERE c.relkind = 'r' AND {is_audit}
 ORDER BY n.nspname, c.relname
"""

_GRANTS = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
       CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(acl.grantee)::text END,
       array_agg(acl.privilege_type ORDER BY acl.privilege_type)
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS acl
 WHERE c.relkind = 'r' AND acl.grantee <> c.relowner AND ({is_audit} OR c.relname IN ({ledgers}))
   AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
 GROUP BY 1, 2 ORDER BY 1, 2
"""

_MAY = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       pg_catalog.pg_get_userbyid(c.relowner)::text,
       ARRAY(SELECT p FROM unnest({wanted}) AS p WHERE NOT pg_catalog.has_table_privilege(c.oid, p))
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = {schema} AND c.relname = {table}
"""


@dataclass(frozen=True)
class Need:
    """The privileges that a run of a fix needs on a table.

    Attributes:
        schema: its schema.
        table: its name.
        privileges: the privileges that the role needs.
        owner: whether the role must own the table.
        fix: the fix that needs it.
    """

    schema: str
    table: str
    privileges: tuple[str, ...]
    owner: bool
    fix: str


def needs_of(fix: Fix) -> list[Need]:
    """The needs of a run of a fix, and of its revert."""
    changes = {
        "update": ("SELECT", "UPDATE"),
        "delete": ("SELECT", "UPDATE", "DELETE", "INSERT"),
        "insert": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    }
    privileges = changes[fix.kind] if isinstance(fix, DataFix) else ("SELECT",)
    recorded, schema = isinstance(fix, RecordedFix), fix.schema_of_audit
    found = [Need(one.schema, one.table, privileges, recorded, fix.name) for one in fix.tables]
    found += [Need(schema, one.audit, ("SELECT", "INSERT"), False, fix.name) for one in fix.tables]
    ledgers = [
        Need(schema, one, ("SELECT", "INSERT", "UPDATE"), False, fix.name)
        for one in (LEDGER, LEDGER_TABLES, *([RANGES] if isinstance(fix, DataFix) and fix.batches else []))
    ]
    seals = [Need(schema, one, ("SELECT", "INSERT"), False, fix.name) for one in (CHAIN, KEYS)]
    return [*found, *ledgers, *seals]


def check_rights(connection: Connection, fixes: Iterable[Fix]) -> list[Fact]:
    """Whether this role has the privileges that the project's fixes need, on tables that exist."""
    [(role, temporary, database)] = ask(
        connection,
        "SELECT current_user::text, pg_catalog.has_database_privilege(current_database(), 'TEMP'),"
        " pg_catalog.quote_ident(current_database())",
    )
    findings = []
    if not temporary:
        findings.append(
            bad(
                "temporary objects",
                f"{role} may not create them, and fixes need temporary functions.",
                f'GRANT TEMPORARY ON DATABASE {database} TO "{role}"',
            )
        )
    else:
        findings.append(good("temporary objects", f"{role} may create them."))
    lacking: dict[str, Fact] = {}
    for need in (need for fix in fixes for need in needs_of(fix)):
        finding = _lack(connection, role, need)
        if finding is not None:
            lacking.setdefault(finding.text, finding)
    return [
        *findings,
        *(
            lacking.values()
            or [good("privileges", f"{role} has the privileges that the project's fixes need.")]
        ),
    ]


def _lack(connection: Connection, role: str, need: Need) -> Fact | None:
    wanted = f"ARRAY[{', '.join(text(one) for one in need.privileges)}]"
    query = (
        _MAY.replace("{wanted}", wanted)
        .replace("{schema}", text(need.schema))
        .replace("{table}", text(need.table))
    )
    for label, is_owner, owner, lacks in ask(connection, query):
        if need.owner and not is_owner:
            return bad(
                "privileges",
                f"The fix {need.fix} is recorded, which only {owner}, the owner of {label}, can run; this is {role}.",
                f"Run migrations as {owner}, or declare the fix (DataFix).",
            )
        if lacks:
            grants = ", ".join(lacks)
            return bad(
                "privileges",
                f"{role} lacks {grants} on {label}, which the fix {need.fix} needs.",
                f'GRANT {grants} ON {label} TO "{role}"',
            )
    return None


def check_audit_tables(connection: Connection) -> list[Fact]:
    """Whether audit tables match their targets, and which other roles may read or change them."""
    audits = ask(connection, _AUDITS.replace("{is_audit}", IS_AUDIT_TABLE))
    if not audits:
        return [good("audit tables", "None exists yet.")]
    findings = [
        bad(
            "audit tables",
            f"{schema}.{audit} lacks columns of {target_schema}.{target}: {', '.join(missing)}; fixes will be refused.",
            f"In a migration: {_update(target_schema, target, schema, audit)}",
        )
        for schema, audit, target_schema, target, missing in audits
        if missing
    ]
    if not findings:
        findings = [good("audit tables", f"{len(audits)} checked: each has all columns of its target.")]
    return [*findings, *_grants(connection)]


def _update(target_schema: str, target: str, schema: str, audit: str) -> str:
    more = "" if target_schema == "public" else f", schema={target_schema!r}"
    more += "" if schema == target_schema else f", audit_schema={schema!r}"
    return f"op.update_audit_table({target!r}, name={audit!r}{more})"


def _grants(connection: Connection) -> list[Fact]:
    ledgers = ", ".join(text(one) for one in (LEDGER, LEDGER_TABLES, RANGES))
    query = _GRANTS.replace("{is_audit}", IS_AUDIT_TABLE).replace("{ledgers}", ledgers)
    findings = []
    for table, grantee, privileges in ask(connection, query):
        writes = [one for one in privileges if one in ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER")]
        if grantee == "PUBLIC":
            writes += [one for one in privileges if one == "INSERT"]
        # A role that applies fixes without owning the copies inserts them, and updates its own lines in the ledger.
        if (
            table.rpartition(".")[2] in (LEDGER, LEDGER_TABLES, RANGES)
            and "UPDATE" in writes
            and "INSERT" in privileges
        ):
            writes.remove("UPDATE")
        quoted = grantee if grantee == "PUBLIC" else f'"{grantee}"'
        if writes:
            findings.append(
                bad(
                    "copies",
                    f"{grantee} may change {table}: {', '.join(writes)}.",
                    f"REVOKE {', '.join(writes)} ON {table} FROM {quoted}",
                )
            )
        elif "SELECT" in privileges:
            findings.append(
                attention(
                    "copies",
                    f"{grantee} may read {table}.",
                    f"If that is not intended: REVOKE SELECT ON {table} FROM {quoted}",
                )
            )
    return findings or [good("copies", "Only their owner may read or change them.")]
