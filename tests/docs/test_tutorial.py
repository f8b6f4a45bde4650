"""The tutorial, as a newcomer does it: a fresh folder, the package installed from its wheel."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.docs.pages import EXAMPLE_URL, ROOT, blocks
from tests.servers import Database


def walk() -> str:
    """The commands of the page, as one shell session."""
    return "\n".join(block.text for block in blocks(ROOT / "docs/tutorial.md", "sh"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment that has the package from its wheel, and what it depends on from here.

    TEST_INSTALLED names one that has its own dependencies: `make dist`.
    """
    if told := os.environ.get("TEST_INSTALLED"):
        return Path(told)
    directory = tmp_path_factory.mktemp("newcomer")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(directory / "venv")], check=True, timeout=120
    )
    offline = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", *offline, "--wheel-dir", str(directory), str(ROOT)], check=True, timeout=120
    )
    [wheel] = directory.glob("datafixes-*.whl")
    assert zipfile.is_zipfile(wheel)
    python = directory / "venv/bin/python"
    subprocess.run(
        [*pip, "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        timeout=120,
    )
    [site] = (directory / "venv/lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    alembic = directory / "venv/bin/alembic"
    alembic.write_text(f"#!{python}\nimport sys\nfrom alembic.config import main\nsys.exit(main())\n")
    alembic.chmod(0o755)
    return directory / "venv/bin"


def test_a_newcomer_comes_through_with_the_tutorial_alone(
    database: Database, installed: Path, tmp_path: Path
) -> None:
    commands = walk()
    for program in ("new", "check", "plan", "history", "show", "row", "revert", "open"):
        assert f"datafixes {program}" in commands
    url = database.url.replace("postgresql+psycopg2", "postgresql")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"set -x\n{commands.replace(EXAMPLE_URL, repr(url))}"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{installed}:{database.binaries}:{os.environ['PATH']}",
            "DATABASE_URL": "",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Can be reverted" in done.stdout
    assert "applied: 2 found, 2 changed, 0 already as wanted (run 1)" in done.stderr
    # 11 was given back, 12 is as the fix made it.
    assert database.rows("SELECT id, total::text, tax_class FROM orders ORDER BY id") == [
        (10, "119.00", "standard"),
        (11, "200.00", None),
        (12, "59.50", "standard"),
    ]
    assert database.rows(
        "SELECT fix, outcome, rows_changed, rows_chosen FROM datafix_run ORDER BY run_id"
    ) == [
        ("reprice_untaxed_orders", "applied", 2, None),
        ("reprice_untaxed_orders", "reverted", 1, "11"),
    ]
    [first, second, third] = sorted(
        (tmp_path / "shop/migrations/versions").glob("*.py"), key=os.path.getmtime
    )
    assert "op.create_audit_table" in first.read_text()
    assert "The March import left the tax out" in second.read_text()
    assert "op.revert_datafix" in third.read_text()
