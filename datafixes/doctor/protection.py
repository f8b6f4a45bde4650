"""Checks of what keeps audit tables and ledgers from being changed: triggers, their function, owners and rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from sqlalchemy.engine import Connection

from datafixes.audit.history import IS_AUDIT_TABLE, ask
from datafixes.report.document import Fact, attention, bad, good
from datafixes.script.literal import text
from datafixes.script.tables import APPEND_ONLY, FINISHED, LEDGER, LEDGER_TABLES, PRUNED, REDACTED

_PAGE = "docs/how-to/protect-the-audit.md"
_LEDGERS = (LEDGER, LEDGER_TABLES, "datafix_chain")

# The tables that only grow; the state of each trigger, the rules, and whose they are.
_TABLES = f"""
SELECT n.nspname::text, c.relname::text, pg_catalog.format('%I.%I', n.nspname, c.relname),
       ARRAY(SELECT CAST(t.tgname AS text) FROM pg_catalog.pg_trigger AS t
              WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled = 'A' ORDER BY 1),
       ARRAY(SELECT CAST(t.tgname AS text) FROM pg_catalog.pg_trigger AS t
              WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'A' ORDER BY 1),
       ARRAY(SELECT pg_catalog.quote_ident(r.rulename) FROM pg_catalog.pg_rewrite AS r
              WHERE r.ev_class = c.oid ORDER BY 1),
       pg_catalog.pg_get_userbyid(c.relowner)::text, pg_catalog.pg_get_userbyid(n.nspowner)::text,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       pg_catalog.pg_get_userbyid(p.proowner)::text, p.prosrc,
       EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attname = 'audit_id' AND a.attidentity = '')
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_proc AS p
    ON p.pronamespace = n.oid AND p.proname = {text(APPEND_ONLY)} AND p.pronargs = 0
 WHERE c.relkind = 'r'
   AND ({IS_AUDIT_TABLE}
        OR c.relname IN ({", ".join(map(text, _LEDGERS))})
           AND pg_catalog.obj_description(c.oid, 'pg_class') LIKE 'datafixes: %')
 ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True)
class _Table:
    """A table that only grows."""

    schema: str
    name: str
    label: str
    always: list[str]
    otherwise: list[str]
    rules: list[str]
    owner: str
    owner_of_schema: str
    is_ours: bool
    schema_is_ours: bool
    owner_of_function: str | None
    function: str | None
    is_spread: bool
    """An audit table beside a distributed table of Citus: its images have no numbers of a sequence."""

    @property
    def expected(self) -> tuple[str, ...]:
        """The triggers that it should have."""
        if self.name in (LEDGER, LEDGER_TABLES):
            return APPEND_ONLY, FINISHED
        if self.is_spread:
            return ()
        return (APPEND_ONLY, PRUNED, REDACTED) if self.is_audit else (APPEND_ONLY,)

    @property
    def is_audit(self) -> bool:
        """Whether it is an audit table."""
        return self.name not in _LEDGERS


def check_protection(connection: Connection) -> list[Fact]:
    """Whether audit tables and ledgers are append-only, and against whom."""
    tables = [_Table(*row) for row in ask(connection, _TABLES)]
    if not tables:
        return []
    [(role,)] = ask(connection, "SELECT current_user::text")
    findings = [*_triggers(tables), *_functions(tables), *_rules(tables)]
    if not findings:
        guarded = sum(1 for one in tables if one.expected)
        findings = [good("append-only", f"{guarded} tables refuse UPDATE, DELETE and TRUNCATE.")]
    return [*findings, *_spread(tables), *_owners(tables, role)]


def _spread(tables: Iterable[_Table]) -> Iterator[Fact]:
    labels = [one.label for one in tables if one.is_spread]
    if labels:
        yield attention(
            "append-only",
            f"On the shards of a Citus cluster, no trigger guards copies: {', '.join(labels)}.",
            "Let few roles write there; `datafixes verify-audit` finds what somebody changed.",
        )


def _triggers(tables: Iterable[_Table]) -> Iterator[Fact]:
    unprotected: dict[str, list[str]] = {}
    for table in tables:
        for trigger in table.expected:
            if trigger in table.otherwise:
                yield bad(
                    "append-only",
                    f"The trigger {trigger} of {table.label} is not ENABLE ALWAYS: it is disabled, or a restore with"
                    " --disable-triggers made it an ordinary one.",
                    f"ALTER TABLE {table.label} ENABLE ALWAYS TRIGGER {trigger}",
                )
            elif trigger not in table.always and table.label not in unprotected.get(table.schema, []):
                unprotected.setdefault(table.schema, []).append(table.label)
    for schema, labels in unprotected.items():
        audits = [one.name for one in tables if one.schema == schema and one.is_audit]
        yield attention(
            "append-only", f"Not protected against changes: {', '.join(labels)}.", _protect(schema, audits)
        )


def _protect(schema: str, audits: Iterable[str]) -> str:
    where = "" if schema == "public" else f", schema={schema!r}"
    return f"In a migration: {'; '.join(f'op.protect_audit_table({name!r}{where})' for name in audits)}"


def _functions(tables: Iterable[_Table]) -> Iterator[Fact]:
    """One in each schema."""
    for schema, table in {one.schema: one for one in tables if one.function is not None}.items():
        audits = [one.name for one in tables if one.schema == schema and one.is_audit][:1]
        if table.function != _body():
            yield bad(
                "append-only",
                f"The function {schema}.{APPEND_ONLY}() is not the one of this version of datafixes.",
                _protect(schema, audits),
            )
        if table.owner_of_function != table.owner:
            yield bad(
                "append-only",
                f"{table.owner_of_function} may replace the function {schema}.{APPEND_ONLY}(), and does not own"
                f" {table.label}.",
                f'ALTER FUNCTION {schema}.{APPEND_ONLY}() OWNER TO "{table.owner}"',
            )


@cache
def _body() -> str:
    source = resources.files("datafixes.script").joinpath("protection.sql").read_text("ascii")
    return source.split("$append_only$")[1]


def _rules(tables: Iterable[_Table]) -> Iterator[Fact]:
    for table in tables:
        for rule in table.rules:
            yield bad(
                "append-only",
                f"{table.label} has the rule {rule}: a rule can drop or change what is written.",
                f"DROP RULE {rule} ON {table.label}",
            )


def _owners(tables: Iterable[_Table], role: str) -> Iterator[Fact]:
    """The role that runs fixes can undo what it owns."""
    owned = sorted({one.label for one in tables if one.is_ours})
    schemas = sorted({one.schema for one in tables if one.schema_is_ours})
    if owned:
        yield attention(
            "owner",
            f"{role} runs fixes and owns the copies ({', '.join(owned)}), so it can remove their protection.",
            f"To run fixes as a role that cannot: {_PAGE}",
        )
    elif schemas:
        yield attention(
            "owner",
            f"{role} runs fixes and owns the schema {', '.join(schemas)}, so it can drop the copies.",
            f"To run fixes as a role that cannot: {_PAGE}",
        )
    else:
        yield good("owner", f"{role} runs fixes, and owns neither the copies nor their schema.")
