"""The book's table, for fixes."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The book's table, for fixes.

    Attributes:
        schema: its schema.
        table: its name.
        columns: by name of a column, its type.
        audit: the audit table.
        audit_schema: its schema.
    """

    schema: str
    table: str
    columns: Mapping[str, str]
    audit: str
    audit_schema: str

    def time(self, column: str, moment: dt.datetime) -> dt.datetime:
        """A time as a value for a column: in UTC, with a zone if the column has one."""
        utc = moment.astimezone(dt.UTC)
        return utc if self.has_zone(column) else utc.replace(tzinfo=None)

    def has_zone(self, column: str) -> bool:
        """Whether a column of times has a zone."""
        return "with time zone" in self.columns.get(column, "")
