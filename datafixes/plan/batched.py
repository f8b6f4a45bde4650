"""Makes one batch of a fix in a plan's transaction, and reckons from it what all of them will take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask, last_run
from datafixes.audit.reversal import compare_with_revert
from datafixes.declaration.fix import DataFix
from datafixes.errors import DatafixError
from datafixes.plan.planned import PlannedBatches, Reversal
from datafixes.running.execution import Attempts, execute
from datafixes.running.migration import BatchTrial
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER, RANGES
from datafixes.script.trial import EXPLAINED, WAL

_OF_RUN = """
SELECT r.rows_found, r.declaration -> 'batches', g.ranges, g.done
  FROM {ledger} AS r
       CROSS JOIN LATERAL (SELECT count(*) AS ranges, coalesce(sum(g.rows_changed), 0)::bigint AS done
                             FROM {ranges} AS g WHERE g.run_id = r.run_id) AS g
 WHERE r.run_id = {run}
"""
_OF_PART = """
SELECT run_id, rows_changed, extract(epoch FROM finished_at - started_at)::float8
  FROM {ledger} WHERE part_of = {run} AND run_id > {before} AND rows_changed > 0 ORDER BY run_id LIMIT 1
"""
_TUPLE = 24 + 4
"""Bytes of a row's header and of its pointer in the page."""
_MANY = 2
"""So many times the rows of a batch may be read for it, before that is a warning."""


@dataclass(frozen=True)
class TriedBatch:
    """One batch that was made.

    Attributes:
        run: the number of the run that all batches belong to.
        part: its own.
        batches: what it says about all of them.
        reversal: whether it could be reverted.
    """

    run: int
    part: int
    batches: PlannedBatches
    reversal: Reversal


def try_batch(
    connection: Connection, fix: DataFix, trial: BatchTrial, seen: Callable[[TriedBatch], None]
) -> bool:
    """Make one batch, call ``seen`` before it is rolled back, and say whether there was one.

    Where the rows fit into one batch, or all batches are done, there is none.

    Raises:
        DatafixError: it is refused.
    """
    schema, label = fix.schema_of_audit, f"datafix {fix.name}"
    with _undone(connection):
        execute(connection, trial.opening, label, Attempts(1, 0))
        run = last_run(connection, schema, fix.name)
        if run is None or run.outcome != "running":
            return False
        how = _how_it_reads(connection, trial, label)
        known = _batches(connection, fix, run.run_id)
        [(before,)] = ask(connection, f"SELECT max(run_id) FROM {qualified(schema, LEDGER)}")
        execute(connection, trial.batch, label, Attempts(1, 0))
        parts = ask(
            connection, _OF_PART.format(ledger=qualified(schema, LEDGER), run=run.run_id, before=before)
        )
        if not parts:
            return False
        [(part, tried, took)] = parts
        measured = _reckoned(connection, fix, part, replace(known, tried=tried, took=took))
        told = _told(how, measured) if how else measured
        seen(TriedBatch(run.run_id, part, told, _reverted(connection, fix, trial, part)))
        return True


@contextmanager
def _undone(connection: Connection) -> Iterator[None]:
    """Roll back whatever is done inside; so the locks are released, too."""
    # Not begin_nested(): a script that is refused leaves a savepoint of its own inside.
    connection.exec_driver_sql("SAVEPOINT datafixes_batch")
    try:
        yield
    finally:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT datafixes_batch")
        connection.exec_driver_sql("RELEASE SAVEPOINT datafixes_batch")


def _how_it_reads(connection: Connection, trial: BatchTrial, label: str) -> dict[str, Any] | None:
    with _undone(connection):
        execute(connection, trial.reading, label, Attempts(1, 0))
        found = _setting(connection, EXPLAINED)
    return dict(json.loads(found)[0]["Plan"]) if found else None


def _setting(connection: Connection, name: str) -> str:
    [(value,)] = ask(connection, f"SELECT current_setting({text(name)}, true)")
    return value or ""


def _batches(connection: Connection, fix: DataFix, run: int) -> PlannedBatches:
    schema = fix.schema_of_audit
    [(rows, said, ranges, done)] = ask(
        connection,
        _OF_RUN.format(ledger=qualified(schema, LEDGER), ranges=qualified(schema, RANGES), run=run),
    )
    first, last = ("/".join(map(str, key or ())) for key in said.get("bounds") or ((), ()))
    return PlannedBatches(
        rows, done, said["rows"], ranges, said["workers"], (first, last), 0, 0.0, float(said["pause"]), 0, 0
    )


def _reckoned(connection: Connection, fix: DataFix, part: int, tried: PlannedBatches) -> PlannedBatches:
    """All batches, from the one that was made."""
    audit = qualified(fix.schema_of_audit, fix.audit)
    [(copies,)] = ask(
        connection,
        f"SELECT coalesce(sum(pg_column_size(a.*) + {_TUPLE}), 0)::bigint FROM {audit} AS a"
        f" WHERE audit_run_id = {part}",
    )
    share = tried.left / tried.tried
    pauses = tried.seconds * tried.count
    return replace(
        tried,
        seconds=(tried.took * share + pauses) / tried.workers,
        wal=round(int(_setting(connection, WAL) or 0) * share),
        copies=round(copies * share),
    )


def _told(how: dict[str, Any], tried: PlannedBatches) -> PlannedBatches:
    nodes = list(_nodes(how))
    scans = [node for node in nodes if "Relation Name" in node]
    words = "; ".join(_words(node) for node in scans)
    found = int(how["Actual Rows"])
    warnings = []
    for node in nodes:
        below = sum(_rows(one) for one in node.get("Plans", ()))
        if "Sort" in node["Node Type"] and below > _MANY * max(found, 1):
            warnings.append(
                f"each batch sorts {below:,} rows for {found:,}: no index of the key gives them in order, or its "
                "statistics are old (ANALYZE)"
            )
    left_out = sum(_rows(node, "Rows Removed by Filter") for node in scans)
    if left_out > (_MANY - 1) * max(found, 1):
        warnings.append(
            f"each batch reads {left_out + found:,} rows for {found:,}: the condition leaves out the others; an index"
            " on the key WHERE the condition holds would find them"
        )
    return replace(tried, reading=words, warnings=tuple(warnings))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


def _rows(node: dict[str, Any], what: str = "Actual Rows") -> int:
    return round(float(node.get(what, 0)) * float(node.get("Actual Loops", 1)))


def _words(node: dict[str, Any]) -> str:
    index = f" by {node['Index Name']}" if "Index Name" in node else ""
    return f"{node['Node Type']} of {node['Relation Name']}{index}, {_rows(node):,} rows"


def _reverted(connection: Connection, fix: DataFix, trial: BatchTrial, part: int) -> Reversal:
    try:
        with _undone(connection):
            execute(connection, trial.revert(part), f"datafix {fix.name}", Attempts(1, 0))
            proven, words = compare_with_revert(connection, fix, part, "the revert of one batch")
    except DatafixError as refused:
        return Reversal(False, refused.one_line(), refused.detail)
    return Reversal(proven, words)
