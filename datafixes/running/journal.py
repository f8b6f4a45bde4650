"""Records a run for people: lines in the pipeline's log, and a line in the ledger even if it failed."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from datafixes import __version__
from datafixes.audit.changes import Cell, Row, Value, View
from datafixes.audit.history import Run, last_run
from datafixes.audit.images import changes_of_run, read_images, tables_of_run
from datafixes.audit.naming import names_of_rows
from datafixes.audit.redaction import left_out
from datafixes.audit.sequences import behind_of_run
from datafixes.database.second_connection import SecondConnection
from datafixes.declaration.fix import DataFix, Update
from datafixes.declaration.recorded import Fix
from datafixes.declaration.table import Table
from datafixes.errors import DatafixError
from datafixes.script.literal import body, qualified, text
from datafixes.script.tables import LEDGER

_logger = logging.getLogger("alembic.datafixes")

# The run that would have upgraded a ledger of 0.1 was rolled back, so the ledger may lack new columns. A line under an
# old number would look like an old run. A role without rights on the sequence cannot compare its numbers.
_WRITE = """
DECLARE
    ledger   pg_catalog.regclass := pg_catalog.format('%I.%I', {schema}, {table});
    sequence pg_catalog.regclass := pg_catalog.pg_get_serial_sequence(CAST(ledger AS pg_catalog.text), 'run_id');
    next     pg_catalog.int8;
BEGIN
    IF pg_catalog.has_sequence_privilege(sequence, 'SELECT') THEN
        EXECUTE pg_catalog.format('SELECT last_value + CAST(is_called AS pg_catalog.int4) FROM %s', sequence) INTO next;
        IF EXISTS (SELECT FROM {ledger} AS r WHERE r.run_id >= next) THEN
            RAISE EXCEPTION USING ERRCODE = 'DF020', MESSAGE = pg_catalog.format(
                'it would get an old number: %s would hand out %s next. See: datafixes doctor', sequence, next);
        END IF;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = ledger
                  AND a.attname = 'engine' AND a.attnum > 0) THEN
        INSERT INTO {ledger} ({columns}, engine) VALUES ({values}, {engine});
    ELSE
        INSERT INTO {ledger} ({columns}) VALUES ({values});
    END IF;
END
"""
_SHOWN_ROWS = 20
_SHOWN_TEXT = 60
_WAIT_FOR_LEDGER = 2.0  # in seconds: the failed transaction may still hold its locks


@dataclass(frozen=True)
class Attempt:
    """A run that failed: its revision, its direction, and who ran it."""

    revision: str | None
    direction: str
    application: str


def tell(connection: Connection, fix: Fix, masks: tuple[str, ...] = ()) -> None:
    """Log the run that has just ended: counts, up to twenty rows of each table, sequences that are behind."""
    if _logger.isEnabledFor(logging.INFO):
        _tell_rows(connection, fix, masks)
    if _logger.isEnabledFor(logging.WARNING):
        _tell_sequences(connection, fix, masks)


def _tell_sequences(connection: Connection, fix: Fix, masks: tuple[str, ...]) -> None:
    try:
        with read_images(connection):
            run = last_run(connection, fix.schema_of_audit, fix.name)
            if run is None:
                return
            behind = [
                one
                for table in tables_of_run(connection, fix.schema_of_audit, run.run_id)
                for one in behind_of_run(connection, fix, run.run_id, table, View(masks=masks))
            ]
    except (SQLAlchemyError, DatafixError):
        return  # without the right to read there is nothing to log; the run itself is unaffected
    for one in behind:
        _logger.warning("datafix %s: %s", fix.name, one.words)


def _tell_rows(connection: Connection, fix: Fix, masks: tuple[str, ...]) -> None:
    try:
        # An error in showing the run (no right to read the view, a time-out) must not undo the run.
        with connection.begin_nested():
            run = last_run(connection, fix.schema_of_audit, fix.name)
            if run is None:
                return
            tables = tables_of_run(connection, fix.schema_of_audit, run.run_id)
            view = View(_SHOWN_ROWS, _SHOWN_TEXT + 1, masks)
            rows = [
                tuple(changes_of_run(connection, table, view).rows) if table.key else () for table in tables
            ]
            redacted = left_out(connection, fix.schema_of_audit, run.run_id)
    except (SQLAlchemyError, DatafixError) as error:
        _logger.warning("datafix %s: done, but its changes cannot be shown: %s", fix.name, _words(error))
        return
    _say(run, fix)
    for words in redacted:
        _logger.info("  not restored, because redacted: %s", words)
    for table, counted, changed in zip(fix.tables[: len(tables)], tables, rows, strict=True):
        indent = "  "
        if len(fix.tables) > 1:
            _logger.info("  %s: %s", counted.target, counted.counts())
            indent = "    "
        if not counted.key and counted.changed:
            _logger.info(
                "%s%s has no key: its rows are identified by their whole image", indent, counted.target
            )
        for line in row_lines(changed, fix, table, masks):
            _logger.info("%s%s", indent, line)
        if counted.changed > _SHOWN_ROWS:
            more = counted.changed - _SHOWN_ROWS
            _logger.info("%s... and %d more rows: %s, run %d", indent, more, table.audit, run.run_id)


def _say(run: Run, fix: Fix) -> None:
    _logger.info("datafix %s: %s", fix.name, _counts(run))
    if run.already:
        _logger.info("  already as wanted, left alone: %s", run.already)


def _counts(run: Run) -> str:
    """``applied: 7 found, 7 changed, 0 already as wanted (run 3)``."""
    if run.outcome == "declined":
        return f"declined, so nothing was changed (run {run.run_id}): {run.declined_because}"
    if run.outcome == "not_applicable" and run.direction == "revert":
        return f"nothing to restore: the run that it reverts changed nothing (run {run.run_id})"
    if run.outcome == "not_applicable":
        return f"not applicable in this database, nothing was changed (run {run.run_id})"
    named = {
        "found": run.rows_found,
        "changed": run.rows_changed,
        "already as wanted": run.rows_already,
        "skipped": run.rows_skipped or None,
        "overwritten": run.rows_overwritten or None,
    }
    counts = ", ".join(f"{count} {name}" for name, count in named.items() if count is not None)
    return f"{run.outcome}: {counts} (run {run.run_id})"


def row_lines(rows: Sequence[Row], fix: Fix, table: Table, masks: tuple[str, ...] = ()) -> Iterator[str]:
    """One line for each changed row: ``16 QCOM: status open → closed, exit_price NULL → 148.0000``."""
    called = names_of_rows(fix, table, View(masks=masks))
    # The columns that the author set come first, in the author's order; then those that triggers set.
    written = fix.change.set if isinstance(fix, DataFix) and isinstance(fix.change, Update) else {}
    order = {name: place for place, name in enumerate(written)}
    for row in rows:
        name = _plain(f"{row.key} {called[row.key]}" if row.key in called else row.key)
        told = (cell for cell in row.cells if cell.changed and _says_something(cell))
        in_order = sorted(told, key=lambda cell: order.get(cell.column, len(order)))
        values = (f"{c.column} {_short(c.before)} → {_short(c.after)}" for c in in_order)
        yield f"{name}: {', '.join(values)}"


def _says_something(cell: Cell) -> bool:
    """NULLs of an inserted row are left out."""
    return (
        cell.before is not None or cell.after is None or cell.after.text is not None or cell.after.is_hidden
    )


def _short(value: Value | None) -> str:
    if value is not None and value.is_hidden:
        return "(masked)" if value.masked else "(redacted)"
    if value is None or value.text is None:
        return "NULL"
    plain, before = _plain(value.text[: _SHOWN_TEXT + 1]), "…" if value.start else ""
    return f"{before}{plain[:_SHOWN_TEXT]}…" if len(plain) > _SHOWN_TEXT else f"{before}{plain}" or "''"


def _plain(text: str) -> str:
    """A text as one line, without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def record_failure(
    connection: Connection, fix: Fix, attempt: Attempt, error: DatafixError, *, is_free: bool
) -> None:
    """Write a failed run into the ledger, in a transaction of its own: the failed one was rolled back.

    If that is impossible (read-only, unreachable, no ledger), only the log and the gap in the ledger's numbers show
    it. A second connection is used only if the caller owns the transaction on the first.
    """
    if not fix.schema_of_audit:  # a revert whose ledger was not found
        return
    ledger = qualified(fix.schema_of_audit, LEDGER)
    statement = _line(ledger, fix, attempt, error)
    try:
        if is_free:
            _commit(connection, statement)
        else:
            second = SecondConnection(connection.engine, lambda own: _commit(own, statement))
            second.start()
            is_written = second.wait(_WAIT_FOR_LEDGER)
            second.end(0)
            if not is_written:
                raise second.error or DatafixError("no second connection was available at once")
    except Exception as unrecorded:
        _logger.warning(
            "datafix %s: the failure is not in the ledger %s: %s", fix.name, ledger, _words(unrecorded)
        )


def _line(ledger: str, fix: Fix, attempt: Attempt, error: DatafixError) -> str:
    """The statement that writes the line."""
    values = {
        "fix": fix.name,
        "revision": attempt.revision,
        "direction": attempt.direction,
        "outcome": "failed",
        "reason": fix.reason,
        "application": attempt.application or None,
        "fingerprint": fix.fingerprint,
        "error": error.message,
    }
    listed = ["NULL" if value is None else text(value) for value in values.values()]
    expected = "NULL" if fix.rows_expected is None else str(fix.rows_expected)
    block = _WRITE.format(
        ledger=ledger,
        schema=text(fix.schema_of_audit),
        table=text(LEDGER),
        columns=", ".join([*values, "rows_expected", "rows_changed", "finished_at"]),
        values=", ".join([*listed, expected, "0", "pg_catalog.clock_timestamp()"]),
        engine=text(__version__),
    )
    return f"DO {body(block, 'failed')}"


def _commit(connection: Connection, statement: str) -> None:
    """On the driver's own connection: SQLAlchemy's refuses every statement after a refusal."""
    driver = connection.connection
    try:
        cursor = driver.cursor()
        for one in ("SET LOCAL lock_timeout = '2s'", "SET LOCAL statement_timeout = '5s'", statement):
            cursor.execute(one)
        driver.commit()
    except BaseException:
        driver.rollback()
        raise


def _words(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())
