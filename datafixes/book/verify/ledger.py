"""Whether the fix is in force, and how many rows it changed."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import (
    OpenFix,
    Run,
    history,
    known_fixes,
    ledger_schemas,
    open_fixes,
    the_schema,
)
from datafixes.audit.wording import counted, moment
from datafixes.declaration.project_fixes import nearest
from datafixes.report.document import Fact, bad, good

NAME = "Ledger"

# A failed run in one transaction leaves nothing; one in batches leaves these.
_UNFINISHED = ("started", "failed")
_NOTHING_TO_DO = {
    "not_applicable": "not applicable {}: this database has none of its rows",
    "already": "all its rows were as wanted already {}",
}
# The maximum number of partial reverts of a fix; the report needs two runs.
_RUNS = 1000


@dataclass(frozen=True)
class Expected:
    """The expected contents of the ledger.

    Attributes:
        fix: the fix; by default the newest one in force.
        rows: the expected number of changed rows, without those reverted since; None: any.
        schema: the schema of the ledger, if there are several.
    """

    fix: str | None = None
    rows: int | None = None
    schema: str | None = None


@dataclass(frozen=True)
class Entry:
    """The relevant contents of the ledger.

    Attributes:
        in_force: the fixes in force, newest first.
        runs: the runs of the expected fix, newest first.
        known: the names of all fixes.
        newest: the newest run of all, if no fix was given.
    """

    in_force: Sequence[OpenFix]
    runs: Sequence[Run] = ()
    known: Sequence[str] = ()
    newest: Run | None = None


def read_entry(connection: Connection, expected: Expected) -> Entry | None:
    """Read the ledger; None if there is none.

    Raises:
        DatafixError: it cannot be read, or there are several and none was given.
    """
    if not ledger_schemas(connection):
        return None
    schema = the_schema(connection, expected.schema)
    in_force = open_fixes(connection, schema)
    fix = expected.fix or (in_force[0].fix if in_force else None)
    runs = history(connection, schema, limit=_RUNS, fix=fix) if fix else []
    if expected.fix:
        return Entry(in_force, runs, () if runs else known_fixes(connection, schema))
    return Entry(in_force, runs, newest=next(iter(history(connection, schema, limit=1)), None))


def check_entry(entry: Entry | None, expected: Expected) -> Fact:
    """Whether the ledger is as expected."""
    if entry is None:
        evidence = "this database has no ledger (datafix_run): no fix has run in it"
        return bad(NAME, evidence, "Check which database is used: datafixes where")
    if entry.newest is not None and (hidden := _hidden_by(entry.newest, entry.in_force)):
        return hidden
    if not entry.runs:
        if expected.fix:
            return bad(
                NAME, f"it has no run of a fix {expected.fix}.{nearest(expected.fix, list(entry.known))}"
            )
        return bad(NAME, "no fix is in force", "More: datafixes history")
    fix = entry.runs[0].fix
    here = next((one for one in entry.in_force if one.fix == fix), None)
    if here is None:
        return _not_in_force(entry.runs[0], expected)
    run = next((one for one in entry.runs if one.run_id == here.run_id), None)
    left = _left(entry.runs, here.run_id, here.rows_changed)
    when = "" if here.finished_at is None else f", {moment(here.finished_at)}"
    changed = f"{counted(here.rows_changed or 0, 'row')} changed{_more(run, here, left)}"
    evidence = f"{fix}: applied, {changed} (run {here.run_id}{when})"
    if left <= 0 < (here.rows_changed or 0) and expected.rows is None:
        return bad(NAME, f"{evidence}: none of its changes are in force", "More: datafixes history")
    if expected.rows is not None and left != expected.rows:
        return bad(NAME, f"{evidence}; {expected.rows} were expected")
    return good(NAME, evidence)


def _hidden_by(run: Run, in_force: Sequence[OpenFix]) -> Fact | None:
    """The newest run did not succeed, or is of another fix: an older fix in force proves nothing."""
    words = f"the newest run, {run.run_id}, is {run.fix}: {run.outcome}"
    if run.outcome in _UNFINISHED:
        words += ", not finished"
        if run.error:
            words += f": {' '.join(run.error.split())}"
        return bad(NAME, words, f"More: datafixes show {run.run_id}; to check another fix: --fix NAME")
    if in_force and in_force[0].fix == run.fix:
        return None
    older = f"{in_force[0].fix}, which is in force, is older" if in_force else "no fix is in force"
    return bad(NAME, f"{words}; {older}", "Name the expected fix: --fix NAME")


def _not_in_force(run: Run, expected: Expected) -> Fact:
    """The last run of the fix left nothing in force."""
    evidence = f"{run.fix}: {run.outcome} by run {run.run_id}, so it is not in force"
    if run.outcome in _NOTHING_TO_DO and run.direction == "apply":
        evidence = f"{run.fix}: {_NOTHING_TO_DO[run.outcome].format(f'(run {run.run_id})')}"
        if expected.rows == 0:
            return good(NAME, evidence)
    if run.error:
        evidence += f": {' '.join(run.error.split())}"
    return bad(NAME, evidence, f"More: datafixes show {run.run_id}")


def _left(runs: Sequence[Run], run_id: int, changed: int | None) -> int:
    """The number of rows of a run that are not reverted; a partial revert may be reverted too."""
    parts = [one for one in runs if one.reverts_run == run_id and one.reverted_by_run is None]
    given_back = (_left(runs, one.run_id, one.rows_changed) for one in parts if one.outcome == "reverted")
    return (changed or 0) - sum(given_back)


def _more(run: Run | None, here: OpenFix, left: int) -> str:
    parts = []
    if run is not None and run.rows_expected is not None:
        parts.append(f"{run.rows_expected} expected")
    if run is not None and run.rows_already:
        parts.append(f"{run.rows_already} already as wanted")
    given_back = (here.rows_changed or 0) - left
    if given_back or here.rows_reverted:
        which = f" ({here.rows_reverted})" if here.rows_reverted else ""
        parts.append(f"{given_back} reverted since{which}, so {left} left")
    return "".join(f", {part}" for part in parts)


def finished_at(entry: Entry | None) -> dt.datetime | None:
    """When the fix in force finished."""
    fix = entry.runs[0].fix if entry and entry.runs else None
    return next((one.finished_at for one in entry.in_force if one.fix == fix), None) if entry else None
