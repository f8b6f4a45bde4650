"""In a project that has no trading book: nothing of one is shown, and AWS is asked nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import ENV, Ran

ROOT = Path(__file__).parents[2]
THEIRS = re.compile(r"broker|\becs\b|\bsns\b|alpaca|ops.pipeline|us-west|the book|trading", re.IGNORECASE)
INI = "[alembic]\nscript_location = migrations\n"

# Ends with 77 where boto3 was imported.
WATCHED = """
import atexit, os, sys
from datafixes.cli.main import run
code = run(sys.argv[1:])
loaded = [name for name in sys.modules if name.partition(".")[0] in ("boto3", "botocore")]
sys.exit(77 if loaded else code)
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """The project of somebody who has installed the package."""
    (tmp_path / "migrations/versions").mkdir(parents=True)
    (tmp_path / "migrations/env.py").write_text(ENV, "utf-8")
    (tmp_path / "alembic.ini").write_text(INI, "utf-8")
    return tmp_path


def run(directory: Path, *arguments: str, **environment: str) -> Ran:
    """A command that ends with 77 where it has imported what talks to AWS."""
    return process(directory, "-c", WATCHED, *arguments, **environment)


def process(directory: Path, *arguments: str, **environment: str) -> Ran:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("where",), 1),
        (("where", "--format", "json"), 1),
        (("-x", "url=embedded:", "where"), 0),
        (("history",), 1),
        (("doctor",), 0),
        (("-x", "url=sqlite://", "where"), 1),
    ],
)
def test_nothing_of_a_broker_is_shown_and_aws_is_not_asked(
    foreign: Path, arguments: tuple[str, ...], code: int
) -> None:
    # As on a machine that has credentials and a region for other things.
    ran = run(
        foreign, *arguments, AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY="x", AWS_REGION="eu-west-1"
    )
    assert ran.code == code, ran.out + ran.err
    assert THEIRS.findall(ran.out + ran.err) == []


def test_alembic_names_the_places_and_asks_aws_nothing(foreign: Path) -> None:
    code = "import sys\nfrom alembic.config import main\ntry:\n    main(['upgrade', 'head'])\nfinally:\n    print('boto3' in sys.modules)"
    ran = process(foreign, "-c", code)
    assert ran.code != 0
    assert ran.out.splitlines()[-1] == "False"
    told = ran.out + ran.err
    assert "environment DATABASE_URL: not set" in told
    assert (
        "AWS: not asked, because alembic.ini [datafixes] does not set aws_parameters and aws_secret" in told
    )
    assert "export DATABASE_URL=" in told
    assert THEIRS.findall(told) == []


def test_the_books_commands_can_be_called_where_they_are_not_listed(foreign: Path) -> None:
    for name in ("reconcile", "propose", "verify", "watch"):
        shown = run(foreign, name, "--help")
        assert (shown.code, f"Usage: datafixes {name}" in shown.out) == (0, True)
        assert f"\n  {name} " not in run(foreign, "--help").out
        refused = run(foreign, name)
        assert refused.code == 2
        assert refused.err.startswith("FAILED: Not set: book_table (the table of the book: SCHEMA.TABLE);")
        assert "Set book_table = … in the section [datafixes] of alembic.ini" in refused.err


@pytest.mark.parametrize("place", ["ini", "environment", "flag"])
def test_a_table_that_is_the_book_brings_them_to_the_help_and_to_where(foreign: Path, place: str) -> None:
    if place == "ini":
        (foreign / "alembic.ini").write_text(f"{INI}[datafixes]\nbook_table = public.trades\n", "utf-8")
    environment = {"DATAFIXES_BOOK_TABLE": "public.trades"} if place == "environment" else {}
    flags = ("-x", "book_table=public.trades") if place == "flag" else ()
    shown = run(foreign, *flags, "--help", **environment)
    assert "Commands for the trading book:\n  reconcile  compare the book with the broker" in shown.out
    assert len(shown.out.splitlines()) <= 24
    where = run(foreign, *flags, "where", **environment)
    assert "Settings of the trading book" in where.out
    assert "public.trades" in where.out
    assert "ops-pipeline" not in where.out


def test_this_repository_is_a_project_with_a_book() -> None:
    shown = run(ROOT, "--help").out
    assert "Commands for the trading book:" in shown
    assert len(shown.splitlines()) <= 24
    where = run(ROOT, "-x", "url=embedded:", "where").out
    for value in (
        "/ops-pipeline/",
        "ops-pipeline/db",
        "us-west-2",
        "public.active_positions",
        "position-manager-service",
    ):
        assert value in where


def test_a_migration_imports_no_more_of_the_book_than_its_settings() -> None:
    """The section [datafixes] of this repository has options of the book, which must be known to be checked."""
    code = (
        "import sys\nfrom alembic.config import main\nmain(['-x', 'url=embedded:', 'upgrade', '012:013', '--sql'])\n"
        "from datafixes.settings import Settings\nSettings.resolve({}, {}, {'book_table': 'a.b'})\n"
        "print([name for name in sys.modules if name.startswith('datafixes.book') or name in ('click', 'boto3')])"
    )
    ran = process(ROOT, "-c", code)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == "['datafixes.book', 'datafixes.book.settings']"
