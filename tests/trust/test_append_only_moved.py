"""The protection of audit tables goes with a database, and stops no move of it; the traps on the way are as documented."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.conftest import VERSIONS
from tests.projects import Project, project_with_fix
from tests.servers import Database, Server, running_server
from tests.tampering import UNPROTECTED
from tests.trust.audits import anchor, compared, states
from tests.trust.test_append_only import ALL, TRIGGERS

STOP = ("-q", "-v", "ON_ERROR_STOP=1")


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """One fix ran and was reverted."""
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "b").code == 0
    assert project.alembic("downgrade", "a").code == 0
    return project


@pytest.fixture
def other(server: Server) -> Iterator[Database]:
    with server.database("elsewhere") as other:
        yield other


def goes_on(project: Project, other: Database) -> None:
    """All that was there is there and protected, and the next fix runs."""
    assert other.dump() == project.database.dump()
    assert other.rows(TRIGGERS) == ALL
    with pytest.raises(Exception, match="only grows"):
        other.execute("DELETE FROM item_audit")
    ran = project.on(other).alembic("upgrade", "b")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("options", [(), ("--clean", "--if-exists"), ("--inserts",)], ids=str)
def test_a_dump_restores_into_an_empty_database(
    project: Project, other: Database, options: tuple[str, ...]
) -> None:
    other.psql(project.database.backup(*options), *STOP)
    goes_on(project, other)


def test_a_dump_with_clean_replaces_what_is_there(project: Project, other: Database) -> None:
    other.psql(project.database.backup(), *STOP)
    assert project.alembic("upgrade", "b").code == 0
    other.psql(project.database.backup("--clean", "--if-exists"), *STOP)
    assert project.alembic("downgrade", "a").code == 0
    other.psql(project.database.backup("--clean", "--if-exists"), *STOP)
    goes_on(project, other)


def test_rows_alone_are_restored_into_protected_tables(project: Project, other: Database) -> None:
    other.psql(project.database.backup("--schema-only"), *STOP)
    other.psql(project.database.backup("--data-only"), *STOP)
    goes_on(project, other)


def test_rows_restored_with_triggers_disabled_leave_ordinary_triggers_and_doctor_says_so(
    project: Project, other: Database
) -> None:
    """PostgreSQL enables them again as ordinary ones: a session in the role of a replica passes them."""
    other.psql(project.database.backup("--schema-only"), *STOP)
    other.psql(project.database.backup("--data-only", "--disable-triggers"), *STOP)
    assert {state for _, _, state in other.rows(TRIGGERS)} == {"O"}
    told = [
        one
        for one in answer(project.on(other), "doctor", code=3)["findings"]
        if one["check"] == "append-only"
    ]
    assert {one["state"] for one in told} == {"bad"}
    assert "a restore with --disable-triggers made it an ordinary one" in told[0]["evidence"]
    other.execute(*(one["remedy"] for one in told))
    goes_on(project, other)


# --- logical replication


@pytest.fixture(scope="module")
def two_servers() -> Iterator[tuple[Server, Server]]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_server(max(VERSIONS))) for _ in range(2))
        yield first, second


@pytest.fixture
def subscribed(two_servers: tuple[Server, Server], tmp_path: Path) -> Iterator[tuple[Project, Database]]:
    """A project, and a database that subscribes to all of its tables."""
    with two_servers[0].database("published") as published, two_servers[1].database("subscribed") as copy:
        project = project_with_fix(tmp_path, published)
        copy.psql(published.backup("--schema-only"), *STOP)
        published.execute(
            "ALTER TABLE item REPLICA IDENTITY FULL", "CREATE PUBLICATION everything FOR ALL TABLES"
        )
        url = published.url.replace("postgresql+psycopg2", "postgresql")
        copy.execute(f"CREATE SUBSCRIPTION everything CONNECTION '{url}' PUBLICATION everything")
        try:
            until(copy, "SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate <> 'r'")
            yield project, copy
        finally:
            copy.execute("DROP SUBSCRIPTION everything")


def until(database: Database, question: str) -> None:
    deadline = time.monotonic() + 60
    while not database.value(question):
        assert time.monotonic() < deadline, question
        time.sleep(0.2)


def test_runs_arrive_at_a_subscriber_whose_tables_are_protected(subscribed: tuple[Project, Database]) -> None:
    project, copy = subscribed
    for step in (("upgrade", "b"), ("downgrade", "a")):
        assert project.alembic(*step).code == 0
    until(copy, "SELECT count(*) = 2 FROM datafix_run WHERE finished_at IS NOT NULL")
    until(copy, "SELECT version_num = 'a' FROM alembic_version")
    until(copy, "SELECT count(*) = 2 FROM datafix_chain")
    assert copy.dump() == project.database.dump()
    assert copy.rows(TRIGGERS) == ALL
    # The copy is proven as the original is, and an anchor of that holds.
    kept = anchor(project, project.directory / "anchor.json")
    there = project.on(copy)
    assert states(there) == {1: "proven", 2: "proven"}
    assert compared(there, kept) == ["matches"]
    # It goes on there, once its sequences do (they are not copied), and says where.
    copy.execute(
        "SELECT setval(pg_get_serial_sequence('datafix_run', 'run_id'), 2)",
        "SELECT setval(pg_get_serial_sequence('item_audit', 'audit_id'), 8)",
    )
    ran = there.alembic("upgrade", "b")
    assert ran.code == 0, ran.err
    assert states(there) == {1: "proven", 2: "proven", 3: "proven"}
    cluster = copy.value("SELECT system_identifier FROM pg_control_system()")
    told = " ".join(datafixes(there, "verify-audit").out.split())
    assert (
        f"From position 3 on, the chain was written in database {copy.name} of cluster {cluster}, timeline 1"
        in told
    )


def test_a_ledger_line_that_is_late_does_not_stop_a_subscription(
    subscribed: tuple[Project, Database],
) -> None:
    """While tables are copied, each follows by itself: the line of a table may come after its run was finished."""
    project, copy = subscribed
    assert project.alembic("upgrade", "b").code == 0
    until(copy, "SELECT count(*) = 1 FROM datafix_run WHERE finished_at IS NOT NULL")
    project.database.execute(UNPROTECTED, "UPDATE datafix_run_table SET images = images")
    assert project.alembic("downgrade", "a").code == 0
    until(copy, "SELECT count(*) = 2 FROM datafix_run WHERE finished_at IS NOT NULL")


def test_copies_that_are_given_up_go_at_the_subscriber_too(subscribed: tuple[Project, Database]) -> None:
    project, copy = subscribed
    assert project.alembic("upgrade", "b").code == 0
    project.revision(
        "c", "b", 'op.prune_audit("item_audit", older_than="2099-01-01", keep="none")', top="# Retention."
    )
    assert project.alembic("upgrade", "c").code == 0
    until(copy, "SELECT count(*) = 1 FROM datafix_run WHERE outcome = 'pruned'")
    until(copy, "SELECT version_num = 'c' FROM alembic_version")
    until(copy, "SELECT count(*) = 2 FROM datafix_chain")
    assert copy.value("SELECT count(*) FROM item_audit") == 0
    assert copy.dump() == project.database.dump()


def test_a_truncate_on_the_publisher_stops_the_subscriber(subscribed: tuple[Project, Database]) -> None:
    """The owner there removed the protection, and the copy keeps what it has."""
    project, copy = subscribed
    assert project.alembic("upgrade", "b").code == 0
    until(copy, "SELECT count(*) = 4 FROM item_audit")
    project.database.execute(UNPROTECTED, "TRUNCATE item_audit")
    if copy.server_version >= 15:
        until(copy, "SELECT apply_error_count > 0 FROM pg_stat_subscription_stats")
    assert copy.value("SELECT count(*) FROM item_audit") == 4
    # Somebody who wants that there, too, does it there: the way on is the owner's.
    copy.execute(UNPROTECTED)
    until(copy, "SELECT count(*) = 0 FROM item_audit")
