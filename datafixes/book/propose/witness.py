"""A row that identifies the database of the book."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datafixes.book.propose.target import Target
from datafixes.book.rows.row import moment_of
from datafixes.book.rows.source import asking
from datafixes.script import literal

if TYPE_CHECKING:
    from datafixes.project import Project


_NEWEST = """
SELECT id, account_name, coalesce(option_symbol, ticker) AS symbol,
       CAST(extract(epoch FROM entry_time) AS text) AS entry_time
  FROM {table}
 WHERE account_name IS NOT NULL AND coalesce(option_symbol, ticker) IS NOT NULL
   AND extract(epoch FROM entry_time) BETWEEN 0 AND 4102444800
 ORDER BY id DESC
 LIMIT 1
""".strip()


def witness_of(project: Project, target: Target) -> str:
    """The condition that the newest row of the book exists, whatever its status; empty if the book has no rows.

    Raises:
        DatafixError: the book cannot be read.
    """
    table = literal.qualified(target.schema, target.table)
    with asking(project) as ask:
        for row in ask(_NEWEST.format(table=table)):
            opened = moment_of(row["entry_time"])
            kind = "timestamptz" if target.has_zone("entry_time") else "timestamp"
            values = {
                "id": str(int(row["id"])),
                "account_name": literal.text(str(row["account_name"])),
                "coalesce(option_symbol, ticker)": literal.text(str(row["symbol"])),
                "entry_time": f"{kind} {literal.text(target.time('entry_time', opened).isoformat(' '))}",
            }
            conditions = " AND ".join(f"{expression} = {value}" for expression, value in values.items())
            return f"EXISTS (SELECT FROM {table} WHERE {conditions})"
    return ""
