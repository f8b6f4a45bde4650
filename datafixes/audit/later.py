"""Finds later fixes that changed the same rows: they must be reverted first."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import HISTORY, Run, ask
from datafixes.audit.images import TableOfRun, key_text, tables_of_run
from datafixes.audit.parts import knows_batches
from datafixes.script.literal import qualified
from datafixes.script.tables import LEDGER


@dataclass(frozen=True)
class LaterFix:
    """A fix in force that changed the same rows after another one."""

    fix: str
    revision: str | None
    run_id: int
    keys: tuple[str, ...]


def later_fixes(connection: Connection, schema: str, run: Run, keys: list[str] | None) -> list[LaterFix]:
    """The fixes in force that changed the same rows after a run, newest first.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        run: the run.
        keys: only these rows, by their keys as text; None: all that the run changed.
    """
    found: dict[int, LaterFix] = {}
    for table in tables_of_run(connection, schema, run.run_id):
        if table.key:
            for number, fix, revision, key, *_ in ask(
                connection, _same_rows(schema, run, table, knows_batches(connection, schema))
            ):
                if keys is None or key in keys:
                    known = found[number].keys if number in found else ()
                    found[number] = LaterFix(fix, revision, number, (*known, key))
    return list(found.values())


def _same_rows(schema: str, run: Run, table: TableOfRun, has_batches: bool) -> str:
    audit, key = table.audit, table.key
    of_batch = "coalesce(part.part_of, part.run_id)" if has_batches else "part.run_id"
    runs, now = qualified(schema, HISTORY), f"(timestamptz '{run.started_at.isoformat()}', {run.run_id})"
    return (
        f"SELECT DISTINCT h.run_id, h.fix, h.revision, {key_text(key, 'later')}, h.started_at"
        f" FROM {audit} AS mine JOIN {audit} AS later ON {key_text(key, 'mine')} = {key_text(key, 'later')}"
        f" JOIN {qualified(schema, LEDGER)} AS part ON part.run_id = later.audit_run_id JOIN {runs} AS h ON h.run_id = {of_batch}"
        f" WHERE {table.of_run.replace('{at}', 'mine.')} AND (h.started_at, h.run_id) > {now} AND h.reverted_by_run IS NULL"
        " AND h.outcome IN ('applied', 'reverted') AND (h.reverts_run IS NULL OR EXISTS ("
        f"SELECT FROM {runs} AS back WHERE back.run_id = h.reverts_run AND (back.started_at, back.run_id) < {now}))"
        " ORDER BY 5 DESC, 1 DESC, 4 LIMIT 1000"
    )
