"""A fix in batches waits while a replica is too far behind: a second server by streaming replication, paused and resumed."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.batches.many import is_whole, many_project
from tests.cli.commands import answer
from tests.faults.deploys import answers, deploying, ended, until
from tests.faults.own_server import OwnServer, own_server
from tests.named import Address
from tests.servers import PROGRAM_VERSION, Database, Server, binaries

_DONE = "SELECT count(*) FROM many WHERE done"
_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
_BEHIND = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication"


@contextmanager
def replica_of(own: OwnServer) -> Iterator[Database]:
    """A replica of a server, by streaming replication."""
    programs = own._binaries
    user = "pgserver" if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="df-")).resolve()
    data = directory / "data"
    try:
        if user:
            shutil.chown(directory, user)
        source = f"host={own.data} port=5432 user=postgres application_name=second"
        copy = [
            str(programs / "pg_basebackup"),
            "-d",
            source,
            "-D",
            str(data),
            "-R",
            "-c",
            "fast",
            "-X",
            "stream",
        ]
        subprocess.run(copy, check=True, capture_output=True, user=user, cwd=directory)
        options = ["-D", str(data), "-h", "", "-k", str(directory), "-p", "5432"]
        with (directory / "log").open("ab") as log:
            running = subprocess.Popen(
                [str(programs / "postgres"), *options], stdout=log, stderr=log, user=user, cwd=directory
            )
        try:
            replica = Database(
                "postgres", own.server.version, Address(str(directory)), binaries(PROGRAM_VERSION)
            )
            answers(replica)
            yield replica
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(20)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def own(server: Server) -> Iterator[OwnServer]:
    with own_server(server.version) as running:
        yield running


def test_batches_wait_while_a_replica_is_too_far_behind(tmp_path: Path, own: OwnServer) -> None:
    with own.server.database("lag") as database, replica_of(own) as replica:
        project = many_project(tmp_path, database, 'rows=50, max_lag="64kB"')
        project.write_ini()
        assert database.value("SELECT application_name FROM pg_stat_replication") == "second"
        replica.execute("SELECT pg_wal_replay_pause()")
        with deploying(project) as process:
            # It begins, and does not go on once the replica is 64 kB behind.
            until(lambda: (database.value(_BEHIND) or 0) > 64 * 1024, "no WAL")
            until(lambda: database.value(_WAITS), "nobody waits")
            done = database.value(_DONE)
            assert done < 1_000
            assert process.poll() is None
            assert project.versions == {"m"}
            # Between two of its statements, for a moment nobody waits.
            until(lambda: answer(project, "follow", "--once")["waiting"] == 1, "follow sees nobody wait")
            seen = answer(project, "follow", "--once")
            assert (seen["state"], seen["alive"]) == ("waiting", True)
            assert seen["lag"] > 64 * 1024
            assert re.fullmatch(r"replica second is \d+ [kM]B behind", seen["waits"])
            replica.execute("SELECT pg_wal_replay_resume()")
            ran = ended(process)
        assert ran.code == 0, ran.out + ran.err
        assert is_whole(database)
        until(lambda: not database.value(_BEHIND), "the replica does not follow")
        moved = Database(database.name, replica.server_version, replica.address, replica.binaries)
        until(lambda: moved.value(_DONE) == 1_000, "the replica does not follow")

        replica.execute("SELECT pg_wal_replay_pause()")
        with deploying(project, "downgrade", "-1") as process:
            until(lambda: database.value(_WAITS), "nobody waits")
            seen = answer(project, "follow", "--once")
            assert (seen["direction"], seen["state"], seen["waiting"]) == ("revert", "waiting", 1)
            assert database.value(_DONE) > 0
            replica.execute("SELECT pg_wal_replay_resume()")
            ran = ended(process)
        assert (ran.code, database.value(_DONE)) == (0, 0), ran.out + ran.err


def test_who_waits_for_what_is_told(tmp_path: Path, own: OwnServer) -> None:
    with own.server.database("told") as database, replica_of(own) as replica:
        project = many_project(tmp_path, database, 'rows=50, max_lag="64kB"')
        replica.execute("SELECT pg_wal_replay_pause()")

        def stop() -> None:
            until(lambda: database.value(_WAITS), "nobody waits")
            database.execute("UPDATE datafix_run SET wish = 'stop' WHERE outcome = 'running'")

        stopping = threading.Thread(target=stop, daemon=True)
        stopping.start()
        ran = project.alembic("upgrade", "head")
        stopping.join()

        assert (ran.code, project.versions) == (255, {"m"}), ran.out + ran.err
        assert ", waits: replica second is " in ran.err, ran.err
        assert " kB behind" in ran.err


def test_a_role_that_does_not_see_replicas_is_refused(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, 'rows=50, max_lag="64MB"')
    before = database.dump()
    database.execute("CREATE ROLE blind LOGIN", "GRANT ALL ON ALL TABLES IN SCHEMA public TO blind")
    blind = f"postgresql+psycopg2://blind@/{database.name}?host={database.address.host}&port={database.address.port}"

    ran = project.process("-x", f"url={blind}", "upgrade", "head")

    assert ran.code != 0
    assert "max_lag=64MB cannot be kept: the role blind does not see how far replicas are" in ran.last_line
    assert "GRANT pg_monitor TO blind" in ran.last_line
    assert database.dump("public.datafix_run") == {
        k: v for k, v in before.items() if k != "public.datafix_run"
    }
