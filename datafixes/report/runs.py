"""Runs from the ledger and their images, for people and for programs."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from datafixes.audit.changes import Cell, Changes, Kind, Reread, Row, Value
from datafixes.audit.history import MASKED, REDACTED, ChangeOfRow, OpenFix, Run
from datafixes.audit.images import TableOfRun
from datafixes.audit.long_values import part_of
from datafixes.audit.progress import Progress
from datafixes.audit.stamped import StampedPast
from datafixes.audit.wording import counted, counts, moment
from datafixes.report.document import Document, Fact, Grid, Section
from datafixes.report.progress import section_of_running
from datafixes.report.stamped import section_of_stamped


def minute(time: dt.datetime | None) -> str | None:
    """A time in UTC, to the minute."""
    return None if time is None else time.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M")


def only_changed(changes: Changes) -> Changes:
    """The columns that changed in any row."""
    names = {
        cell.column for row in changes.rows for cell in row.cells if cell.changed and _says_something(cell)
    }

    def narrowed() -> Iterator[Row]:
        for row in changes.rows:
            yield replace(row, cells=tuple(cell for cell in row.cells if cell.column in names))

    rows = Reread(narrowed)
    return Changes(changes.table, rows if isinstance(changes.rows, Reread) else tuple(rows), changes.total)


def _says_something(cell: Any) -> bool:
    """NULLs of an inserted or deleted row are left out."""
    return any(
        side is not None and (side.text is not None or side.is_hidden) for side in (cell.before, cell.after)
    )


def document_of_history(
    runs: Sequence[Run], limit: int, stamped: Sequence[StampedPast] = (), running: Sequence[Progress] = ()
) -> Document:
    """All runs, newest first; those in batches that have not ended as far as they are."""
    states = {one.run_id: one.state for one in running}
    columns = ("run", "finished (UTC)", "fix", "rev", "outcome", "rows", "by")
    rows = tuple(
        (
            str(run.run_id), minute(run.finished_at), run.fix, run.revision, states.get(run.run_id) or _became(run),
            None if run.rows_changed is None else str(run.rows_changed), _who(run),
        )
        for run in runs
    )  # fmt: skip
    label = counted(len(runs), "run")
    return Document(
        "History",
        f"The newest {label} (--limit shows more)." if len(runs) == limit else f"{label}, newest first.",
        sections=(
            Section("Runs", grids=(Grid("", columns, rows, "no fix has run in this database"),)),
            *((section_of_running(running),) if running else ()),
            *((section_of_stamped(stamped),) if stamped else ()),
        ),
    )


def _became(run: Run) -> str:
    if run.declined_because:
        return f"declined: {run.declined_because}"
    label = (
        run.outcome if run.direction == "apply" or run.outcome == "reverted" else f"{run.outcome} (revert)"
    )
    return f"{label}, reverted by {run.reverted_by_run}" if run.reverted_by_run else label


def _who(run: Run | ChangeOfRow) -> str:
    """The role, the login role if it differs, and the application."""
    login = getattr(run, "logged_in_as", None)
    role = run.applied_by if login in (None, run.applied_by) else f"{login} as {run.applied_by}"
    return f"{role} ({run.application})" if run.application else role


def document_of_run(
    run: Run,
    tables: Sequence[tuple[TableOfRun, Changes]],
    database: str,
    running: Progress | None = None,
) -> Document:
    """One run, row by row; of one in batches that has not ended, what it has done so far."""
    outcome = run.outcome if running is None else f"{running.state}, {running.done}, {running.life}"
    is_bad = run.outcome == "failed" or (running is not None and not running.is_alive)
    facts = [
        Fact("Database", database),
        Fact("Fix", run.fix),
        Fact("Reason", run.reason or "", links=True),
        Fact("Revision", run.revision or "(none)"),
        Fact("Outcome", outcome, "bad" if is_bad else "good"),
        Fact("Run by", _who(run)),
        Fact("Started", moment(run.started_at), below=True),
        Fact("Finished", moment(run.finished_at) or "(not finished)"),
    ]
    facts += _more_of(run)
    total = counts(*(sum(getattr(t, kind) for t, _ in tables) for kind in ("inserted", "updated", "deleted")))
    sections = tuple(
        Section(
            table.target,
            facts=(
                Fact("Rows", counts(table.inserted, table.updated, table.deleted)),
                Fact("Copies", f"{table.audit}, audit_run_id {_whose(run)}", below=True),
            ),
            changes=(only_changed(changes),) if table.changed else (),
        )
        for table, changes in tables
    )
    verb = {"apply": "of", "revert": "reverting"}[run.direction]
    title = f"Run {run.run_id} {verb} {run.fix}"
    summary = run.outcome if running is None else running.state
    return Document(title, f"{summary}: {total}.", "", tuple(facts), sections)


def _whose(run: Run) -> str:
    if run.batches is None:
        return f"= {run.run_id}"
    return f"IN (SELECT run_id FROM datafix_run WHERE {run.run_id} IN (run_id, part_of))"


def _more_of(run: Run) -> Iterator[Fact]:
    more = {
        "Reverts": f"run {run.reverts_run}" if run.reverts_run else None,
        "Reverted by": f"run {run.reverted_by_run}" if run.reverted_by_run else None,
        "Rows chosen": run.rows_chosen,
        "Batches": f"{run.batches:,}" if run.batches and run.outcome != "running" else None,
        "Wished": run.wish,
        "Conflicts": f"{run.rows_skipped} skipped, {run.rows_overwritten} overwritten"
        if run.rows_skipped or run.rows_overwritten
        else None,
        "Already as wanted": run.already,
        "Declined because": run.declined_because,
        "Error": run.error,
        "Fingerprint": run.fingerprint,
        "Written by": f"datafixes {run.engine}" if run.engine else None,
    }
    late = ("Already as wanted", "Fingerprint", "Written by")
    return (Fact(name, text, below=name in late, links=True) for name, text in more.items() if text)


def document_of_row(table: str, key: str, changes: Sequence[ChangeOfRow]) -> Document:
    """Every change to a row."""
    runs = [list(of_run) for _, of_run in groupby(changes, lambda one: one.run_id)]
    sections = tuple(_of_row(table, key, of_run) for of_run in runs)
    return Document(
        f"Row {key} of {table}", f"{counted(len(runs), 'run')} changed it, newest first.", sections=sections
    )


def _of_row(table: str, key: str, changes: Sequence[ChangeOfRow]) -> Section:
    """The change of the row by one run."""
    one = changes[0]
    facts = (
        Fact("Finished", moment(one.finished_at)),
        Fact("Revision", one.revision or "(none)"),
        Fact("Run by", _who(one)),
        Fact("Reason", one.reason or "", links=True),
    )
    kind: Kind = (
        "inserted" if one.change == "inserted" else "deleted" if one.change == "deleted" else "updated"
    )
    cells = tuple(
        Cell(
            change.column_name,
            None if kind == "inserted" else _text(change.before, change.before_characters, change.start),
            None if kind == "deleted" else _text(change.after, change.after_characters, change.start),
        )
        for change in changes
    )
    verb = {"apply": "applied", "revert": "reverted"}[one.direction]
    return Section(
        f"Run {one.run_id} {verb} {one.fix}",
        facts=facts,
        changes=(Changes(table, (Row(key, kind, cells),), 1),),
    )


def _text(text: str | None, characters: int | None, start: int) -> Value:
    if text in (MASKED, REDACTED):
        return Value(None, masked=text == MASKED, redacted=text == REDACTED)
    return part_of(text, characters, start)


def run_as_json(run: Run | OpenFix | ChangeOfRow) -> dict[str, Any]:
    """A line of the ledger, with times in ISO 8601."""
    return {
        name: value.isoformat()
        if isinstance(value, dt.datetime)
        else list(value)
        if name == "tables"
        else value
        for name, value in vars(run).items()
    }


def changes_as_json(table: TableOfRun, changes: Changes) -> dict[str, Any]:
    """The rows of a table, each with the columns that changed."""
    return {
        "table": table.target,
        "audit_table": table.audit,
        "key": list(table.key),
        "inserted": table.inserted,
        "updated": table.updated,
        "deleted": table.deleted,
        "inexact": list(table.inexact),
        "rows_total": changes.total,
        "rows": (
            {
                "key": row.key,
                **({"name": row.name} if row.name else {}),
                "kind": row.kind,
                "columns": [
                    {"name": cell.column, "before": _value(cell.before), "after": _value(cell.after)}
                    for cell in row.cells
                    if cell.changed and _says_something(cell)
                ],
            }
            for row in changes.rows
        ),
    }


def _value(value: Value | None) -> Any:
    """None if the row does not exist; text null is NULL."""
    if value is None:
        return None
    if value.is_hidden:
        return {"masked": True} if value.masked else {"redacted": True}
    part = {} if value.characters is None else {"characters": value.characters, "start": value.start}
    return {"text": value.text} | part
