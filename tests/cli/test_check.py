"""`datafixes check` as a command: exit codes, formats, which files, and that it needs nothing but the files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datafixes.check.finding import CATALOGUE
from datafixes.check.formats import FORMATS
from tests.cli.commands import datafixes
from tests.projects import Ran

ROOT = Path(__file__).parents[2]

BAD = """revision = "b"
down_revision = "a"


def upgrade():
    op.execute("DELETE FROM orders")


def downgrade():
    pass
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Revisions a and b, in the current directory; b deletes rows. There is no database and no env.py."""
    versions = tmp_path / "migrations/versions"
    versions.mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\npath_separator = os\n", "utf-8"
    )
    (versions / "a.py").write_text(
        BAD.replace('"b"', '"a"', 1).replace('= "a"\n\n', "= None\n\n").replace("DELETE", "SELECT 1 --"),
        "utf-8",
    )
    (versions / "b.py").write_text(BAD, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Ran:
    return datafixes(None, "check", *arguments)


def test_findings_are_lines_with_a_remedy_and_a_count(project: Path) -> None:
    ran = run()
    assert (ran.code, ran.err) == (3, "")
    assert ran.out == (
        "migrations/versions/b.py:6:5: FIX201 DELETE FROM orders changes rows without a fix.\n"
        f"    {CATALOGUE['FIX201'].remedy}\n"
        "1 error, 0 notes in 2 revisions.\n"
    )


def test_notes_do_not_stand_in_the_way(project: Path) -> None:
    b = project / "migrations/versions/b.py"
    b.write_text(BAD.replace('"DELETE FROM orders"', "open('x.sql').read()"), "utf-8")
    ran = run()
    assert ran.code == 0
    assert "b.py:6:5: FIX205 (note) The SQL that this executes is in another file.\n" in ran.out
    assert run("--format", "github").out.startswith(
        "::notice file=migrations/versions/b.py,line=6,col=5,title=FIX205::"
    )
    b.write_text(
        BAD.replace("orders", "orders").replace('orders")', 'orders")  # datafixes: ignore[FIX201] a test'),
        "utf-8",
    )
    assert run().out == "Nothing found in 2 revisions, 1 silenced.\n"


def test_json_carries_every_finding(project: Path) -> None:
    ran = run("--format", "json")
    assert ran.code == 3
    assert json.loads(ran.out) == {
        "version": 1,
        "kind": "check",
        "revisions": 2,
        "silenced": 0,
        "ignored": 0,
        "known": 0,
        "findings": [
            {
                "code": "FIX201",
                "severity": "error",
                "file": "migrations/versions/b.py",
                "line": 6,
                "column": 5,
                "message": "DELETE FROM orders changes rows without a fix.",
                "remedy": CATALOGUE["FIX201"].remedy,
            }
        ],
    }
    assert ran.err == "1 error, 0 notes in 2 revisions.\n"


def test_annotations_of_github_are_escaped(project: Path) -> None:
    odd = project / "migrations/versions/c, 50%:d.py"
    odd.write_text(BAD.replace('"b"', '"c"').replace("orders", r"\"a%\r\n::error::\""), "utf-8")
    ran = run("--format", "github", str(odd))
    [line] = ran.out.splitlines()
    assert line.startswith(
        "::error file=migrations/versions/c%2C 50%25%3Ad.py,line=6,col=5,title=FIX201::DELETE FROM"
    )
    assert line.endswith(f"%0A{CATALOGUE['FIX201'].remedy}")
    assert re.findall(r"%(?!25|0A|0D|3A|2C)", line) == []


def test_markdown_and_a_file(project: Path) -> None:
    ran = run("--format", "markdown", "--output", "found.md")
    assert (ran.code, ran.out) == (3, "")
    text = (project / "found.md").read_text("utf-8")
    assert (
        "- **FIX201** `migrations/versions/b.py:6`: DELETE FROM orders changes rows without a fix.\n" in text
    )
    assert "1 error, 0 notes in 2 revisions." in text


def test_only_files_that_are_named_or_revisions_that_come_later(project: Path) -> None:
    assert run("migrations/versions/a.py").out == "Nothing found in 1 revision.\n"
    assert run("migrations/versions/b.py").code == 3
    assert run("--since", "b").out == "Nothing found in 0 revisions.\n"
    assert run("--since", "a").code == 3
    unknown = run("--since", "aa")
    assert unknown.code == 2
    assert "No file has the revision aa. Did you mean a?" in unknown.err


def test_a_file_that_is_not_there_and_one_that_is_no_python(project: Path) -> None:
    (project / "migrations/versions/b.py").write_text("def (", "utf-8")
    ran = run("nowhere.py", "migrations/versions/b.py")
    assert ran.code == 3
    assert "nowhere.py:1:1: FIX101 The file does not exist.\n" in ran.out
    assert "migrations/versions/b.py:1:5: FIX101 The file is not Python: " in ran.out
    assert "Traceback" not in ran.out + ran.err


def test_without_a_project_files_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run()
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("FAILED: No Alembic project found")
    (tmp_path / "b.py").write_text(BAD, "utf-8")
    assert run("b.py").code == 3


def test_names_and_texts_cannot_steer_a_terminal(project: Path) -> None:
    path = project / "migrations/versions/b.py"
    path.rename(path.with_name("b\x1b[2J.py"))
    path.with_name("b\x1b[2J.py").write_text(BAD.replace("orders", '\\"x\x1b]0;\u202e\\"'), "utf-8")
    for form in FORMATS:
        ran = run("--format", form)
        assert ran.code == 3
        assert not set(ran.out + ran.err) & {"\x1b", "\x07", "\r"}, form


def test_a_terminal_without_the_letters_of_a_name_gets_escapes(project: Path) -> None:
    (project / "migrations/versions/ä.py").write_text(BAD.replace('"b"', '"c"'), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "datafixes", "check"], capture_output=True, check=False, timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert b"versions/\\xe4.py:6:5: FIX201 " in done.stdout


def test_the_list_of_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("--list")
    assert ran.code == 0
    assert [line.split()[:2] for line in ran.out.splitlines()] == [
        [rule.code, rule.severity] for rule in CATALOGUE.values()
    ]
    assert max(map(len, ran.out.splitlines())) <= 100


def test_our_own_revisions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ran = run()
    assert ran.code == 0, ran.out
    assert "in 4 revisions." in ran.out


def test_nothing_is_imported_and_no_database_is_asked(project: Path) -> None:
    # The revision would end the process, env.py does not exist, and the driver is never loaded.
    (project / "migrations/versions/c.py").write_text(
        f"raise SystemExit(9)\n{BAD.replace(chr(34) + 'b', chr(34) + 'c')}", "utf-8"
    )
    code = (
        "import sys\nfrom datafixes.cli.main import run\ncode = run(['check'])\n"
        "sys.exit(90 if 'psycopg2' in sys.modules else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 3, done.stderr
    assert "2 errors" in done.stdout
