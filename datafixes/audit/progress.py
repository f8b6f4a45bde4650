"""How far a fix in batches is that has not ended, and who works on it."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.audit.wording import counted, span
from datafixes.errors import DatafixError
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER, NEWEST_FIRST, RANGES

_WINDOW = 60
"""The speed is that of the batches of so many seconds."""
_BAR = 20
_A_MOMENT = 15.0
"""Between two batches no worker is seen. After so many seconds without one, nobody works."""

# Ledgers that know of batches, and that this role may read.
_LEDGERS = f"""
SELECT n.nspname
  FROM pg_catalog.pg_class AS r JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
  JOIN pg_catalog.pg_class AS g ON g.relnamespace = n.oid AND g.relname = {text(RANGES)}
 WHERE r.relname = {text(LEDGER)} AND r.relkind = 'r'
   AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(r.oid, 'SELECT')
   AND pg_catalog.has_table_privilege(g.oid, 'SELECT'){{beside}}
 ORDER BY n.nspname
"""
# A schema with a version table of its own, as each tenant has one, is migrated by itself.
_BESIDE = """
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS v WHERE v.relnamespace = n.oid AND v.relname = {name}
                      AND v.oid IS DISTINCT FROM pg_catalog.to_regclass({table}))"""

# Who works on it: a batch locks the row of its range, and with it the table, until it ends; and its transaction has the
# name of the fix. Without pg_read_all_stats, names of other roles cannot be seen; locks can.
_PROGRESS = """
SELECT r.run_id, r.fix, r.revision, r.direction, r.wish, coalesce(r.rows_found, r.rows_expected, 0),
       coalesce(g.rows_changed, 0), coalesce(g.batches, 0), coalesce((r.declaration -> 'batches' -> 'rows')::bigint, 0),
       coalesce((r.declaration -> 'batches' -> 'pause')::float8, 0), g.remaining, r.applied_by, r.application, r.started_at,
       (extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(g.beat, r.started_at)))::float8,
       ARRAY(SELECT l.pid FROM pg_catalog.pg_locks AS l
              WHERE l.locktype = 'relation' AND l.relation = pg_catalog.to_regclass({ranges_name}) AND l.granted
                AND l.mode = 'RowShareLock' AND l.pid <> pg_catalog.pg_backend_pid()
                AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
              UNION
             SELECT a.pid FROM pg_catalog.pg_stat_activity AS a
              WHERE a.datname = current_database() AND a.pid <> pg_catalog.pg_backend_pid()
                AND starts_with(a.application_name, left(format('datafixes %s, run %s', r.fix, r.run_id), 63))
              ORDER BY 1),
       (SELECT sum(p.rows_changed)::float8
               / greatest(0.1, extract(epoch FROM pg_catalog.clock_timestamp() - min(p.started_at))::float8)
          FROM {ledger} AS p
         WHERE p.part_of = r.run_id AND p.started_at > pg_catalog.clock_timestamp() - interval '{window} s')
  FROM {ledger} AS r
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE NOT n.done) AS remaining, sum(n.batches)::bigint AS batches,
              sum(n.rows_changed)::bigint AS rows_changed, max(n.beat) AS beat
         FROM {ranges} AS n WHERE n.run_id = r.run_id) AS g
 WHERE r.outcome = 'running' AND r.part_of IS NULL{which}
 ORDER BY {newest_first}
"""


@dataclass(frozen=True)
class Progress:
    """How far a run in batches is that has not ended.

    Attributes:
        run_id: its number.
        fix: its fix.
        revision: the revision that it belongs to.
        direction: ``apply`` or ``revert``.
        wish: what an operator wants of it: ``pause``, ``stop`` or None.
        rows_total: how many rows there were when it began.
        rows_done: how many rows are changed.
        batches: how many batches are done.
        batch_rows: how many rows a batch changes at most.
        pause: the seconds between two batches of a worker.
        ranges_left: how many ranges of keys are not done.
        applied_by: the role that runs it.
        application: who and what runs it.
        started_at: when it began.
        idle: the seconds since its last batch ended, or since it began.
        workers: the backends that work on it at this moment, as far as they can be seen.
        rows_per_second: its speed in the last minute; None if no batch ended.
    """

    run_id: int
    fix: str
    revision: str | None
    direction: str
    wish: str | None
    rows_total: int
    rows_done: int
    batches: int
    batch_rows: int
    pause: float
    ranges_left: int
    applied_by: str
    application: str | None
    started_at: dt.datetime
    idle: float
    workers: Sequence[int]
    rows_per_second: float | None

    @property
    def rows_left(self) -> int:
        """How many rows are to do; they may have become more since they were counted."""
        return max(0, self.rows_total - self.rows_done) if self.ranges_left else 0

    @property
    def batches_total(self) -> int:
        """How many batches it will be, by the size of those that are done."""
        size = self.rows_done / self.batches if self.batches and self.rows_done else self.batch_rows
        return self.batches + math.ceil(self.rows_left / max(1, size))

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at this speed; None if that is unknown."""
        if not self.is_alive or self.wish or not self.rows_per_second:
            return None
        return self.rows_left / self.rows_per_second

    @property
    def is_alive(self) -> bool:
        """Whether somebody works on it, or has done so a moment ago."""
        return bool(self.workers) or self.idle < _A_MOMENT + self.pause

    @property
    def ways_on(self) -> str:
        """How it goes on, and how it is taken back, as commands."""
        if self.direction == "revert":
            return f"The command that began it goes on with it (revision {self.revision})"
        return (
            f"To go on with it: alembic upgrade {self.revision}. "
            f"To take it back: alembic -x undo={self.fix} upgrade head"
        )

    @property
    def done(self) -> str:
        """``41 of ~120 batches, 410,000 of 1,198,221 rows``."""
        total = f"{self.batches_total:,}" if not self.ranges_left else f"~{self.batches_total:,}"
        return f"{self.batches:,} of {total} batches, {self.rows_done:,} of {self.rows_total:,} rows"

    @property
    def life(self) -> str:
        """``2 workers, last progress 12 s ago``; ``no worker since 41 min``."""
        if not self.is_alive:
            return f"no worker since {span(self.idle)}"
        seen = f"{counted(len(self.workers), 'worker')}, " if self.workers else ""
        return f"{seen}last progress {span(self.idle)} ago"

    @property
    def state(self) -> str:
        """In one word or two, what it does: a run that died does not look like one that lives."""
        if self.wish == "stop":
            return "stopping" if self.workers else "stopped"
        if self.wish == "pause":
            return "pausing" if self.workers else "paused"
        if not self.is_alive:
            return "half applied" if self.direction == "apply" else "half reverted"
        return "running" if self.direction == "apply" else "reverting"

    def line(self, width: int = 0) -> str:
        """How far it is, on one line.

        Args:
            width: draw a bar, and leave out the last parts where they do not fit into so many columns.
        """
        share = min(1.0, self.rows_done / self.rows_total) if self.rows_total else 0.0
        found = f"{self.fix}: {self.state}"
        if width:
            full = round(share * _BAR)
            found += f" [{'#' * full}{'.' * (_BAR - full)}] {share:.0%}"
        speed = f"{self.rows_per_second:,.0f} rows/s" if self.rows_per_second and self.is_alive else ""
        left = "" if self.seconds_left is None else f"about {span(self.seconds_left)} left"
        parts = [self.done, speed, left, f"batches of {self.batch_rows:,}", f"run {self.run_id}"]
        parts.insert(3 if self.is_alive else 0, self.life)
        for part in filter(None, parts):
            if width and len(found) + 2 + len(part) > width:
                break
            found += f", {part}"
        return found


def progress_of(connection: Connection, schema: str, fix: str) -> Progress | None:
    """How far a fix is that runs in batches and has not ended; None if there is no such run.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        fix: its name.

    Raises:
        DatafixError: this role lacks the right to read the ledger.
    """
    found = running_fixes(connection, schema, f" AND r.fix = {text(fix)}")
    return found[0] if found else None


def running_fixes(connection: Connection, schema: str, which: str = "") -> list[Progress]:
    """The fixes of a ledger that run in batches and have not ended, newest first.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        which: a further condition.

    Raises:
        DatafixError: this role lacks the right to read the ledger.
    """
    ranges = qualified(schema, RANGES)
    if ask(connection, f"SELECT pg_catalog.to_regclass({text(ranges)}) IS NULL")[0][0]:
        return []  # a ledger without batches
    query = _PROGRESS.format(
        ledger=qualified(schema, LEDGER), ranges=ranges, ranges_name=text(ranges), window=_WINDOW, which=which,
        newest_first=", ".join(f"r.{column.strip()}" for column in NEWEST_FIRST.split(",")),
    )  # fmt: skip
    return [Progress(*row) for row in ask(connection, query)]


def running_fix(connection: Connection, schema: str, fix: str | None) -> Progress:
    """A fix that runs in batches and has not ended: the named one, or the newest.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        fix: its name.

    Raises:
        DatafixError: there is none.
    """
    found = progress_of(connection, schema, fix) if fix is not None else None
    others = [] if found else running_fixes(connection, schema)
    if found or (others and fix is None):
        return found or others[0]
    names = ", ".join(dict.fromkeys(one.fix for one in others))
    raise DatafixError(
        "No fix is running in batches." if fix is None else f"No fix {fix} is running in batches.",
        hint=f"Running: {names}." if names else "List what has ended: datafixes history",
    )


def readable(connection: Connection, schema: str, which: str = "") -> list[Progress]:
    """The same, or none where this role may not read them: its lines of the history still say that they run."""
    try:
        with connection.begin_nested():
            return running_fixes(connection, schema, which)
    except DatafixError:
        return []


def half_applied(connection: Connection, version_table: tuple[str, str] | None = None) -> list[Progress]:
    """The fixes that run in batches and have not ended, in every ledger that this role can read.

    Args:
        connection: their database.
        version_table: its name, and its name in SQL; ledgers in a schema with another table of that name are left out.
    """
    beside = (
        ""
        if version_table is None
        else _BESIDE.format(name=text(version_table[0]), table=text(version_table[1]))
    )
    schemas = ask(connection, _LEDGERS.format(beside=beside))
    return [one for (schema,) in schemas for one in running_fixes(connection, schema)]
