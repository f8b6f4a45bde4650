"""datafixes: audited data fixes for Alembic and PostgreSQL that can be reversed from a snapshot."""

from datafixes.declaration.expressions import sql
from datafixes.declaration.fix import DataFix, Delete, Insert, Update
from datafixes.declaration.recorded import RecordedFix
from datafixes.declaration.rows import Rows
from datafixes.declaration.table import Table
from datafixes.errors import DatafixError

__version__ = "0.2.0"

__all__ = [
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
