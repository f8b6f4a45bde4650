"""What the commands cost, and what a writer notices of a fix: ``make bench``.

Commands run in processes of their own, against one server. Ratios are between commands of the same round.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from datafixes.database.embedded import embedded_server
from tests.benchmarks.bench import SERVER
from tests.benchmarks.measuring import connect, run, settle
from tests.benchmarks.shapes import SHAPES

ENV = """
from alembic import context
from datafixes.environment import run_migrations

run_migrations(context)
"""
PLAIN_ENV = """
from alembic import context
from sqlalchemy import create_engine

with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
from alembic import op
from datafixes import DataFix, Rows, Update, sql

revision, down_revision = {name!r}, {after!r}
fix = DataFix(name="close", reason="benchmark", change=Update("book", set={set}, where="{where}"),
              rows=Rows(key="id", expect={rows}), audit="book_audit")


def upgrade():
    {up}


def downgrade():
    {down}
"""
EMPTY = "revision, down_revision = {name!r}, {after!r}\n\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n"
# Without the plugin, Alembic is alone.
ALONE = (
    "import importlib.metadata as m; m.entry_points = lambda **_: (); from alembic.config import main; main()"
)
BOTH = "from alembic.config import main; main()"
# Modules are compiled once, as where they are installed.
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Project:
    """A project of its own, in a temporary folder."""

    def __init__(self, directory: Path, url: str, env: str) -> None:
        self.directory, self.url = directory, url
        (directory / "migrations/versions").mkdir(parents=True)
        ini = f"[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\nsqlalchemy.url = {url.replace('%', '%%')}\n"
        (directory / "alembic.ini").write_text(ini, encoding="utf-8")
        (directory / "migrations/env.py").write_text(env, encoding="utf-8")

    def revision(self, name: str, text: str) -> None:
        """Write a revision."""
        (self.directory / f"migrations/versions/{name}.py").write_text(text, encoding="utf-8")

    def timed(self, program: str, *arguments: str, code: int = 0) -> tuple[float, float]:
        """Seconds by the clock and of the process's own CPU."""
        before, began = os.times(), time.perf_counter()
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(
            command, cwd=self.directory, env=COMPILED, check=False, capture_output=True, text=True
        )
        wall, after = time.perf_counter() - began, os.times()
        if done.returncode != code:
            sys.exit(
                f"{' '.join(arguments)} ended with exit code {done.returncode}: {done.stderr or done.stdout}"
            )
        return (
            wall,
            after.children_user + after.children_system - before.children_user - before.children_system,
        )

    def alembic(self, *arguments: str, program: str = BOTH) -> tuple[float, float]:
        """The same of an Alembic command."""
        return self.timed(program, *arguments)

    def datafixes(self, *arguments: str, code: int = 0) -> tuple[float, float]:
        """The same of a command of datafixes."""
        program = "from datafixes.cli.main import main; raise SystemExit(main())"
        return self.timed(program, *arguments, code=code)


@contextmanager
def project(url: str, env: str = ENV) -> Iterator[Project]:
    with tempfile.TemporaryDirectory() as directory:
        yield Project(Path(directory), url, env)


def with_fix(project: Project, url: str, rows: int, table_rows: int) -> None:
    """A table, at the revision before a fix of so many of its rows."""
    with psycopg2.connect(url.replace("postgresql+psycopg2", "postgresql")) as connection:
        connection.cursor().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    connection = connect(url)
    run(connection, SHAPES["indexes"].table.format(name="book", rows=table_rows))
    run(connection, *(f"CREATE INDEX ON book ({column})" for column in SHAPES["indexes"].indexes))
    settle(connection, "book")
    connection.close()
    change = {
        name: value if not isinstance(value, dict) else f"sql({value['sql']!r})"
        for name, value in SHAPES["indexes"].set.items()
    }
    given = ", ".join(
        f"{name!r}: {value if str(value).startswith('sql(') else repr(value)}"
        for name, value in change.items()
    )
    common = {"set": "{" + given + "}", "where": f"status = 'open' AND id <= {rows}", "rows": rows}
    make, drop = "op.create_audit_table('book', name='book_audit')", "op.drop_audit_table('book_audit')"
    project.revision("a", REVISION.format(name="a", after=None, up=make, down=drop, **common))
    project.revision(
        "b",
        REVISION.format(
            name="b", after="a", up="op.apply_datafix(fix)", down="op.revert_datafix(fix)", **common
        ),
    )
    project.alembic("upgrade", "a")


def median(measure: Callable[[], float], rounds: int) -> float:
    """The median of several measurements."""
    return statistics.median(measure() for _ in range(rounds))


def nothing_to_do(url: str, rounds: int) -> None:
    """``alembic upgrade head`` at head, with datafixes and without."""
    with project(url) as ours, project(url, PLAIN_ENV) as plain:
        for one in (ours, plain):
            for number in range(30):
                name, after = f"r{number:02}", f"r{number - 1:02}" if number else None
                one.revision(name, EMPTY.format(name=name, after=after))
        plain.alembic("upgrade", "head", program=ALONE)
        ours.alembic("upgrade", "head")
        ratios = [
            ours.alembic("upgrade", "head")[1] / plain.alembic("upgrade", "head", program=ALONE)[1]
            for _ in range(rounds)
        ]
    print(
        f"{'upgrade with nothing to do, CPU':34} {statistics.median(ratios):6.2f}   of Alembic alone, goal <= 1.05"
    )


def seven_rows(url: str, rounds: int) -> None:
    """Where the time of a small fix goes, from the start of ``alembic upgrade`` to its exit."""
    with project(url) as one:
        with_fix(one, url, 7, 1_000)
        up, down = [], []
        for _ in range(rounds):
            up.append(one.alembic("upgrade", "b")[0])
            down.append(one.alembic("downgrade", "a")[0])
        python = median(lambda: one.timed("pass")[0], rounds)
        imports = median(
            lambda: one.timed("import alembic.config, sqlalchemy, psycopg2, datafixes.operations")[0], rounds
        )
        idle = median(lambda: one.alembic("current")[0], rounds)
    whole = statistics.median(up)
    print(
        f"{'a fix of 7 rows, alembic upgrade':34} {whole * 1000:6.0f}   ms: interpreter {python * 1000:.0f},"
        f" imports {(imports - python) * 1000:.0f}, Alembic and connection {(idle - imports) * 1000:.0f},"
        f" engine and fix {(whole - idle) * 1000:.0f}; its downgrade {statistics.median(down) * 1000:.0f}"
    )


def plan_and_questions(url: str, rows: int, rounds: int) -> None:
    """A plan beside what it rehearses; ``open`` and ``row`` beside a bare UPDATE of the same rows."""
    with project(url) as one:
        with_fix(one, url, rows, rows)
        ratios = []
        for _ in range(rounds):
            planned = one.datafixes("plan")[0]
            ratios.append(planned / (one.alembic("upgrade", "b")[0] + one.alembic("downgrade", "a")[0]))
        one.alembic("upgrade", "b")
        print(
            f"{f'plan of {rows:,} rows':34} {statistics.median(ratios):6.2f}   of upgrade + downgrade, goal <= 1.1"
        )
        connection = connect(url)
        settle(connection, "book", "book_audit")
        start = median(lambda: one.datafixes("history")[0], rounds)
        began = time.perf_counter()
        run(connection, "BEGIN", f"UPDATE book SET {SHAPES['indexes'].assignments}", "ROLLBACK")
        bare = time.perf_counter() - began
        for question, code, *arguments in (
            ("open", 0, "open"),
            ("row, a key that changed", 0, "row", "book", str(rows // 2)),
            ("row, a key that did not", 1, "row", "book", str(rows * 10)),
        ):
            spent = statistics.median(one.datafixes(*arguments, code=code)[0] for _ in range(rounds)) - start
            print(
                f"{question:34} {spent / bare:6.2f}   of the bare UPDATE: {spent * 1000:.0f} ms more than history"
            )
        connection.close()


def writer(url: str, rows: int) -> None:
    """How long single-row updates of other rows take beside a fix, and without one."""
    with project(url) as one:
        with_fix(one, url, rows, rows + 1_000)
        alone = _writing(url, rows, lambda: time.sleep(5))
        beside = _writing(url, rows, lambda: one.alembic("upgrade", "b"))
        print(
            f"{'p99 of a writer beside a fix':34} {beside / alone:6.2f}   of a writer alone"
            f" ({beside * 1000:.1f} ms / {alone * 1000:.1f} ms)"
        )


def _writing(url: str, rows: int, meanwhile: Callable[[], object]) -> float:
    taken: list[float] = []
    done = threading.Event()

    def write() -> None:
        connection = connect(url)
        while not done.is_set():
            began = time.perf_counter()
            run(
                connection, f"UPDATE book SET checks = checks + 1 WHERE id = {rows + random.randint(1, 1000)}"
            )
            taken.append(time.perf_counter() - began)
            time.sleep(0.002)
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    meanwhile()
    done.set()
    thread.join()
    return statistics.quantiles(taken, n=100)[98]


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgresql", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    with embedded_server(None, options.postgresql, SERVER) as url:
        nothing_to_do(url, 2 * options.rounds)
        seven_rows(url, options.rounds)
        plan_and_questions(url, options.rows, options.rounds)
        writer(url, options.rows)


if __name__ == "__main__":
    main()
