"""A Flask application with Flask-Migrate: its commands, its database, its env.py as Flask-Migrate writes it."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from flask.cli import FlaskGroup

from tests.cli.commands import datafixes
from tests.projects import TABLE, Ran, register_operations
from tests.servers import Database, Server

# Flask-Migrate's env.py asks an older Flask-SQLAlchemy first.
pytestmark = pytest.mark.filterwarnings("ignore:'get_engine' is deprecated")

APP = """
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
app.config["SQLALCHEMY_BINDS"] = {binds!r}
db = SQLAlchemy(app)
Migrate(app, db, transaction_per_migration=True)


class Item(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    symbol = db.Column(db.Text)
"""

Run = Callable[..., Ran]


@pytest.fixture
def second(server: Server, database: Database) -> Iterator[Database]:
    with server.database(f"{database.name}_too") as one:
        one.psql(TABLE, "-v", "ON_ERROR_STOP=1")
        yield one


@pytest.fixture
def flask(
    request: pytest.FixtureRequest, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Run `flask ...` for an application whose migrations Flask-Migrate has made, in this process."""
    several = getattr(request, "param", False)
    binds = {"users": request.getfixturevalue("second").url} if several else {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")
    (tmp_path / "app.py").write_text(APP.format(url=database.url, binds=binds), "utf-8")
    database.psql(TABLE, "-v", "ON_ERROR_STOP=1")
    module: dict[str, Any] = {"__name__": "app"}
    exec((tmp_path / "app.py").read_text("utf-8"), module)
    group = FlaskGroup(create_app=lambda: module["app"], load_dotenv=False, set_debug_flag=False)
    loggers = [logging.root, *(logging.getLogger(name) for name in (*logging.root.manager.loggerDict,))]
    before = [(one, one.level, one.disabled, list(one.handlers)) for one in loggers]

    def ran(*words: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(err):
                group.main([*words], prog_name="flask")
        except SystemExit as ended:
            return Ran(int(ended.code or 0), out.getvalue(), err.getvalue())
        raise AssertionError("a command ends the process")

    assert ran("db", "init", *(["--multidb"] if several else [])).code == 0
    register_operations(tmp_path / "migrations/env.py")
    yield ran
    for one, level, disabled, handlers in before:  # env.py configures logging
        one.level, one.disabled, one.handlers[:] = level, disabled, handlers


def test_a_fix_is_written_planned_applied_and_undone(
    flask: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The application's database is the one of Flask-Migrate's env.py, too.
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/elsewhere")
    new = flask("datafixes", "new", "close", "--table", "item", "--where", "id = 1", "--set", "status=closed")
    assert new.code == 0, new.err
    assert len(new.out.splitlines()) == 2  # the audit table, and the fix
    planned = flask("datafixes", "plan")
    assert (planned.code, "open → closed" in planned.out) == (0, True), planned.err
    assert "Can be reverted  ✓ yes" in planned.out
    assert database.rows("SELECT status FROM item WHERE id = 1") == [("open",)]
    upgraded = flask("db", "upgrade")
    assert upgraded.code == 0, upgraded.err
    assert database.rows("SELECT status FROM item WHERE id = 1") == [("closed",)]
    undone = flask("datafixes", "revert", "close")
    assert undone.code == 0, undone.err
    assert flask("db", "upgrade").code == 0
    assert database.rows("SELECT status FROM item WHERE id = 1") == [("open",)]

    # What reads needs no application where the directory and the database are given.
    monkeypatch.setenv("DATABASE_URL", database.url)
    asked = datafixes(None, "-d", "migrations", "history")
    assert (asked.code, "close" in asked.out) == (0, True), asked.err
    lost = datafixes(None, "-d", "migrations", "plan")
    told = "FAILED: env.py needs a Flask application. Use the commands inside of it: flask datafixes ..."
    assert (lost.code, lost.last_line) == (1, told)


def test_the_applications_database_is_named_and_exit_codes_arrive(flask: Run, database: Database) -> None:
    where = flask("datafixes", "where")
    assert (where.code, "the Flask application" in where.out, database.name in where.out) == (0, True, True)
    chosen = flask("datafixes", "-x", "url=postgresql://other/chosen", "where")
    assert ("chosen (-x url)" in chosen.out, database.name in chosen.out) == (True, False)
    wrong = flask("datafixes", "pan")
    assert (wrong.code, "Unknown command pan. Did you mean plan" in wrong.err) == (2, True)
    shown = flask("datafixes", "--help")
    assert (shown.code, "Usage: flask datafixes [OPTIONS] COMMAND" in shown.out) == (0, True)
    other = flask("datafixes", "-d", "elsewhere", "check")
    assert other.code == 1
    assert other.last_line.startswith("FAILED: No Alembic project found: Path doesn't exist: elsewhere")
    unnamed = datafixes(None, "-c", "migrations/alembic.ini", "check")
    assert (unnamed.code, "or the directory of env.py with -d DIR" in unnamed.last_line) == (1, True)


@pytest.mark.parametrize("flask", [True], indirect=True)
def test_each_database_of_the_application_is_read_written_and_planned(
    flask: Run, database: Database, second: Database
) -> None:
    """Flask-Migrate's multidb: the functions of the default database have an empty name."""
    for words, row in (((), 1), (("-n", "users"), 2)):
        change = "--table", "item", "--where", f"id = {row}", "--set", "status=closed"
        new = flask("datafixes", *words, "new", f"close {row}", *change)
        assert new.code == 0, new.err
    planned = flask("datafixes", "plan", "--format", "json")
    assert planned.code == 0, planned.err
    plans = json.loads(planned.out)["plans"]
    assert [(one["name"], one["plan"]["database"].split()[0]) for one in plans] == [
        ("default", database.name),
        ("users", second.name),
    ]
    runs = [run["fix"] for one in plans for step in one["plan"]["steps"] for run in step["runs"]]
    assert runs == ["close_1", "close_2"]
    assert flask("db", "upgrade").code == 0
    for words, one, row in (((), database, 1), (("-n", "users"), second, 2)):
        assert one.rows("SELECT id FROM item WHERE status = 'closed'") == [(row,)]
        history = json.loads(flask("datafixes", *words, "history", "--format", "json").out)
        assert [run["fix"] for run in history["runs"]] == [f"close_{row}"]
        assert history["stamped_past"] == []  # the other fix is not this database's
    assert flask("datafixes", "-n", "users", "revert", "close_2").code == 0
    assert flask("db", "upgrade").code == 0
    assert second.value("SELECT count(*) FROM item WHERE status = 'closed'") == 0
    unknown = flask("datafixes", "-n", "user", "where")
    told = "FAILED: The application has no database user. It has: users."
    assert (unknown.code, unknown.last_line) == (1, told)


def test_flask_finds_the_commands_by_itself(tmp_path: Path) -> None:
    """And an application without migrations pays for no more than their name."""
    (tmp_path / "app.py").write_text("from flask import Flask\napp = Flask(__name__)\n", "utf-8")
    code = (
        "import sys\nfrom flask.cli import main\nsys.argv[1:] = ['--help']\n"
        "try:\n    main()\nfinally:\n    print([m for m in ('alembic', 'sqlalchemy', 'boto3', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "datafixes  Preview, audit and undo data fixes." in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
