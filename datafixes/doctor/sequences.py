"""Checks of sequences: after a switchover, a restore of data alone, an insert with its own ids."""

from collections.abc import Iterable

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.audit.images import read_images
from datafixes.audit.sequences import behind_of_table
from datafixes.declaration.recorded import Fix
from datafixes.report.document import Fact, bad, good
from datafixes.script.literal import text
from datafixes.script.tables import AUDIT_COLUMNS, LEDGER

# Ledgers, audit tables and the named tables, in schemas that this role may use.
_NUMBERED = f"""
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), o.is_ours
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT c.relname = {text(LEDGER)} OR (
       SELECT count(*) FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND NOT a.attisdropped
          AND a.attname IN ({", ".join(text(one) for one in AUDIT_COLUMNS)})) = {len(AUDIT_COLUMNS)}) AS o (is_ours)
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
                evidence = f"{one.stands}, and {table} has {column} {one.numbers[0]} already: {follows}."
                findings.append(bad("sequences", evidence, one.remedy))
    return findings or [good("sequences", "None is behind its table.")]
