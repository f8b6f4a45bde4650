"""After a commit on a Citus cluster: whether a worker has yet to follow."""

import logging
from contextlib import nullcontext

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from datafixes.script.parameters import verbatim

_logger = logging.getLogger("alembic.datafixes")

_IS_CITUS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')"
_IN_DOUBT = """
SELECT n.nodename || ':' || n.nodeport
  FROM pg_catalog.run_command_on_all_nodes($q$
           SELECT count(*) FROM pg_catalog.pg_prepared_xacts
            WHERE gid LIKE 'citus\\_%' AND database = current_database() $q$) AS a
  JOIN pg_catalog.pg_dist_node AS n ON n.nodeid = a.nodeid
 WHERE NOT a.success OR a.result <> '0' ORDER BY 1
"""


def tell_in_doubt(connection: Connection) -> None:
    """Warn where a server of the cluster has not committed its part yet, or does not answer.

    PostgreSQL has committed: Citus gives a warning only, which drivers do not show.

    Args:
        connection: of the run. It may have read something since, and thereby begun a transaction, which stays open.
    """
    is_citus = False
    try:
        with nullcontext() if connection.in_transaction() else connection.begin():
            is_citus = bool(connection.exec_driver_sql(_IS_CITUS).scalar())
            if not is_citus:
                return
            servers = connection.exec_driver_sql(verbatim(connection, _IN_DOUBT)).scalars().all()
    except SQLAlchemyError:  # the run is committed, whatever cannot be asked
        if is_citus:
            _logger.warning(
                "It cannot be asked whether every server of the Citus cluster has committed: datafixes doctor"
            )
        return
    if servers:
        _logger.warning(
            "Committed, but not on every server of the Citus cluster yet: %s. Until Citus has ended the prepared "
            "transactions there, readers see a part of the change. Its maintenance daemon does so once the servers are "
            "up; at once: SELECT recover_prepared_transactions(). Until then, fixes and reverts are refused.",
            ", ".join(servers),
        )
