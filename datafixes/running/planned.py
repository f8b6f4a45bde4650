"""Whether the run that has just ended is as planned, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datafixes.audit.digest import digest_as_before, digest_of_run, mark_of
from datafixes.audit.history import last_run
from datafixes.declaration.project_fixes import fixes_of
from datafixes.declaration.reloaded import Reloading
from datafixes.errors import NotAsPlanned
from datafixes.running.migration import revision_running

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from datafixes.declaration.recorded import Fix


def check_plan(alembic: MigrationContext, connection: Connection, fix: Fix, planned: frozenset[str]) -> None:
    """Compare the run that has just ended with the plan.

    Raises:
        NotAsPlanned: it is not one of the planned runs.
    """
    run = last_run(connection, fix.schema_of_audit, fix.name)
    found = digest_of_run(connection, fix, run.run_id) if run is not None else "(no run)"
    if found in planned or (run is not None and digest_as_before(connection, fix, run.run_id) in planned):
        return
    words = f"digest {found} now, {', '.join(sorted(planned))} in the plan"
    if mark_of(fix.fingerprint) not in {mark_of(one) for one in planned} and _others(alembic, planned):
        raise _another_declaration(alembic, fix, words)
    raise NotAsPlanned(
        f"datafix {fix.name}: the rows are not those that were planned: {words}",
        hint="Nothing was changed. Plan again: datafixes plan",
    )


def check_plan_of_batches(
    alembic: MigrationContext, connection: Connection, fix: Fix, planned: frozenset[str]
) -> None:
    """Compare a run in batches with the plan, before the first batch; a fix without such a run when it has ended.

    Raises:
        NotAsPlanned: it is not one of the planned runs.
    """
    run = last_run(connection, fix.schema_of_audit, fix.name)
    if planned and run is not None and (run.outcome, run.direction) == ("running", "apply"):
        check_plan(alembic, connection, fix, planned)


def _others(alembic: MigrationContext, planned: frozenset[str]) -> set[str]:
    """The runs of a plan that no present declaration accounts for."""
    declared = [] if alembic.script is None else fixes_of(alembic.script)
    return {mark_of(one) for one in planned} - {mark_of(one.fix.fingerprint) for one in declared}


def _another_declaration(alembic: MigrationContext, fix: Fix, words: str) -> NotAsPlanned:
    again = _at_the_next_load(alembic, fix)
    if again not in ("", fix.fingerprint):
        return NotAsPlanned(
            f"datafix {fix.name}: the declaration differs at each load (fingerprint {fix.fingerprint[:12]}, "
            f"then {again[:12]}), so no run of it can match the plan: {words}",
            hint="Nothing was changed. Write the values that it reads at load time into the file: datafixes check",
        )
    return NotAsPlanned(
        f"datafix {fix.name}: the declaration (fingerprint {fix.fingerprint[:12]}) is not the one that was planned: "
        f"the revision was edited, or what it reads has changed (the date, the environment, another file): {words}",
        hint="Nothing was changed. Plan again: datafixes plan",
    )


def _at_the_next_load(alembic: MigrationContext, fix: Fix) -> str:
    revision = revision_running()[0]
    if alembic.script is None or revision is None:
        return ""
    path = str(alembic.script.get_revision(revision).path)
    return Reloading.begin([path]).fingerprints().get(path, {}).get(fix.name, "")
