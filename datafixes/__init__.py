"""datafixes: audited data fixes for Alembic and PostgreSQL that can be reversed from a snapshot."""

from datafixes.errors import DatafixError
from datafixes.expressions import sql
from datafixes.fix import DataFix, Delete, Insert, Rows, Update

__version__ = "0.1.0"

__all__ = ["DataFix", "DatafixError", "Delete", "Insert", "Rows", "Update", "__version__", "sql"]
