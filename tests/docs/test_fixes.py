"""The fixes and the tests of fixes that pages show: they run, they come back, and check finds nothing in them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datafixes.cli.main import run
from tests.docs.pages import ROOT, Reader, blocks, fixes
from tests.docs.stories import SHOP, checkout
from tests.projects import new_project
from tests.servers import LEDGER, Database

PAGE = ROOT / "docs/how-to/write-a-fix.md"
TABLES = ("orders", "order_lines", "customers")


def test_the_fixes_that_the_page_shows_run_and_come_back(tmp_path: Path, database: Database) -> None:
    shown = [block.text for block in blocks(PAGE, "python") if "down_revision" in block.text]
    assert len(shown) == 4
    project = new_project(tmp_path, database)
    made = "\n".join(f"op.create_audit_table({t!r}, name={t + '_audit'!r})" for t in TABLES)
    project.revision("0041", None, made)
    for text in shown:
        number = re.search(r'^revision = "(.+)"', text, re.MULTILINE)
        assert number
        (tmp_path / f"migrations/versions/{number[1]}.py").write_text(text, "utf-8")
    database.psql(SHOP, "-v", "ON_ERROR_STOP=1")
    assert project.alembic("upgrade", "0041").code == 0
    own = (*LEDGER, *(f"public.{table}_audit" for table in TABLES), "public.alembic_version")
    before = database.dump(*own)
    for _ in range(2):
        ran = project.alembic("upgrade", "head")
        assert ran.code == 0, ran.out
        assert project.outcomes[-4:] == ["applied"] * 4
        assert database.dump(*own) != before
        assert project.alembic("downgrade", "0041").code == 0
        assert database.dump(*own) == before
    script = project.script("0041:0045")
    database.psql(script, "-v", "ON_ERROR_STOP=1")
    assert project.outcomes[-4:] == ["applied"] * 4


def test_the_declarations_of_the_reference_run_and_come_back(tmp_path: Path, database: Database) -> None:
    [shown] = blocks(ROOT / "docs/reference/declarations.md", "python")
    names = re.findall(r"^(\w+) = DataFix\(", shown.text, re.MULTILINE)
    assert len(names) == 2
    project = new_project(tmp_path, database)
    tables = {
        "coupons": "id integer PRIMARY KEY, expires_on date",
        "currencies": "code text PRIMARY KEY, name text",
    }
    for table, columns in tables.items():
        database.execute(f"CREATE TABLE {table} ({columns})")
    database.execute(
        "INSERT INTO coupons VALUES (3, '2019-01-01'), (4, '2019-05-01'), (8, '2019-12-31'), (9, '2020-01-01')",
        "INSERT INTO currencies VALUES ('USD', 'Dollar')",
    )
    made = "\n".join(f"op.create_audit_table({table!r}, name={table + '_audit'!r})" for table in tables)
    project.revision("a", None, made)
    ups = "\n".join(f"op.apply_datafix({name})" for name in names)
    downs = "\n".join(f"op.revert_datafix({name})" for name in reversed(names))
    project.revision("b", "a", ups, downs, top=shown.text)
    assert project.alembic("upgrade", "a").code == 0
    contents = (
        "SELECT array(SELECT id FROM coupons ORDER BY 1), array(SELECT code FROM currencies ORDER BY 1)"
    )
    before = database.rows(contents)
    ran = project.alembic("upgrade", "b")
    assert ran.code == 0, ran.err
    assert database.rows(contents) == [([9], ["EUR", "USD"])]
    assert project.alembic("downgrade", "a").code == 0
    assert database.rows(contents) == before


def test_check_finds_nothing_in_any_fix_that_a_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = fixes()
    assert len(shown) == 7
    for number, text in enumerate(shown):
        (tmp_path / f"{number}.py").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    # README shows, shorter, one of those of the page: two files that declare one fix would be a finding.
    for files in (["0.py"], ["1.py"], ["2.py", "3.py", "4.py"]):
        assert run(["check", *files]) == 0
        assert capsys.readouterr().out.startswith("Nothing found in ")


def test_the_tests_that_the_page_shows_pass(tmp_path: Path, database: Database) -> None:
    shown = [
        block.text
        for block in blocks(ROOT / "docs/how-to/test-a-fix.md", "python")
        if "def test" in block.text
    ]
    assert len(shown) == 2
    checkout(Reader(database, tmp_path))
    for number, text in enumerate(shown):
        (tmp_path / f"tests/test_{number}.py").write_text(text, "utf-8")
    url = database.url.replace("postgresql+psycopg2", "postgresql")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--datafix-url", url, "tests"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    for check in ("up-down-up", "offline", "foreign-write", "empty"):
        assert check in done.stdout
