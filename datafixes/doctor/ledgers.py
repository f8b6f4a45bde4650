"""Checks of ledgers and of sequences."""

from collections.abc import Iterable, Iterator

from sqlalchemy.engine import Connection

from datafixes.audit.chain.sealing import overdue_runs
from datafixes.audit.history import IS_AUDIT_TABLE, ask, ledger_schemas
from datafixes.audit.images import read_images
from datafixes.audit.running import half_applied
from datafixes.audit.sequences import behind_of_table
from datafixes.audit.wording import named
from datafixes.declaration.recorded import Fix
from datafixes.report.document import Fact, attention, bad, good
from datafixes.script.literal import qualified, text
from datafixes.script.tables import CHAIN, LEDGER, LEDGER_VERSION

# The name of a constraint holds the version; 0.1 had none.
_VERSION = """
SELECT coalesce(max(CAST(substring(k.conname FROM '^datafix_run_is_version_([0-9]+)') AS integer)), 1),
       pg_catalog.pg_has_role(max(c.relowner), 'USAGE'), pg_catalog.pg_get_userbyid(max(c.relowner))
  FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_constraint AS k ON k.conrelid = c.oid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relname = {table} AND n.nspname = {schema}
"""


def check_ledgers(connection: Connection) -> list[Fact]:
    """Whether this package can write to each ledger."""
    return [_check(connection, schema) for schema in ledger_schemas(connection)]


def _check(connection: Connection, schema: str) -> Fact:
    ledger = qualified(schema, LEDGER)
    [(version, is_ours, owner)] = ask(connection, _VERSION.format(schema=text(schema), table=text(LEDGER)))
    found_version = f"{ledger} has version {version}"
    if version == LEDGER_VERSION:
        return good("ledger", f"{found_version}.")
    found_version += f", and this package writes version {LEDGER_VERSION}"
    if version > LEDGER_VERSION:
        return bad("ledger", f"{found_version}.", "pip install --upgrade datafixes")
    if not is_ours:
        where = "" if schema == "public" else f"audit_schema={schema!r}"
        return bad(
            "ledger",
            f"{found_version}; only its owner {owner} may upgrade it.",
            f"Let {owner} run the next migration, or one with op.update_ledger({where}).",
        )
    return good("ledger", f"{found_version}: the next run of a fix upgrades it.")


def check_seals(connection: Connection) -> list[Fact]:
    """Whether finished runs stay unsealed, so that nothing proves them, in ledgers that this role may read."""
    return [fact for schema in ledger_schemas(connection) for fact in _check_seals(connection, schema)]


def _check_seals(connection: Connection, schema: str) -> Iterator[Fact]:
    tables = (text(qualified(schema, table)) for table in (CHAIN, LEDGER))
    may = " AND ".join(f"has_table_privilege(to_regclass({table}), 'SELECT')" for table in tables)
    readable = ask(connection, f"SELECT {may}")
    if readable != [(True,)]:
        return
    if overdue := overdue_runs(connection, schema):
        yield bad(
            "seals",
            f"{qualified(schema, LEDGER)}: another run began since, and still {named('run', overdue)} "
            f"{'is' if len(overdue) == 1 else 'are'} not sealed.",
            "datafixes seal, as a role that may read the copies and INSERT into datafix_chain and datafix_key.",
        )
    else:
        yield good(
            "seals", f"{qualified(schema, LEDGER)}: no run waits to be sealed for longer than one upgrade."
        )


def check_running(connection: Connection) -> list[Fact]:
    """Whether a fix is half applied: with an env.py of others, Alembic would undo the revision before it."""
    found = []
    for one in half_applied(connection):
        evidence = f"{one.fix} (run {one.run_id}): {one.state} {one.done}, {one.life}."
        beside = "Let no other revision be upgraded or downgraded meanwhile."
        if one.is_alive:
            found.append(attention("in batches", evidence, beside))
        else:
            found.append(bad("in batches", evidence, f"{one.ways_on}. {beside}"))
    return found


# Ledgers, audit tables and the named tables, in schemas that this role may use.
_NUMBERED = f"""
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), o.is_ours
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT c.relname = {text(LEDGER)} OR {IS_AUDIT_TABLE}) AS o (is_ours)
 WHERE c.relkind IN ('r', 'p') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
   AND (o.is_ours OR (n.nspname, c.relname) IN ({{named}}))
 ORDER BY NOT o.is_ours, c.relname <> {text(LEDGER)}, 1
"""


def check_sequences(connection: Connection, fixes: Iterable[Fix]) -> list[Fact]:
    """Whether sequences will hand out new numbers: those of ledgers, of audit tables, and of the tables of fixes.

    Args:
        connection: in a read-only transaction.
        fixes: the fixes of the project.
    """
    named = {f"({text(table.schema)}, {text(table.table)})" for fix in fixes for table in fix.tables}
    findings = []
    with read_images(connection):
        for table, is_ours in ask(
            connection, _NUMBERED.replace("{named}", ", ".join(sorted(named)) or "('', '')")
        ):
            follows = "fixes will be refused" if is_ours else "its next inserts will fail with duplicate keys"
            for one in behind_of_table(connection, table):
                column = one.sequence.column
                evidence = f"{one.position}, and {table} has {column} {one.numbers[0]} already: {follows}."
                findings.append(bad("sequences", evidence, one.remedy))
    return findings or [good("sequences", "None is behind its table.")]
