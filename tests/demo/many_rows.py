"""A fix of many rows in the demo: it is killed in the middle, goes on, is killed again, and is taken back."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
from sqlalchemy.engine import make_url

from tests.demo.terminal import check, command, heading, say, statement, typed

ROWS = 10_000
_ENV = "from alembic import context\n\nfrom datafixes.environment import run_migrations\n\nrun_migrations(context)\n"
_INI = "[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\n"
_COPIES = """\
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_audit_table("orders", name="orders_audit")


def downgrade() -> None:
    op.drop_audit_table("orders_audit")
"""
_FIX = """\
from alembic import op
from datafixes import AtMost, Batches, DataFix, Rows, Update, sql

revision, down_revision = "0002", "0001"

fix = DataFix(
    name="gross_up",
    reason="Amounts were imported without tax.",
    change=Update("orders", set={"amount": sql("amount * 1.19"), "taxed": True}, where="NOT taxed"),
    rows=Rows(key="id", expect=AtMost(50_000)),
    audit="orders_audit",
    batches=Batches(rows=500, pause="100ms"),
)


def upgrade() -> None:
    op.apply_datafix(fix)


def downgrade() -> None:
    op.revert_datafix(fix)
"""
_TABLE = f"""
CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(12, 2) NOT NULL, taxed boolean NOT NULL DEFAULT false);
INSERT INTO orders SELECT n, n, false FROM generate_series(1, {ROWS}) AS n;
"""


def kill_and_go_on(environment: Mapping[str, str]) -> None:
    """A fix in batches, killed twice: the first time it goes on, the second time it is taken back."""
    heading("7. Many rows")
    say(
        f"{ROWS:,} orders lack their tax. One transaction would lock them all until its end; with batches=Batches(rows=500), each "
        "batch is a transaction of its own, with its copies and its proof."
    )
    with _project(environment) as (directory, known, connection):
        check("exit code 0", command(("alembic", "upgrade", "0001"), directory, known) == 0)
        before = _fingerprint(connection)
        done = _killed(directory, known, connection)
        check(
            f"{done:,} of {ROWS:,} orders are changed, each with its copy",
            0 < done < ROWS and _copied(connection, done),
        )
        check(
            "the database is still at revision 0001",
            _value(connection, "SELECT version_num FROM alembic_version") == "0001",
        )
        check("exit code 0", command(("datafixes", "history"), directory, known) == 0)
        say("The same command goes on where it stopped.")
        check("exit code 0", command(("alembic", "upgrade", "head"), directory, known) == 0)
        check(
            "every order is changed once, and no other way",
            _once(connection) == ROWS and _copied(connection, ROWS),
        )
        say("A downgrade takes it back, in batches too.")
        check("exit code 0", command(("alembic", "downgrade", "-1"), directory, known) == 0)
        check("every value is as it was, to the bit", _fingerprint(connection) == before)
        say("Once more, and this time it is not wanted after all. In the middle:")
        _killed(directory, known, connection)
        undone = command(("alembic", "-x", "undo=gross_up", "upgrade", "head"), directory, known)
        check(f"exit code {undone}: taken back, and nothing else was upgraded", undone != 0)
        check("every value is as it was, to the bit", _fingerprint(connection) == before)


def _killed(directory: Path, environment: Mapping[str, str], connection: Any) -> int:
    """Upgrade, and kill the process and its backend in the middle; the number of orders that are changed."""
    typed("alembic upgrade head & sleep 2; kill -9 %1")
    program = Path(sys.executable).with_name("alembic")
    done = subprocess.Popen(
        [str(program), "upgrade", "head"],
        cwd=directory, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while (
        _value(connection, "SELECT count(*) FROM orders WHERE taxed") < 2_000 and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    done.send_signal(signal.SIGKILL)
    done.wait()
    # The server would go on for some seconds with what it was told: let it crash with its client.
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity\n"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    statement(f"{ending};")
    while _value(connection, f"SELECT count(*) FROM ({ending}) AS _"):
        time.sleep(0.05)
    return int(_value(connection, "SELECT count(*) FROM orders WHERE taxed"))


@contextmanager
def _project(environment: Mapping[str, str]) -> Iterator[tuple[Path, dict[str, str], Any]]:
    """A project of two revisions, its environment, and a connection to its database."""
    url = make_url(environment["DATABASE_URL"])
    with closing(_connect(url)) as own, own.cursor() as cursor:
        cursor.execute("CREATE DATABASE shop")
    shop = url.set(database="shop")
    known = dict(environment) | {"DATABASE_URL": shop.render_as_string(hide_password=False)}
    with TemporaryDirectory(prefix="shop-") as place, closing(_connect(shop)) as connection:
        directory = Path(place)
        (directory / "migrations/versions").mkdir(parents=True)
        (directory / "alembic.ini").write_text(_INI, encoding="utf-8")
        (directory / "migrations/env.py").write_text(_ENV, encoding="utf-8")
        (directory / "migrations/versions/0001_copies.py").write_text(_COPIES, encoding="utf-8")
        (directory / "migrations/versions/0002_gross_up.py").write_text(_FIX, encoding="utf-8")
        with connection.cursor() as cursor:
            cursor.execute(_TABLE)
        yield directory, known, connection


def _connect(url: Any) -> Any:
    connection = psycopg2.connect(
        host=url.query["host"], port=url.query["port"], user=url.username, dbname=url.database
    )
    connection.autocommit = True
    return connection


def _value(connection: Any, query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        [(value,)] = cursor.fetchall()
    return value


def _fingerprint(connection: Any) -> str:
    return str(_value(connection, "SELECT md5(string_agg(o::text, E'\\n' ORDER BY id)) FROM orders AS o"))


def _copied(connection: Any, rows: int) -> bool:
    return bool(
        _value(connection, "SELECT count(DISTINCT id) FROM orders_audit WHERE audit_image = 'before'") == rows
    )


def _once(connection: Any) -> int:
    return int(_value(connection, "SELECT count(*) FROM orders WHERE taxed AND amount = round(id * 1.19, 2)"))
