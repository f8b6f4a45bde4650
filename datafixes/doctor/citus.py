"""Checks of a Citus cluster: its version, its tables, its maintenance daemon, and transactions in doubt."""

from collections.abc import Iterator

from sqlalchemy.engine import Connection

from datafixes.audit.history import IS_AUDIT_TABLE, ask
from datafixes.report.document import Fact, attention, bad, good

_TESTED = "13.2"
_KINDS = {
    "distributed": "distributed by the hash of a column",
    "reference": "reference tables",
    "local": "Citus-local tables",
    "single-shard": "tables of one shard",
    "unknown": "tables of other kinds, which no fix can change",
}

_IS_HERE = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus'"
_TABLES = """
SELECT CASE WHEN p.partmethod = 'h' THEN 'distributed' WHEN p.repmodel = 't' THEN 'reference'
            WHEN p.partmethod = 'n' AND p.colocationid = 0 THEN 'local'
            WHEN p.partmethod = 'n' THEN 'single-shard' ELSE 'unknown' END AS kind, count(*)
  FROM pg_catalog.pg_dist_partition AS p GROUP BY kind ORDER BY kind
"""
_AUDITS = f"""
SELECT p.logicalrelid::text
  FROM pg_catalog.pg_dist_partition AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.logicalrelid
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'audit_id' AND a.attidentity <> ''
 WHERE {IS_AUDIT_TABLE} ORDER BY 1
"""
_DAEMON = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity
                WHERE backend_type LIKE 'Citus Maintenance Daemon%' AND datname = current_database())
"""
_IN_DOUBT = """
SELECT n.nodename || ':' || n.nodeport, a.success, a.result
  FROM pg_catalog.run_command_on_all_nodes($q$
           SELECT count(*) FROM pg_catalog.pg_prepared_xacts
            WHERE gid LIKE 'citus\\_%' AND database = current_database()
              AND prepared < now() - interval '10 seconds' $q$) AS a
  JOIN pg_catalog.pg_dist_node AS n ON n.nodeid = a.nodeid ORDER BY 1
"""


def check_citus(connection: Connection) -> list[Fact]:
    """What a fix of a table of Citus needs; nothing where the database has no Citus."""
    found = ask(connection, _IS_HERE)
    return list(_checked(connection, found[0][0])) if found else []


def _checked(connection: Connection, version: str) -> Iterator[Fact]:
    tested = version.startswith(f"{_TESTED}-") or version == _TESTED
    if tested:
        yield good("Citus", f"It is version {version}.")
    else:
        yield attention(
            "Citus",
            f"It is version {version}; tested is {_TESTED}.",
            "Try each fix on another cluster first.",
        )
    [(group,)] = ask(connection, "SELECT groupid FROM pg_catalog.pg_dist_local_group")
    if group:
        yield bad(
            "Citus",
            "This server is a worker: a fix of a table of Citus is refused here.",
            "Connect to the coordinator.",
        )
    kinds = [f"{count} {_KINDS[kind]}" for kind, count in ask(connection, _TABLES)]
    yield good("Citus tables", f"{'; '.join(kinds) or 'None'}.")
    for (audit,) in ask(connection, _AUDITS):
        yield bad(
            "audit tables",
            f"{audit} was made a table of Citus by hand: no fix writes copies there.",
            "Make another one (op.create_audit_table), and keep this one for what it holds: Citus takes no table with"
            " an identity column back.",
        )
    [(runs,)] = ask(connection, _DAEMON)
    if runs:
        yield good("Citus daemon", "It runs here, and ends transactions that are in doubt.")
    else:
        yield attention(
            "Citus daemon",
            "Its maintenance daemon is not to be seen: transactions in doubt may stay, and fixes are refused then.",
            "SELECT recover_prepared_transactions(); see the server's log for why it does not run.",
        )
    yield from _in_doubt(connection)


def _in_doubt(connection: Connection) -> Iterator[Fact]:
    wrong = False
    for server, success, result in ask(connection, _IN_DOUBT):
        if not success:
            yield bad(
                "Citus in doubt", f"{server} does not answer: {' '.join(str(result).split())}", "Start it."
            )
        elif result != "0":
            yield bad(
                "Citus in doubt",
                f"{server} has {result} prepared transactions: a part of what they changed is not to be seen.",
                "SELECT recover_prepared_transactions(), through the coordinator.",
            )
        wrong = wrong or not success or result != "0"
    if not wrong:
        yield good("Citus in doubt", "No server has a transaction in doubt.")
