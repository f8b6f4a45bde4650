"""datafixes: audited data fixes for Alembic and PostgreSQL that can be reversed from a snapshot."""

from datafixes.errors import DatafixError
from datafixes.expressions import sql
from datafixes.fix import DataFix, Delete, Insert, Update
from datafixes.recorded import RecordedFix
from datafixes.rows import Rows
from datafixes.table import Table

__version__ = "0.1.0"

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
