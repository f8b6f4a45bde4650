"""``datafixes revert``."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import click
from sqlalchemy.engine import Connection

from datafixes.audit.history import Run, history, known_fixes, open_fixes, run_of, the_schema
from datafixes.audit.later import LaterFix, later_fixes
from datafixes.audit.recalling import recall
from datafixes.cli.asking import schema_option
from datafixes.cli.main import DIFFERENT, FAILED, OK
from datafixes.cli.project_options import Where, pass_where, place_options
from datafixes.cli.writing import only_for, put
from datafixes.declaration.project_fixes import fix_named, nearest
from datafixes.declaration.recalled import RecalledFix
from datafixes.declaration.recorded import Fix
from datafixes.doctor.stamped import check_known
from datafixes.errors import Conflicts, DatafixError
from datafixes.project import Project
from datafixes.revisions.placing import Wanted, place_for
from datafixes.revisions.revert import chosen_keys, revert_revision
from datafixes.running.reverting import Revert


@click.command(epilog="Example: datafixes revert close_phantom_positions --rows 16,24")
@click.argument("fix", metavar="FIX|RUN")
@click.option(
    "--rows", metavar="KEYS", help="Only these rows: 16,24; a/b for a key of two columns; orders:1,2;lines:7."
)
@click.option(
    "--of", "undoes", metavar="REVISION", help="Undo the run of this revision (default: the run in force)."
)
@click.option(
    "--on-conflict", type=click.Choice(("skip", "overwrite")), help="What to do with rows changed since."
)
@click.option("--reason", default="", help="Why (default: the reason of the fix).")
@place_options
@schema_option
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where, fix: str, rows: str | None, undoes: str | None, on_conflict: str | None, reason: str,
    rev_id: str | None, head: str | None, version_path: str | None, schema: str | None,
) -> int:  # fmt: skip
    """Write a new revision that undoes one earlier FIX, as git revert does; fixes in between stay.

    FIX may also be the number of a RUN, and its file need not exist any more. The revert is tried first and rolled
    back. Exit code 3: a later fix or somebody else changed the same rows; nothing is written. To undo a revert, name
    its revision with --of.
    """
    project = where.project()
    project.heads()  # fails first if there is no readable project
    with project.reading() as connection:
        check_known(project, connection)
        ledger = the_schema(connection, schema)
        run = _run_to_undo(connection, ledger, fix, undoes)
        by_run = _by_run(history(connection, ledger, limit=1000, fix=run.fix), run)
        known = _known(project, connection, run, RecalledFix(run.fix, by_run, ledger))
        chosen = None if rows is None else chosen_keys(known, rows)
        later = later_fixes(connection, ledger, run, None if chosen is None else chosen.texts)
    if later and on_conflict is None:
        return _told_of_later(later)
    how = Revert(
        on_conflict or "refuse",
        "" if by_run else run.revision or "",
        None if chosen is None else chosen.values,
        by_run,
        ledger if isinstance(known, RecalledFix) else "",
        " ".join(reason.split()),
    )
    if refused := _try(project, known, how):
        return _told(refused)
    place = place_for(project.scripts, f"revert {run.fix}", Wanted(rev_id, head, version_path))
    put(project, place, revert_revision(place, known, how, only_for(project, ledger)))
    click.echo(str(place.path))
    what = "all rows can be restored" if on_conflict is None else f"rows in conflict: {on_conflict}"
    click.echo(f"The revert was tried: {what}. Next: datafixes plan", err=True)
    return OK


def _told_of_later(later: Sequence[LaterFix]) -> int:
    for one in later:
        keys = ", ".join(one.keys[:10]) + (", ..." if len(one.keys) > 10 else "")
        who = f"{one.fix} (revision {one.revision}, run {one.run_id})"
        click.echo(f"{who} changed the same rows later: {keys}", err=True)
    click.echo(
        f"FAILED: Revert that first: datafixes revert {later[0].fix} --of {later[0].revision}", err=True
    )
    return DIFFERENT


def _by_run(runs: Sequence[Run], run: Run) -> int | None:
    """The number of a run, if its revision does not identify it.

    Numbers of runs differ between databases; a revision means the same everywhere.
    """
    own = {one.run_id for one in runs if one.revision == run.revision}
    led_to = [
        one.run_id
        for one in runs
        if one.run_id in own and one.outcome not in ("started", "failed") and one.reverts_run not in own
    ]
    return None if run.revision is not None and led_to[:1] == [run.run_id] else run.run_id


def _known(project: Project, connection: Connection, run: Run, wanted: RecalledFix) -> Fix:
    """The declaration in a revision, or else what the ledger keeps of the fix."""
    with suppress(DatafixError):
        declared = fix_named(project.fixes(), run.fix).fix
        if wanted.run is None and declared.schema_of_audit == wanted.schema_of_audit:
            return declared
    return replace(recall(connection, replace(wanted, run=run.run_id)), run=wanted.run)


def _run_to_undo(connection: Connection, schema: str, fix: str, revision: str | None) -> Run:
    """The run in force, or the run of a revision, or the run with a number.

    Raises:
        DatafixError: there is none; the message says what reverted it, or which runs there are.
    """
    ended = history(connection, schema, limit=1000, fix=fix)
    runs = [run for run in ended if run.outcome in ("applied", "reverted")]
    if not ended and fix.isdecimal():
        return _run_of_number(connection, schema, fix, revision)
    if not runs:
        raise _unchanged(connection, schema, fix, ended)
    if revision is not None:
        of_it = [run for run in runs if run.revision == revision and run.reverted_by_run is None]
        if of_it:
            return of_it[0]
        known = ", ".join(sorted({run.revision or "(none)" for run in runs if run.reverted_by_run is None}))
        raise DatafixError(
            f"No run of {fix} by revision {revision} is in force. In force: {known or 'none'}."
        )
    for one in open_fixes(connection, schema):
        if one.fix == fix:
            return run_of(connection, schema, one.run_id)
    last = runs[0]
    raise DatafixError(
        f"The fix {fix} is not in force: run {last.run_id} (revision {last.revision}) reverted it.",
        hint=f"To undo that: datafixes revert {fix} --of {last.revision}",
    )


def _run_of_number(connection: Connection, schema: str, number: str, revision: str | None) -> Run:
    if revision is not None:
        raise DatafixError(f"--of {revision} goes with the name of a fix, not with run {number}.")
    run = run_of(connection, schema, int(number))
    if run.outcome not in ("applied", "reverted"):
        raise DatafixError(
            f"Run {number} changed nothing (outcome {run.outcome}), so there is nothing to undo."
        )
    return run


def _unchanged(connection: Connection, schema: str, fix: str, ended: Sequence[Run]) -> DatafixError:
    if ended:
        newest = ended[0]
        return DatafixError(
            f"No run of the fix {fix} changed rows in this database; the newest, run {newest.run_id}, ended as "
            f"{newest.outcome}.",
            hint=f"Look: datafixes show {newest.run_id}",
        )
    suggestion = nearest(fix, known_fixes(connection, schema))
    return DatafixError(
        f"The fix {fix} has not run in this database.{suggestion}", hint="Look: datafixes history"
    )


def _try(project: Project, fix: Fix, how: Revert) -> DatafixError | None:
    from datafixes.plan.trial import try_revert

    with project.connection() as connection:
        return try_revert(connection, fix, how, project.settings)


def _told(refused: DatafixError) -> int:
    conflicts = isinstance(refused, Conflicts)
    if refused.detail:
        click.echo(refused.detail.strip("\n"), err=True)
    suggestion = refused.hint.removeprefix("Nothing was changed.").strip()
    hint = "--on-conflict skip leaves such rows alone." if conflicts else suggestion
    click.echo(f"FAILED: {refused.message}. Nothing was written. {hint}".rstrip(), err=True)
    return DIFFERENT if conflicts else FAILED
