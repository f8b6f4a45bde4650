"""Throw-away Alembic projects: an ini file, an env.py and revisions, run as a deploy pipeline runs its own."""

import io
import logging
import os
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent, indent

from alembic.config import CommandLine, Config

import alembic
from tests.servers import Database

ENV = """
from alembic import context
from datafixes.environment import run_migrations

run_migrations(context)
"""
"""What the tutorial tells a project to write."""

STOCK_ENV = "import datafixes.operations\n" + (
    Path(alembic.__file__).parent.joinpath("templates/generic/env.py").read_text(encoding="utf-8")
).replace("fileConfig(config.config_file_name)", "pass  # the logging of the tests is left alone")
"""What `alembic init` writes, with the one import that an Alembic without plugins needs."""

TABLE = """
CREATE TABLE item (id integer PRIMARY KEY, symbol text NOT NULL, status text NOT NULL, note text, amount numeric(12, 2));
INSERT INTO item VALUES (1, 'QCOM', 'open', NULL, 10), (2, 'NOW', 'open', 'x', 20), (3, 'SPY', 'open', NULL, 30);
"""
"""Three rows for fixes."""

FIX = """
DataFix(
    name="close_items",
    reason="Closed by hand.",
    change=Update("item", set={"status": "closed", "amount": sql("amount + 100")}, where="status = 'open'"),
    rows=Rows(key="id", identity={"symbol": "symbol"}, expect={1: "QCOM", 2: "NOW"}),
    audit="item_audit",
)
"""
"""A fix of two of the rows that must not run twice: it adds."""


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit code, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """What a pipeline's log shows last."""
        _, failed, message = self.out.rpartition("FAILED: ")
        return (message if failed else self.out + self.err).strip().splitlines()[-1]


@dataclass(frozen=True)
class Project:
    """An Alembic project: its directory, with alembic.ini, and the database that its commands work on."""

    directory: Path
    database: Database
    driver: str = "psycopg2"
    migrations: str = "migrations"

    @property
    def url(self) -> str:
        """The database, as the project's settings name it."""
        return self.database.url_for(driver=self.driver)

    def alembic(self, *arguments: str) -> Ran:
        """Run a command in this process: quick, and the exit code is Alembic's own."""
        out, err = io.StringIO(), io.StringIO()
        logger, handler = logging.getLogger("alembic"), logging.StreamHandler(err)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = self._exit_code(arguments)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
        return Ran(code, out.getvalue(), err.getvalue())

    def process(
        self, *arguments: str, environment: dict[str, str] | None = None, python: tuple[str, ...] = ()
    ) -> Ran:
        """Run a command in a process of its own, as a pipeline does."""
        done = subprocess.run(
            self.command_line(*arguments, python=python),
            capture_output=True, cwd=self.directory, env={**os.environ, **(environment or {})}, timeout=120, check=False,
        )  # fmt: skip
        return Ran(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def command_line(self, *arguments: str, python: tuple[str, ...] = ()) -> list[str]:
        """The command line of :meth:`process`."""
        ini = str(self.directory / "alembic.ini")
        return [sys.executable, *python, "-m", "alembic", "-c", ini, "-x", f"url={self.url}", *arguments]

    def _exit_code(self, arguments: tuple[str, ...]) -> int:
        command = CommandLine(prog="alembic")
        options = command.parser.parse_args([*arguments])
        # Without the ini file: its logging would replace what the tests listen to.
        config = Config(cmd_opts=options)
        config.set_main_option("script_location", str(self.directory / self.migrations))
        config.set_main_option("path_separator", "os")
        config.set_main_option("sqlalchemy.url", self.url.replace("%", "%%"))
        try:
            command.run_cmd(config, options)
        except SystemExit as exit_:
            if isinstance(exit_.code, str):
                print(exit_.code, file=sys.stderr)
                return 1
            return (exit_.code or 0) & 255  # what the shell sees of Alembic's -1
        except Exception:
            traceback.print_exc()
            return 1
        return 0

    def script(self, step: str, *told: str) -> str:
        """What `alembic upgrade STEP --sql` prints; a downgrade where STEP goes down."""
        start, _, end = step.partition(":")
        down = end == "base" or (start != "base" and end < start)
        ran = self.alembic(*told, "downgrade" if down else "upgrade", step, "--sql")
        assert ran.code == 0, ran.err
        return ran.out

    @property
    def versions(self) -> set[str]:
        """The revisions in the version table."""
        return {version for (version,) in self.database.rows("SELECT version_num FROM alembic_version")}

    @property
    def outcomes(self) -> list[str]:
        """The outcomes in the ledger, in the order of the runs."""
        return [
            outcome for (outcome,) in self.database.rows("SELECT outcome FROM datafix_run ORDER BY run_id")
        ]

    def revision(self, name: str, after: str | None, up: str, down: str = "pass", *, top: str = "") -> None:
        """Write a revision; `fix` in it is the fix that `top` declares, or the one of this module."""
        top = dedent(top).strip() or f"fix = {FIX.strip()}"
        text = (
            "import datetime as dt\nimport decimal\nimport os\nimport uuid\n\nimport sqlalchemy as sa\nfrom alembic import context, op\n"
            "from datafixes import DataFix, DatafixError, Delete, Insert, Rows, Update, sql\n\n"
            f"revision = {name!r}\ndown_revision = {after!r}\nbranch_labels = None\ndepends_on = None\n\n{top}\n\n\n"
            f"def upgrade() -> None:\n{indent(dedent(up).strip(), '    ')}\n\n\n"
            f"def downgrade() -> None:\n{indent(dedent(down).strip(), '    ')}\n"
        )
        (self.directory / f"migrations/versions/{name}.py").write_text(text, encoding="utf-8")

    def env(self, text: str) -> None:
        """Write env.py."""
        (self.directory / "migrations/env.py").write_text(dedent(text), encoding="utf-8")

    def write_ini(self) -> None:
        """Write alembic.ini."""
        ini = "[alembic]\nscript_location = %(here)s/{}\npath_separator = os\nsqlalchemy.url = {}\n"
        text = ini.format(self.migrations, self.url.replace("%", "%%"))
        (self.directory / "alembic.ini").write_text(text, encoding="utf-8")

    def on(self, database: Database, driver: str = "psycopg2") -> "Project":
        """The same project for another database."""
        return replace(self, database=database, driver=driver)


def register_operations(env: Path) -> None:
    """Add to a stock env.py the one import that an Alembic without plugins needs."""
    if find_spec("alembic.runtime.plugins") is None:
        env.write_text(f"import datafixes.operations\n{env.read_text(encoding='utf-8')}", encoding="utf-8")


def our_project(database: Database) -> Project:
    """The ops-pipeline's own migrations."""
    return Project(Path(__file__).parents[1], database, migrations="alembic")


def new_project(directory: Path, database: Database, env: str = ENV) -> Project:
    """A project without revisions."""
    (directory / "migrations/versions").mkdir(parents=True, exist_ok=True)
    project = Project(directory, database)
    project.write_ini()
    project.env(env)
    return project


def project_with_fix(
    directory: Path, database: Database, env: str = ENV, *, up: str = "op.apply_datafix(fix)", top: str = ""
) -> Project:
    """Revisions `a` (the audit table) and `b` (the fix), and a database with three rows at `a`."""
    project = new_project(directory, database, env)
    make, drop = 'op.create_audit_table("item", name="item_audit")', 'op.drop_audit_table("item_audit")'
    project.revision("a", None, make, drop, top="# Copies.")
    project.revision("b", "a", up, "op.revert_datafix(fix)", top=top)
    database.psql(TABLE, "-v", "ON_ERROR_STOP=1")
    ran = project.alembic("upgrade", "a")
    assert ran.code == 0, ran.out + ran.err
    return project


def statements(script: str) -> list[str]:
    """The statements of a script, each with the text before it and its semicolon."""
    found, start, position = [], 0, 0
    while position < len(script):
        skipped = _skip(script, position)
        if skipped == position + 1 and script[position] == ";":
            found.append(script[start:skipped])
            start = skipped
        position = skipped
    assert not script[start:].strip()
    return found


def _skip(script: str, position: int) -> int:
    """The end of a comment, of a quoted text, or of a single character."""
    rest = script[position:]
    if rest.startswith("--"):
        return _after(script, "\n", position)
    if rest.startswith("'"):
        return _after(script, "'", position + 1)
    if rest.startswith("$") and (end := rest.find("$", 1)) > 0 and rest[1:end].replace("_", "").isalnum():
        return _after(script, rest[: end + 1], position + end + 1)
    return position + 1


def _after(script: str, mark: str, position: int) -> int:
    return script.index(mark, position) + len(mark)
