"""Which fixes changed the same rows later: they stand on what an earlier one left, and are reverted first."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import HISTORY, RunOfHistory, ask
from datafixes.audit.images import key_text, tables_of_run
from datafixes.script.literal import qualified


@dataclass(frozen=True)
class LaterFix:
    """A fix that changed rows after another one did, and is in force."""

    fix: str
    revision: str | None
    run_id: int
    keys: tuple[str, ...]


def later_fixes(
    connection: Connection, schema: str, run: RunOfHistory, keys: list[str] | None
) -> list[LaterFix]:
    """The fixes in force that changed the same rows after a run did, newest first.

    Args:
        connection: where to ask.
        schema: the schema of the ledger.
        run: the run.
        keys: only these rows, by their keys as text; None: all that the run changed.
    """
    found: dict[int, tuple[str, str | None, list[str]]] = {}
    for table in tables_of_run(connection, schema, run.run_id):
        if table.key:
            for number, fix, revision, key in ask(
                connection, _same_rows(schema, run.run_id, table.audit, table.key)
            ):
                if keys is None or key in keys:
                    found.setdefault(number, (fix, revision, []))[2].append(key)
    return [
        LaterFix(fix, revision, number, tuple(keys))
        for number, (fix, revision, keys) in sorted(found.items(), reverse=True)
    ]


def _same_rows(schema: str, run: int, audit: str, key: tuple[str, ...]) -> str:
    return (
        "SELECT DISTINCT later.audit_run_id, h.fix, h.revision, "
        f"{key_text(key, 'later')} FROM {audit} AS mine JOIN {audit} AS later ON {key_text(key, 'mine')} = {key_text(key, 'later')}"
        f" JOIN {qualified(schema, HISTORY)} AS h ON h.run_id = later.audit_run_id"
        f" WHERE mine.audit_run_id = {run} AND later.audit_run_id > {run} AND h.reverted_by_run IS NULL"
        f" AND h.outcome IN ('applied', 'reverted') AND (h.reverts_run IS NULL OR h.reverts_run < {run}) ORDER BY 1, 4 LIMIT 1000"
    )
