"""Readable names of the rows of a fix, unless masked."""

import re
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.changes import View
from datafixes.audit.history import ask
from datafixes.audit.images import TableOfRun, name_in_sql, read_images
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Fix
from datafixes.declaration.table import Table
from datafixes.script.literal import qualified, text
from datafixes.script.parameters import verbatim
from datafixes.script.tables import LEDGER

# Identities are SQL, which runs with the rights of whoever reads: they count where only the owner may write to the
# ledger, as in a revert. Version 0.1 kept no declaration, and its ledger lacks the column.
_KEPT = """
SELECT to_jsonb(r) -> 'declaration' -> 'tables' FROM {ledger} AS r
 WHERE r.run_id = {run} AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_class AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS acl
        WHERE c.oid = CAST({name} AS pg_catalog.regclass) AND acl.privilege_type IN ('INSERT', 'UPDATE')
          AND acl.grantee <> c.relowner)
"""


def names_of_rows(fix: Fix, table: Table, view: View) -> dict[str, str]:
    """Readable names of the rows that a fix names: by key as text, the identity that it expects.

    Args:
        fix: the fix.
        table: one of its tables.
        view: which columns are masked; if an identity or a key reads one, there are no names.
    """
    if not table.identity or hidden_identities(table, view) or _reads_hidden(table, table.key_columns, view):
        return {}
    named = fix.rows.expected() if isinstance(fix, DataFix) else ((key, of) for _, key, of in table.named())
    return {
        "/".join(str(part) for part in key): " ".join(str(part) for part in identity if part is not None)
        for key, identity in named
    }


def with_kept_identities(
    connection: Connection, schema: str, run: int, tables: list[TableOfRun], view: View
) -> list[TableOfRun]:
    """The tables of a run with the identities that its ledger keeps, unless they are masked or cannot be computed.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        run: its number.
        tables: its tables.
        view: which columns are masked.
    """
    ledger = qualified(schema, LEDGER)
    kept = [
        of_table.get("identity_sql") or ()
        for (found,) in ask(connection, _KEPT.format(ledger=ledger, name=text(ledger), run=run))
        for of_table in found or ()
    ]
    named = []
    for place, table in enumerate(tables):
        own = tuple(kept[place]) if place < len(kept) else ()
        one = replace(table, identity=own)
        hidden = any(view.hides(table.target, word) for one in (*own, *table.key) for word in _words(one))
        named.append(table if not own or hidden or not _can_be_computed(connection, one) else one)
    return named


def _can_be_computed(connection: Connection, table: TableOfRun) -> bool:
    """Whether the images can tell the identity: its functions may be out of reach here, its columns of another type."""
    try:
        with connection.begin_nested(), read_images(connection):
            query = f"SELECT {name_in_sql(table, 'i')} FROM {table.audit} AS i LIMIT 0"
            connection.exec_driver_sql(verbatim(connection, query))
    except DBAPIError:
        return False
    return True


def hidden_identities(table: Table, view: View) -> list[str]:
    """The identities that have the name of a masked column, or read one."""
    return [name for name, text in table.identity.items() if _reads_hidden(table, (name, text), view)]


def _reads_hidden(table: Table, texts: Iterable[str], view: View) -> bool:
    return any(view.hides(f"{table.schema}.{table.table}", word) for text in texts for word in _words(text))


def _words(text: str) -> list[str]:
    return re.findall(r'"(?:[^"]|"")+"|\w+', text)
