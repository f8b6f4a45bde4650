"""Reading the ledger and the images back, as text for people."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.script.literal import qualified, text
from datafixes.script.parameters import verbatim
from datafixes.script.tables import CHANGES_SUFFIX, LEDGER, LEDGER_TABLES


@dataclass(frozen=True)
class Run:
    """One run of a fix, as the ledger has it. Counts are None where they mean nothing."""

    run_id: int
    outcome: str
    expected: int | None
    found: int | None
    changed: int | None
    already: int | None
    skipped: int | None
    overwritten: int | None
    already_rows: str | None


@dataclass(frozen=True)
class ColumnChange:
    """One column of one row: its value before and after, as text, cut off after a hundred characters."""

    key: str
    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class RunTable:
    """What a run did to one table. Counts are None where it did not get that far."""

    run_id: int
    target: str
    by_image: bool
    inserted: int | None
    updated: int | None
    deleted: int | None

    @property
    def changed(self) -> int:
        """How many rows changed."""
        return sum(count or 0 for count in (self.inserted, self.updated, self.deleted))

    def counts(self) -> str:
        """``2 updated, 3 deleted``."""
        named = {"inserted": self.inserted, "updated": self.updated, "deleted": self.deleted}
        return ", ".join(f"{count} {name}" for name, count in named.items() if count) or "nothing changed"


def run_tables(connection: Connection, schema: str, run: int) -> list[RunTable]:
    """The tables of a run, in the order of the fix."""
    rows = connection.exec_driver_sql(
        verbatim(
            connection,
            "SELECT run_id, target_table, key_columns = '{}', rows_inserted, rows_updated, rows_deleted"
            f" FROM {qualified(schema, LEDGER_TABLES)} WHERE run_id = {run} ORDER BY position",
        )
    )
    return [RunTable(*row) for row in rows]


def last_run(connection: Connection, schema: str, fix: str) -> Run | None:
    """The newest run of a fix that the ledger in a schema knows."""
    row = connection.exec_driver_sql(
        verbatim(
            connection,
            "SELECT run_id, outcome, rows_expected, rows_found, rows_changed,"
            " rows_already, rows_skipped, rows_overwritten,"
            " already"
            f" FROM {qualified(schema, LEDGER)} WHERE fix = {text(fix)} ORDER BY run_id DESC LIMIT 1",
        )
    ).first()
    return Run(*row) if row else None


# Characters of a value that are fetched: a value may have a gigabyte.
_SHOWN = 100


def changes(connection: Connection, schema: str, audit: str, run: int, rows: int) -> list[ColumnChange]:
    """What a run changed, column by column, for its first rows.

    Args:
        connection: where to ask.
        schema: the schema of the audit table.
        audit: the audit table.
        run: the run.
        rows: how many rows at most.
    """
    view = f"{audit}{CHANGES_SUFFIX}"
    exists = connection.exec_driver_sql(
        verbatim(connection, f"SELECT to_regclass({text(qualified(schema, view))})")
    )
    if exists.scalar() is None:
        return []
    # An update's line is its before-image; only an insert has none. The numbers are looked up first: given as they are,
    # they are all that the view looks at, however many rows the run has.
    first = " UNION ALL ".join(
        f"(SELECT audit_id FROM {qualified(schema, audit)} WHERE audit_run_id = {run} AND audit_image = '{image}'"
        f" ORDER BY audit_id LIMIT {rows})"
        for image in ("before", "after")
    )
    shown = ", ".join(
        str(number) for number in connection.exec_driver_sql(verbatim(connection, first)).scalars()
    )
    lines = connection.exec_driver_sql(
        verbatim(
            connection,
            f"SELECT key, column_name, left(before, {_SHOWN}), left(after, {_SHOWN}) FROM {qualified(schema, view)}"
            f" WHERE audit_run_id = {run} AND audit_id = ANY (ARRAY[{shown}]::bigint[])"
            f" ORDER BY audit_id LIMIT {rows * 1600}",
        )
    )
    return [ColumnChange(*line) for line in lines]
