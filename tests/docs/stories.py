"""What stands on a reader's machine before a page begins, and what happens meanwhile besides."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from tests.aws import Cloud
from tests.docs.pages import ROOT, Block, Reader, Typed, blocks, typed
from tests.faults.deploys import until
from tests.projects import TABLE, Project, new_project, our_project, project_with_fix, register_operations

HELD = (
    "account,symbol,quantity\nlarge,QCOM260220P00145000,1\nlarge,NOW260220P00110000,1\nlarge,SPY,2\ntiny,,\n"
)

ORDERS = """
CREATE TABLE orders (id integer PRIMARY KEY, order_number text UNIQUE, net numeric(12,2), total numeric(12,2), tax_class text);
INSERT INTO orders VALUES (10, 'A-16', 100, 119, 'standard'), (11, 'A-17', 200, 200, NULL), (12, 'A-18', 50, 50, NULL);
"""

SHOP = """
CREATE TABLE orders (id integer PRIMARY KEY, order_number text, customer_id integer, net numeric, total numeric, tax_class text);
CREATE TABLE order_lines (order_id integer REFERENCES orders ON DELETE CASCADE, place integer, PRIMARY KEY (order_id, place));
CREATE TABLE customers (id integer PRIMARY KEY, name text);
INSERT INTO customers VALUES (4, 'ACME INC'), (7, 'Acme Inc');
INSERT INTO orders SELECT n, 'A-' || n + 6, CASE WHEN n < 13 THEN 4 ELSE 7 END, n, n FROM generate_series(11, 15) AS n;
INSERT INTO orders VALUES (90, 'LOADTEST-1', 4, 1, 1, 'x'), (91, 'LOADTEST-2', 4, 1, 1, 'x');
UPDATE orders SET tax_class = CASE id WHEN 13 THEN 'moving' ELSE 'x' END WHERE id > 12;
INSERT INTO order_lines SELECT 90, n FROM generate_series(1, 3) AS n UNION ALL SELECT 91, n FROM generate_series(1, 2) AS n;
"""

TENANTS_ENV = """
import datafixes.operations
from alembic import context
from sqlalchemy import create_engine, text

connection = create_engine(context.config.get_main_option("sqlalchemy.url")).connect()
"""

Doing = Callable[[Reader, Cloud], None]


@dataclass(frozen=True)
class Story:
    """How a page is followed.

    Attributes:
        begins: makes the project and the database.
        meanwhile: what is done before a block that contains these words.
        added: words that a command gets that begins with these.
    """

    begins: Doing
    meanwhile: Mapping[str, Doing] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)

    def typed(self, block: Block) -> list[Typed]:
        """The commands of a console block as they run."""
        return [self._completed(one) for one in typed(block) if not runs_elsewhere(one.command)]

    def _completed(self, one: Typed) -> Typed:
        more = [words for begins, words in self.added.items() if one.command.startswith(begins)]
        return Typed(" ".join([one.command, *more]), one.shown)


def checkout(reader: Reader, without: str = "__pycache__") -> None:
    """This repository's project, as far as commands need it: what they write lands in the reader's directory."""
    for name in ("alembic.ini", "alembic", "tests/fixtures"):
        source, target = ROOT / name, reader.directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", without))
        else:
            shutil.copy(source, target)


def _held(reader: Reader) -> None:
    """The broker is a file with the three real positions."""
    (reader.directory / "held.csv").write_text(HELD, "utf-8")
    reader.environment |= {
        "DATAFIXES_BROKER": f"file:{reader.directory / 'held.csv'}",
        "DATAFIXES_BROKER_ACCOUNTS": "large,tiny",
    }


def empty(reader: Reader, _: Cloud) -> None:
    """The project and the broker, and a database with nothing in it."""
    checkout(reader)
    _held(reader)


def _at(revision: str) -> Doing:
    def begin(reader: Reader, cloud: Cloud) -> None:
        empty(reader, cloud)
        _load(reader, revision)

    return begin


def _load(reader: Reader, revision: str) -> None:
    project = our_project(reader.database)
    assert project.alembic("upgrade", "013").code == 0
    reader.database.psql((ROOT / "tests/fixtures/book.sql").read_text("utf-8"), "-v", "ON_ERROR_STOP=1")
    assert project.alembic("upgrade", revision).code == 0


def _in_a_pipeline(reader: Reader, cloud: Cloud) -> None:
    """Before 014, with the script that the page links."""
    _at("013")(reader, cloud)
    shutil.copy(ROOT / "docs/how-to/pipeline/plan.sh", reader.directory)


def _without_015(reader: Reader, _: Cloud) -> None:
    """Nobody has written 015 yet."""
    checkout(reader, without="015_*")
    _held(reader)
    _load(reader, "014")


def _moved_on(reader: Reader, cloud: Cloud) -> None:
    """A row that 015 names has become another one."""
    _at("014")(reader, cloud)
    reader.database.execute("UPDATE active_positions SET ticker = 'NOPE' WHERE id = 13")


def _shop(sql: str) -> Doing:
    def begin(reader: Reader, _: Cloud) -> None:
        new_project(reader.directory, reader.database)
        reader.database.psql(sql, "-v", "ON_ERROR_STOP=1")

    return begin


def _history(reader: Reader, _: Cloud) -> None:
    """Revisions from before datafixes, in a repository."""
    new_project(reader.directory, reader.database)
    deeds = ('"DELETE FROM a"', '"UPDATE a SET b = 1"', 'open("big.sql").read()')
    for number, deed in enumerate(deeds):
        below = repr(str(number - 1)) if number else None
        text = f"revision, down_revision = '{number}', {below}\n\n\ndef upgrade():\n    op.execute({deed})\n"
        (reader.directory / f"migrations/versions/{number}.py").write_text(text, "utf-8")
    who = "git -c user.name=x -c user.email=x@example.org -c commit.gpgsign=false"
    done = reader.run(
        f"git init -q -b main && git add . && {who} commit -q -m First && git checkout -q -b work"
    )
    assert done.returncode == 0, done.stdout


def _deployed(reader: Reader, cloud: Cloud) -> None:
    """The Position Manager runs, and has checked what is open now."""
    logs = cloud.client("logs")
    group = "/ecs/ops-pipeline/position-manager-service"
    logs.create_log_group(logGroupName=group)
    for account, count in (("large", 3), ("tiny", 0)):
        logs.create_log_stream(logGroupName=group, logStreamName=account)
        said = f"{account}: Checking {count} open positions"
        event = {"timestamp": int(time.time() * 1000), "message": said}
        logs.put_log_events(logGroupName=group, logStreamName=account, logEvents=[event])


def _scheduled(reader: Reader, cloud: Cloud) -> None:
    """AWS takes the rule and the target that the page shows."""
    page = (ROOT / "docs/book/watch.md").read_text("utf-8")
    [targets] = [json.loads(part.split("```")[0]) for part in page.split("```json\n")[1:]]
    events = cloud.client("events")
    events.put_rule(Name="datafixes-watch", ScheduleExpression="rate(5 minutes)")
    assert events.put_targets(Rule="datafixes-watch", Targets=targets)["FailedEntryCount"] == 0
    [overrides] = json.loads(targets[0]["Input"])["containerOverrides"]
    assert overrides["command"][:3] == ["datafixes", "watch", "--once"]


def _items(reader: Reader) -> None:
    reader.database.psql(TABLE, "-v", "ON_ERROR_STOP=1")


def _flask(reader: Reader, _: Cloud) -> None:
    """The application is the one of the page."""
    [app] = blocks(ROOT / "docs/how-to/stacks/flask.md", "python")
    (reader.directory / "app.py").write_text(app.text, "utf-8")
    _items(reader)


def _registered(reader: Reader, _: Cloud) -> None:
    register_operations(reader.directory / "migrations/env.py")


def _asyncpg(reader: Reader, _: Cloud) -> None:
    """Alembic's template has been written; its ini gets the database."""
    ini, url = reader.directory / "alembic.ini", reader.database.url_for(driver="asyncpg")
    text = ini.read_text("utf-8").replace("driver://user:pass@localhost/dbname", url.replace("%", "%%"))
    ini.write_text(text, "utf-8")
    _registered(reader, _)
    _items(reader)


def _tenants(reader: Reader, _: Cloud) -> None:
    """Two tenants, the env.py and the revision of the page, and the revision before it."""
    revision, loop = blocks(ROOT / "docs/how-to/stacks/several-databases.md", "python")
    project = new_project(reader.directory, reader.database, TENANTS_ENV + loop.text)
    arguments = '"item", name="item_audit", schema=schema_of_run(op)'
    project.revision(
        "0001",
        None,
        f"op.create_audit_table({arguments})",
        top="from datafixes.operations import schema_of_run",
    )
    (reader.directory / "migrations/versions/0002.py").write_text(revision.text, "utf-8")
    for tenant in ("north", "south"):
        script = f"CREATE SCHEMA {tenant}; SET search_path TO {tenant}; {TABLE}"
        reader.database.psql(script, "-v", "ON_ERROR_STOP=1")


def _pyproject(reader: Reader, _: Cloud) -> None:
    """The project is configured by the page alone."""
    [toml] = blocks(ROOT / "docs/how-to/stacks/pyproject.md", "toml")
    new_project(reader.directory, reader.database)
    (reader.directory / "alembic.ini").unlink()
    (reader.directory / "pyproject.toml").write_text(toml.text, "utf-8")
    _items(reader)


def _sqlmodel(reader: Reader, _: Cloud) -> None:
    """The env.py of the page. Every SQLModel that a SQLAlchemy 2.0.0 satisfies imports what it lacks."""
    pytest.importorskip("sqlmodel", exc_type=ImportError)
    [env] = blocks(ROOT / "docs/how-to/stacks/drivers.md", "python")
    project_with_fix(reader.directory, reader.database, env.text)


LARGE = """
CREATE TABLE orders (id integer PRIMARY KEY, status text NOT NULL);
INSERT INTO orders SELECT n, 'unpaid' FROM generate_series(1, 20000) AS n;
"""


_running: list["subprocess.Popen[bytes]"] = []
"""The upgrade that the page's reader has begun at another terminal."""


def _large(reader: Reader, _: Cloud) -> None:
    """Many orders, their audit table, and the revision of the page."""
    [revision] = blocks(ROOT / "docs/how-to/large-tables.md", "python")
    project = new_project(reader.directory, reader.database)
    project.revision("0001", None, 'op.create_audit_table("orders", name="orders_audit")', top="# Copies.")
    (reader.directory / "migrations/versions/0002.py").write_text(revision.text, "utf-8")
    reader.database.psql(LARGE, "-v", "ON_ERROR_STOP=1")
    assert project.alembic("upgrade", "0001").code == 0


def _it_runs(reader: Reader, _: Cloud) -> None:
    """An upgrade makes batches, slowly."""
    reader.database.execute(
        """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
        CREATE TRIGGER slow BEFORE UPDATE ON orders EXECUTE FUNCTION slow()
        """
    )
    _running.append(
        subprocess.Popen(
            Project(reader.directory, reader.database).command_line("upgrade", "head"),
            cwd=reader.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
    )  # fmt: skip
    there = "SELECT to_regclass('datafix_range') IS NOT NULL"
    until(lambda: reader.database.value(there), "no run")
    until(lambda: reader.database.value("SELECT sum(batches) > 0 FROM datafix_range"), "no batch")


def _somebody_stops_it(reader: Reader, _: Cloud) -> None:
    """After the first batches, as `datafixes stop` does."""
    while _running:
        assert _running.pop().wait(60) == 255
        reader.database.execute("DROP TRIGGER slow ON orders")
    reader.database.execute(
        """
        CREATE OR REPLACE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE public.datafix_run SET wish = 'stop'
             WHERE outcome = 'running' AND direction = 'apply' AND wish IS NULL;
            RETURN NULL;
        END $$;
        CREATE OR REPLACE TRIGGER stop AFTER UPDATE ON datafix_range EXECUTE FUNCTION stop()
        """
    )


def _nobody_stops_it(reader: Reader, _: Cloud) -> None:
    reader.database.execute("DROP TRIGGER IF EXISTS stop ON datafix_range")


# moto runs no tasks of ECS: nobody can see them run.
_NO_TASKS = {"datafixes verify": "--skip service"}

STORIES: dict[str, Story] = {
    "README.md": Story(_shop(ORDERS)),
    "docs/how-to/write-a-fix.md": Story(_shop(SHOP)),
    "docs/how-to/large-tables.md": Story(
        _large,
        {
            "datafixes pause": _it_runs,
            "stopped, as somebody wished": _somebody_stops_it,
            "datafixes show": _nobody_stops_it,
            "undo=": _somebody_stops_it,
            "psql": _nobody_stops_it,
        },
    ),
    "docs/how-to/pipeline.md": Story(_in_a_pipeline),
    "docs/how-to/check-a-history.md": Story(_history),
    "docs/how-to/review-a-plan.md": Story(_at("013")),
    "docs/how-to/query-the-audit.md": Story(_at("head")),
    "docs/for-the-auditor.md": Story(_at("head")),
    "docs/how-to/personal-data.md": Story(_at("head")),
    "docs/how-to/undo-a-fix.md": Story(_at("head")),
    "docs/how-to/refused-reverts.md": Story(_at("head")),
    "docs/how-to/decline-a-fix.md": Story(_moved_on),
    "docs/close-phantom-positions.md": Story(empty, {"datafixes verify": _deployed}, _NO_TASKS),
    "docs/book/keep-the-book-true.md": Story(_without_015),
    "docs/book/verify.md": Story(_at("head"), {"datafixes verify": _deployed}, _NO_TASKS),
    "docs/how-to/stacks/flask.md": Story(_flask, {"datafixes new": _registered}),
    "docs/how-to/stacks/async.md": Story(lambda *_: None, {"datafixes new": _asyncpg}),
    "docs/how-to/stacks/several-databases.md": Story(_tenants),
    "docs/how-to/stacks/pyproject.md": Story(_pyproject),
    "docs/how-to/stacks/drivers.md": Story(_sqlmodel),
    "docs/book/watch.md": Story(_at("head"), {"put-targets": _scheduled}),
}
"""By page, how it begins. The tutorial has a test of its own, from the wheel on."""

ELSEWHERE = {
    "make ": "make test, make quick and make check run this test; tests/demo runs make demo",
    "python3 -m venv": "tests/docs/test_tutorial.py makes one, without the package index",
    "pip install": "the same",
    "aws events": "boto3 sends the same, before the command",
    "datafixes revert 12": "tests/migrations/test_revert_without_its_file.py",
    ".venv/bin/": "commands of a contributor, with the tools of this virtual environment",
    "TEST_POSTGRES=": "the same",
    "UPDATE_GOLDEN=": "the same",
}
"""Commands that pages show and that do not run here, and where they do."""


def runs_elsewhere(command: str) -> bool:
    """Whether a command is one of those."""
    return command.startswith(tuple(ELSEWHERE))
