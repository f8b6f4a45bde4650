"""Keys as people type them: as the views write them, and the nearest ones that runs changed."""

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.history import ask
from datafixes.audit.images import key_text, read_images
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER_TABLES

_SAMPLE = 64
"""So many pages of an audit table are looked at for near keys."""


def key_as_kept(connection: Connection, schema: str, table: str, key: str) -> str:
    """A key as the views write it: ``0.1`` is ``0.10000000`` in a column with eight decimals.

    Where the table or its key has changed since, or the text is no value of the key's type, it is the text itself.
    """
    types = f"""
        SELECT pg_catalog.format_type(a.atttypid, a.atttypmod)
          FROM (SELECT t.key_columns FROM {qualified(schema, LEDGER_TABLES)} AS t
                 WHERE t.target_table = {text(table)} ORDER BY t.run_id DESC LIMIT 1) AS newest
         CROSS JOIN LATERAL pg_catalog.unnest(newest.key_columns) WITH ORDINALITY AS k (name, position)
          JOIN pg_catalog.pg_attribute AS a ON a.attname = k.name AND a.attrelid = pg_catalog.to_regclass({text(table)})
         ORDER BY k.position"""
    try:
        with read_images(connection):
            columns = [kind for (kind,) in ask(connection, types)]
            parts = key.split("/", len(columns) - 1) if columns else []
            if len(parts) != len(columns) or not columns:
                return key
            cast = (
                f"CAST(CAST({text(part)} AS {kind}) AS text)"
                for part, kind in zip(parts, columns, strict=True)
            )
            return str(ask(connection, f"SELECT concat_ws('/', {', '.join(cast)})")[0][0])
    except (DBAPIError, DatafixError):
        return key


def near_keys(connection: Connection, schema: str, table: str, key: str) -> str:
    """The changed keys nearest to an unknown one, in words: of those in some pages of each audit table."""
    known: list[str] = []
    for audit, columns, pages in ask(
        connection,
        "SELECT DISTINCT t.audit_table, t.key_columns, c.relpages"
        f" FROM {qualified(schema, LEDGER_TABLES)} AS t JOIN pg_catalog.pg_class AS c ON c.oid = to_regclass(t.audit_table)"
        f" WHERE t.target_table = {text(table)} AND t.key_columns <> '{{}}'",
    ):
        share = min(100.0, 100 * _SAMPLE / max(pages, 1))
        each = key_text(tuple(columns), "i")
        known += (
            one
            for (one,) in ask(
                connection, f"SELECT {each} FROM {audit} AS i TABLESAMPLE SYSTEM ({share}) REPEATABLE (0)"
            )
        )
    return nearest(key, known).strip()
