"""Every command in README runs, in the order in which it stands there, and every query answers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Database

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
    commands, queries = blocks("sh"), blocks("sql")
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


def test_the_fix_that_readme_shows_is_one() -> None:
    shown = next(block for block in blocks("python") if "reprice_untaxed_orders" in block)
    namespace: dict[str, object] = {}
    exec(compile(shown, "README.md", "exec"), namespace)
    assert type(namespace["fix"]).__name__ == "DataFix"


def test_readme_names_every_setting() -> None:
    from datafixes.settings import SETTINGS

    for setting in SETTINGS:
        assert f"`{setting.name}`" in README, setting.name
        if setting.default:
            assert setting.default in README, f"{setting.name}: {setting.default}"
