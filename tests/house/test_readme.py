"""Every command in README runs, in the order in which it stands there, and every query answers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import new_project
from tests.servers import LEDGER, Database

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
# What stands in README for a reader's own server.
EXAMPLE_URL = "postgresql://postgres@localhost:5432/ops"
CONFLICT = "UPDATE active_positions SET exit_price = 147.10 WHERE id = 16"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(command: str, database: Database, directory: Path) -> subprocess.CompletedProcess[str]:
    paths = (str(Path(sys.executable).parent), str(database.binaries), os.environ["PATH"])
    url = database.url.replace("postgresql+psycopg2", "postgresql")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace(EXAMPLE_URL, f"'{url}'")],
        cwd=directory,
        env=os.environ | {"PATH": os.pathsep.join(paths), "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the commands need of the project, so that a file they write lands elsewhere."""
    for name in ("alembic.ini", "alembic", "tests/fixtures"):
        source = ROOT / name
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def test_every_command_and_every_query_runs(database: Database, checkout: Path) -> None:
    # "In your own project" is a walk through another project, with a test of its own.
    theirs = README[README.index("## In your own project") : README.index("## In a pipeline")]
    commands = [command for command in blocks("sh") if command not in theirs]
    queries = blocks("sql")
    assert len(commands) >= 7
    assert len(queries) >= 5
    for command in commands:
        if "on_conflict" in command:
            for query in queries:
                assert database.rows(query) is not None
            database.execute(CONFLICT)
        done = run(command, database, checkout)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert database.value("SELECT count(*) FROM active_positions") == 17


SHOP = """
CREATE TABLE orders (id integer PRIMARY KEY, order_number text, customer_id integer, net numeric, total numeric, tax_class text);
CREATE TABLE order_lines (order_id integer REFERENCES orders ON DELETE CASCADE, place integer, PRIMARY KEY (order_id, place));
CREATE TABLE customers (id integer PRIMARY KEY, name text);
INSERT INTO customers VALUES (4, 'ACME INC'), (7, 'Acme Inc');
INSERT INTO orders SELECT n, 'A-' || n + 6, CASE WHEN n < 13 THEN 4 ELSE 7 END, n, n FROM generate_series(11, 15) AS n;
INSERT INTO orders VALUES (90, 'LOADTEST-1', 4, 1, 1, 'x'), (91, 'LOADTEST-2', 4, 1, 1, 'x');
UPDATE orders SET tax_class = 'x' WHERE id > 12;
INSERT INTO order_lines SELECT 90, n FROM generate_series(1, 3) AS n UNION ALL SELECT 91, n FROM generate_series(1, 2) AS n;
"""


def test_the_fixes_that_readme_shows_run_and_come_back(tmp_path: Path, database: Database) -> None:
    shown = [block for block in blocks("python") if "down_revision" in block]
    assert len(shown) == 3
    project = new_project(tmp_path, database)
    tables = ("orders", "order_lines", "customers")
    project.revision(
        "0041", None, "\n".join(f"op.create_audit_table({t!r}, name={t + '_audit'!r})" for t in tables)
    )
    for block in shown:
        number = re.search(r'^revision = "(.+)"', block, re.MULTILINE)
        assert number
        (tmp_path / f"migrations/versions/{number[1]}.py").write_text(block, "utf-8")
    database.psql(SHOP, "-v", "ON_ERROR_STOP=1")
    assert project.alembic("upgrade", "0041").code == 0
    own = (*LEDGER, *(f"public.{table}_audit" for table in tables), "public.alembic_version")
    before = database.dump(*own)
    for _ in range(2):
        ran = project.alembic("upgrade", "head")
        assert ran.code == 0, ran.out
        assert project.outcomes[-3:] == ["applied"] * 3
        assert database.dump(*own) != before
        assert project.alembic("downgrade", "0041").code == 0
        assert database.dump(*own) == before
    script = project.script("0041:0044")
    database.psql(script, "-v", "ON_ERROR_STOP=1")
    assert project.outcomes[-3:] == ["applied"] * 3


def test_readme_names_every_setting() -> None:
    from datafixes.book import settings as book
    from datafixes.settings import SETTINGS

    for setting in (*SETTINGS, *book.SETTINGS):
        assert f"`{setting.name}`" in README, setting.name
        if setting.default:
            assert setting.default in README, f"{setting.name}: {setting.default}"
