"""The newest run of a fix, as the ledger has it."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.script.literal import qualified, text
from datafixes.script.parameters import verbatim
from datafixes.script.tables import LEDGER, NEWEST_FIRST


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
    declined_because: str | None
    direction: str


def last_run(connection: Connection, schema: str, fix: str) -> Run | None:
    """The newest run of a fix that the ledger in a schema knows."""
    row = connection.exec_driver_sql(
        verbatim(
            connection,
            "SELECT run_id, outcome, rows_expected, rows_found, rows_changed,"
            " rows_already, rows_skipped, rows_overwritten,"
            " already, declined_because, direction"
            f" FROM {qualified(schema, LEDGER)} WHERE fix = {text(fix)} ORDER BY {NEWEST_FIRST} LIMIT 1",
        )
    ).first()
    return Run(*row) if row else None
