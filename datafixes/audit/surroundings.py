"""Triggers and foreign keys that act on a fix's changes, and the locks that its transaction holds."""

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.audit.images import TableOfRun
from datafixes.script.literal import text

# tgtype: bits for the row, BEFORE, INSERT, DELETE, UPDATE, TRUNCATE, INSTEAD.
_TRIGGERS = """
SELECT format('trigger %%I: %%s %%s of %%s%%s', t.tgname, CASE WHEN t.tgtype & 2 = 2 THEN 'before' ELSE 'after' END,
              concat_ws(' or ', CASE WHEN t.tgtype & 4 = 4 THEN 'insert' END, CASE WHEN t.tgtype & 16 = 16 THEN 'update' END,
                        CASE WHEN t.tgtype & 8 = 8 THEN 'delete' END),
              CASE WHEN t.tgtype & 1 = 1 THEN 'each row' ELSE 'each statement' END,
              CASE t.tgenabled WHEN 'D' THEN ' (disabled)' WHEN 'R' THEN ' (on replicas only)' ELSE '' END)
  FROM pg_catalog.pg_trigger AS t
 WHERE t.tgrelid = to_regclass({table}) AND NOT t.tgisinternal AND t.tgname !~ '^datafix_' AND t.tgtype & {events} <> 0
 ORDER BY t.tgname
"""
_REFERENCES = """
SELECT format('foreign key %%I: %%s%%s', c.conname, CASE WHEN c.conrelid = to_regclass({table}) THEN 'refers to ' || c.confrelid::regclass
                                                       ELSE 'rows of ' || c.conrelid::regclass || ' refer to it' END,
              CASE WHEN c.confrelid = to_regclass({table}) THEN
                   CASE c.confdeltype WHEN 'c' THEN ', ON DELETE CASCADE' WHEN 'n' THEN ', ON DELETE SET NULL' WHEN 'd' THEN ', ON DELETE SET DEFAULT' ELSE '' END
                || CASE c.confupdtype WHEN 'c' THEN ', ON UPDATE CASCADE' WHEN 'n' THEN ', ON UPDATE SET NULL' WHEN 'd' THEN ', ON UPDATE SET DEFAULT' ELSE '' END
              ELSE '' END)
  FROM pg_catalog.pg_constraint AS c
 WHERE c.contype = 'f' AND c.conparentid = 0 AND (c.conrelid = to_regclass({table}) AND {written} OR c.confrelid = to_regclass({table}) AND {gone})
 ORDER BY c.conname
"""
_LOCKS = """
SELECT format('%s: %s', held.relation, (ARRAY['ROW SHARE', 'ROW EXCLUSIVE', 'SHARE UPDATE EXCLUSIVE', 'SHARE', 'SHARE ROW EXCLUSIVE',
                                              'EXCLUSIVE', 'ACCESS EXCLUSIVE'])[max(held.strength)])
  FROM (SELECT l.relation::regclass, array_position(ARRAY['RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock',
                                                          'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'], l.mode) AS strength
          FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid = l.relation JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_') AS held
 WHERE held.strength IS NOT NULL       -- locks of reads block only DDL
 GROUP BY held.relation ORDER BY 1
"""


def acting_on(connection: Connection, table: TableOfRun, *, fires: bool) -> tuple[str, ...]:
    """The triggers and foreign keys that a run's changes of a table activate, in words.

    Args:
        connection: the run's database.
        table: the table, with the counts of the run.
        fires: whether the fix lets the table's own triggers fire.
    """
    events = 4 * bool(table.inserted) + 8 * bool(table.deleted) + 16 * bool(table.updated)
    if not events:
        return ()
    name = text(table.target)
    triggers = [
        line for (line,) in ask(connection, _TRIGGERS.replace("%%", "%").format(table=name, events=events))
    ]
    if triggers and not fires:
        triggers = [f"{line} (switched off by the fix)" for line in triggers]
    written, gone = bool(table.inserted or table.updated), bool(table.deleted or table.updated)
    query = _REFERENCES.replace("%%", "%").format(table=name, written=written, gone=gone)
    return (*triggers, *(line for (line,) in ask(connection, query)))


def locks_held(connection: Connection) -> tuple[str, ...]:
    """The strongest lock on each table that this transaction holds, in words: ``orders: ROW EXCLUSIVE``."""
    return tuple(line for (line,) in ask(connection, _LOCKS))
