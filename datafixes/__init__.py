"""datafixes: audited data fixes for Alembic and PostgreSQL that can be reversed from a snapshot."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datafixes.declaration.batches import Batches
    from datafixes.declaration.expressions import sql
    from datafixes.declaration.fix import DataFix, Delete, Insert, Update
    from datafixes.declaration.recorded import RecordedFix
    from datafixes.declaration.rows import AtMost, Rows
    from datafixes.declaration.table import Table
    from datafixes.errors import DatafixError

__version__ = "0.2.0"

__all__ = [
    "AtMost",
    "Batches",
    "DataFix",
    "DatafixError",
    "Delete",
    "Insert",
    "RecordedFix",
    "Rows",
    "Table",
    "Update",
    "__version__",
    "sql",
]

_MODULES = {
    "AtMost": "declaration.rows",
    "Batches": "declaration.batches",
    "DataFix": "declaration.fix",
    "DatafixError": "errors",
    "Delete": "declaration.fix",
    "Insert": "declaration.fix",
    "RecordedFix": "declaration.recorded",
    "Rows": "declaration.rows",
    "Table": "declaration.table",
    "Update": "declaration.fix",
    "sql": "declaration.expressions",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use: Alembic imports this package with every command of every project."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
