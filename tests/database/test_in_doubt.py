"""What is asked after a commit, for the case that the database is on a Citus cluster, harms no run that has ended well."""

import logging

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from datafixes.running.in_doubt import tell_in_doubt
from tests.servers import Database


def test_a_transaction_that_was_begun_since_stays_open(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE begun ()")
        tell_in_doubt(connection)
        assert connection.in_transaction()
        connection.commit()
        tell_in_doubt(connection)
        assert not connection.in_transaction()
    assert database.value("SELECT to_regclass('begun') IS NOT NULL")
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize("lost", [False, True], ids=["failed transaction", "lost connection"])
def test_where_it_cannot_be_asked_nobody_without_a_cluster_is_alarmed(
    lost: bool, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        if lost:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            database.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        else:
            with pytest.raises(ProgrammingError):
                connection.exec_driver_sql("SELECT nothing_like_that")
        tell_in_doubt(connection)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
