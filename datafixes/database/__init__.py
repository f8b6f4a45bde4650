"""Finds the database and connects to it, for an env.py."""

from datafixes.database.connection import open_connection
from datafixes.database.location import Location, locate
from datafixes.database.turns import one_run_at_a_time

__all__ = ["Location", "locate", "one_run_at_a_time", "open_connection"]
