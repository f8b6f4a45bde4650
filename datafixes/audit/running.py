"""Asks a ledger which fixes run in batches and have not ended, how far they are, and who works on them."""

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.audit.progress import Progress
from datafixes.errors import DatafixError
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER, NEWEST_FIRST, RANGES

_WINDOW = 60
"""The speed is that of the batches of so many seconds."""

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

# Who works on it, or waits: a batch locks the row of its range, and with it the table, until it ends; and its transaction
# has the name of the fix. Without pg_read_all_stats, names of other roles cannot be seen, nor replicas; locks can.
_PROGRESS = """
SELECT r.run_id, r.fix, r.revision, r.direction, r.wish, coalesce(r.rows_found, r.rows_expected, 0),
       coalesce(g.rows_changed, 0), coalesce(g.batches, 0), coalesce((r.declaration -> 'batches' -> 'rows')::bigint, 0),
       (SELECT max(p.rows_changed) FROM (SELECT rows_changed FROM {ledger} WHERE part_of = r.run_id AND rows_changed > 0
                                          ORDER BY run_id DESC LIMIT 3) AS p),
       coalesce((r.declaration -> 'batches' -> 'pause')::float8, 0), g.remaining, r.applied_by, r.application, r.started_at,
       (extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(g.beat, r.started_at)))::float8,
       ARRAY(SELECT l.pid FROM pg_catalog.pg_locks AS l
              WHERE l.locktype = 'relation' AND l.relation = pg_catalog.to_regclass({ranges_name}) AND l.granted
                AND l.mode = 'RowShareLock' AND l.pid <> pg_catalog.pg_backend_pid()
                AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
              UNION
             SELECT a.pid FROM pg_catalog.pg_stat_activity AS a
              WHERE a.datname = current_database() AND a.pid <> pg_catalog.pg_backend_pid()
                AND (starts_with(a.application_name || ',', g.name || r.run_id || ',') OR a.application_name = trim(g.name))
              ORDER BY 1),
       (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a
         WHERE a.datname = current_database() AND a.application_name = g.name || r.run_id || ', waits'),
       lag.behind::bigint,
       CASE WHEN (lag.behind > pg_catalog.pg_size_bytes(r.declaration -> 'batches' ->> 'max_lag')) IS NOT FALSE
             AND r.declaration -> 'batches' ? 'max_lag' AND lag.pid IS NOT NULL
            THEN format('replica %s %s', lag.name, coalesce('is ' || pg_catalog.pg_size_pretty(lag.behind) || ' behind',
                                                            'does not tell how far it is')) END,
       (SELECT sum(p.rows_changed)::float8
               / greatest(0.1, extract(epoch FROM pg_catalog.clock_timestamp() - min(p.started_at))::float8)
          FROM {ledger} AS p
         WHERE p.part_of = r.run_id AND p.started_at > pg_catalog.clock_timestamp() - interval '{window} s')
  FROM {ledger} AS r
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE NOT n.done) AS remaining, sum(n.batches)::bigint AS batches,
              sum(n.rows_changed)::bigint AS rows_changed, max(n.beat) AS beat,
              format('datafixes %s, run ', left(r.fix, 30)) AS name
         FROM {ranges} AS n WHERE n.run_id = r.run_id) AS g
  LEFT JOIN LATERAL (
       SELECT s.pid, coalesce(nullif(s.application_name, ''), format('of pid %s', s.pid)) AS name,
              pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                                              ELSE pg_catalog.pg_current_wal_lsn() END,
                                         coalesce(s.replay_lsn, s.flush_lsn)) AS behind
         FROM pg_catalog.pg_stat_replication AS s
        WHERE s.state IS DISTINCT FROM 'backup' AND pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
        ORDER BY behind DESC NULLS FIRST LIMIT 1) AS lag ON true
 WHERE r.outcome = 'running' AND r.part_of IS NULL{which}
 ORDER BY {newest_first}
"""


def progress_of(
    connection: Connection, schema: str, fix: str, direction: str | None = None
) -> Progress | None:
    """How far a fix is that runs in batches and has not ended; None if there is no such run.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        fix: its name.
        direction: ``apply`` or ``revert``; by default the newest run of both.

    Raises:
        DatafixError: this role lacks the right to read the ledger.
    """
    way = f" AND r.direction = {text(direction)}" if direction else ""
    found = running_fixes(connection, schema, f" AND r.fix = {text(fix)}{way}")
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
