"""Readable names of the rows of a fix, unless masked."""

import re
from collections.abc import Iterable

from datafixes.audit.changes import View
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Fix
from datafixes.declaration.table import Table


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


def hidden_identities(table: Table, view: View) -> list[str]:
    """The identities that have the name of a masked column, or read one."""
    return [name for name, text in table.identity.items() if _reads_hidden(table, (name, text), view)]


def _reads_hidden(table: Table, texts: Iterable[str], view: View) -> bool:
    words = re.findall(r'"(?:[^"]|"")+"|\w+', " ".join(texts))
    return any(view.hides(f"{table.schema}.{table.table}", word) for word in words)
