"""Where the database is, and how it is reached: what an env.py needs."""

from datafixes.database.connection import one_run_at_a_time, open_connection
from datafixes.database.location import Location, locate

__all__ = ["Location", "locate", "one_run_at_a_time", "open_connection"]
