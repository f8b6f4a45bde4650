"""The command line itself: help that fits a screen, nearest names, exit codes, pipes, terminals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datafixes import __version__
from datafixes.cli.commands import COMMANDS, others
from datafixes.cli.main import run
from tests.cli.commands import datafixes
from tests.projects import project_with_fix
from tests.servers import Database


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "datafixes", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("command", ["", *COMMANDS, *others()])
def test_every_help_fits_a_screen_and_has_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*([command] if command else []), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert any("Example: " in line for line in lines)


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pan"]) == 2
    assert "Unknown command pan. Did you mean plan" in capsys.readouterr().err


def test_python_m_datafixes_and_the_version() -> None:
    done = process("--version")
    assert (done.returncode, done.stdout) == (0, f"datafixes, version {__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(shell: str) -> None:
    assert "datafixes" in process(_DATAFIXES_COMPLETE=f"{shell}_source").stdout


def test_help_needs_neither_alembic_nor_a_driver() -> None:
    code = (
        "import sys\nfrom datafixes.cli.main import run\nrun(['--help'])\n"
        "sys.exit(any(m in sys.modules for m in ('alembic', 'sqlalchemy', 'psycopg2', 'boto3', 'rich', 'sqlglot', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_without_a_project_and_without_a_database_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["history"]) == 1
    assert "No database is configured. These places were searched:" in capsys.readouterr().err
    assert run(["plan"]) == 1
    assert run(["-c", "nowhere.ini", "plan"]) == 1
    assert "nowhere.ini does not exist." in capsys.readouterr().err
    assert run(["-x", "lock_timeout=5", "history"]) == 2


def test_a_database_that_does_not_answer_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-x", "url=postgresql://me:secret@127.0.0.1:1/x", "history"]) == 1
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "127.0.0.1" in told
    assert "secret" not in told


def test_whoever_reads_the_output_may_stop_reading(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.alembic("upgrade", "head")
    database.psql(
        "INSERT INTO datafix_run (fix, direction, outcome, reason) SELECT 'f', 'apply', 'failed', repeat('x', 1000) FROM generate_series(1, 2000);"
    )
    command = f"'{sys.executable}' -m datafixes -x 'url={project.url}' history --limit 5000 --format json | head -n 2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines()[0] == "{"
    assert done.stderr == ""


@pytest.mark.parametrize("settings", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_what_is_no_terminal_gets_no_colours_and_80_columns(
    tmp_path: Path, database: Database, settings: dict[str, str]
) -> None:
    project = project_with_fix(tmp_path, database)
    done = process("-c", str(tmp_path / "alembic.ini"), "-x", f"url={project.url}", "plan", **settings)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "open → closed" in done.stdout


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    file = tmp_path / "plan.html"
    ran = datafixes(project, "plan", "--format", "html", "--output", str(file))
    assert (ran.code, ran.out) == (0, "")
    assert "</html>" in file.read_text("utf-8")
    file.unlink()
    failed = datafixes(project, "plan", "--output", str(tmp_path / "no such/plan.txt"))
    assert failed.code == 1
    assert "cannot be written: No such file or directory" in failed.err


def test_values_cannot_steer_a_terminal(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("UPDATE item SET note = E'\\x1b[2J\\u202e\\r\\n\\x07' WHERE id < 3")
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top="""
        fix = DataFix(name="n", reason="r", change=Update("item", set={"note": None}), rows=Rows(key="id", expect=[1]), audit="item_audit")""")  # fmt: skip
    for form in ("terminal", "markdown", "html", "json"):
        out = datafixes(project, "plan", "--format", form).out
        assert not set(out) & set("\x1b\r\x07"), form
        assert form == "json" or "\u202e" not in out, form
