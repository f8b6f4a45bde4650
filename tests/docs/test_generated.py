"""The references that follow from tables in the code, and the plans that pages show, are as the code has them."""

import re
from pathlib import Path

import pytest

from datafixes.book import settings as book
from datafixes.check.finding import CATALOGUE
from datafixes.errors import BY_SQLSTATE
from datafixes.settings import CHECK_SETTINGS, SETTINGS
from tests.docs.generated import compare, settings, table
from tests.docs.pages import ROOT, Reader, blocks
from tests.docs.stories import ORDERS
from tests.projects import new_project
from tests.servers import Database

REFERENCE = ROOT / "docs/reference"

SECTIONS = (("The engine", SETTINGS), ("Check", CHECK_SETTINGS), ("The trading book", book.SETTINGS))
"""Heading and table of each group of settings."""

README = ROOT / "README.md"


def test_the_settings() -> None:
    compare(REFERENCE / "settings.md", "settings", settings(SECTIONS))


def test_the_check_codes() -> None:
    rows = [
        (f"`{rule.code}`", rule.severity, rule.meaning, _code(rule.remedy)) for rule in CATALOGUE.values()
    ]
    compare(REFERENCE / "check-codes.md", "codes", table(("code", "severity", "found", "what to do"), rows))


def test_the_refusals() -> None:
    rows = [
        (f"`{state}`", f"`{kind.__name__}`", (kind.__doc__ or "").partition("\n")[0])
        for state, kind in sorted(BY_SQLSTATE.items())
    ]
    compare(REFERENCE / "commands.md", "refusals", table(("SQLSTATE", "class", "meaning"), rows))


def _code(text: str) -> str:
    """What begins like code in a remedy, as code: a forge would take some of it for markup."""
    return re.sub(r"(op\.\w+\([^)]*\)|# datafixes: ignore\[\w+\]|\w+\([^ ]*=[^)]*\))", r"`\1`", text)


@pytest.fixture
def plan(database: Database, tmp_path: Path) -> list[str]:
    """What `datafixes plan` prints about README's fix."""
    [fix] = [block.text for block in blocks(README, "python") if "down_revision" in block.text]
    project = new_project(tmp_path, database)
    project.revision("0041", None, 'op.create_audit_table("orders", name="orders_audit")', top="# Copies.")
    (tmp_path / "migrations/versions/0042.py").write_text(fix, "utf-8")
    database.psql(ORDERS, "-v", "ON_ERROR_STOP=1")
    assert project.alembic("upgrade", "0041").code == 0
    planned = Reader(database, tmp_path).run("datafixes plan 2>/dev/null")
    assert planned.returncode == 0, planned.stdout
    return planned.stdout.rstrip().splitlines()


def _fenced(lines: list[str]) -> str:
    return "```text\n" + "".join(f"{line}\n" for line in lines) + "```\n"


def test_readme_shows_the_plan_of_its_fix(plan: list[str]) -> None:
    # What the fix does: not where, and not which locks it took for how long.
    steps = plan[next(n for n, line in enumerate(plan) if line.startswith("0042")) :]
    locks = next(n for n, line in enumerate(steps) if line.startswith("  Locks"))
    cut = steps[: locks - 1]
    assert len(cut) <= 15
    compare(README, "plan", _fenced(cut))


def test_the_page_about_plans_shows_all_of_it(plan: list[str]) -> None:
    # The server and the time are the reader's own.
    text = re.sub(r"(?m)^(Database +).*", r"\1shop at db.example.com", "\n".join(plan))
    text = re.sub(r"\b\d+\.\d+ s\b", "0.05 s", text)
    compare(ROOT / "docs/how-to/review-a-plan.md", "whole plan", _fenced(text.splitlines()))


def test_readme_says_on_its_first_screen_what_it_is_about() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 200
    first = "\n".join(lines[:40])
    [fix] = [block.text for block in blocks(README, "python") if "down_revision" in block.text]
    assert fix in first
    assert len([line for line in fix.splitlines() if line]) <= 20
    for word in ("Alembic", "PostgreSQL", "review", "audit", "undo"):
        assert word in first
