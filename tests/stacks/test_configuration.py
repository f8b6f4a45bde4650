"""Where a project's configuration is, and where its revisions are: each form that Alembic knows."""

import sys
from inspect import signature
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.config import main as alembic

from tests.cli.commands import datafixes
from tests.projects import ENV, TABLE
from tests.servers import Database

REVISION = """\
from alembic import op
revision: str = {0!r}
down_revision = {1!r}
def upgrade():
    op.execute("DELETE FROM item")
def downgrade():
    raise NotImplementedError
"""
needs_pyproject = pytest.mark.skipif(
    "toml_file" not in signature(Config).parameters, reason="Alembic 1.16 and newer read pyproject.toml"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    return tmp_path


def lay(folder: str, *revisions: str, env: bool = True) -> None:
    """Revisions in a folder of versions, one after the other."""
    versions = Path(folder, "versions")
    versions.mkdir(parents=True, exist_ok=True)
    if env:
        Path(folder, "env.py").write_text(ENV, "utf-8")
    for after, revision in zip([None, *revisions], revisions, strict=False):
        Path(versions, f"{revision}.py").write_text(REVISION.format(revision, after), "utf-8")


def ini(*lines: str) -> None:
    Path("alembic.ini").write_text("\n".join(["[alembic]", "path_separator = os", *lines, ""]), "utf-8")


@needs_pyproject
def test_pyproject_alone_is_enough_for_every_step(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`alembic init -t pyproject`, with the database from the environment and no alembic.ini."""
    alembic(["init", "-t", "pyproject", "migrations"])
    Path("alembic.ini").unlink()
    Path("migrations/env.py").write_text(ENV, "utf-8")
    monkeypatch.setenv("DATABASE_URL", database.url)
    database.psql(TABLE, "-v", "ON_ERROR_STOP=1")
    new = datafixes(None, "new", "close", "--table", "item", "--where", "id = 1", "--set", "status=closed")
    assert new.code == 0, new.err
    for command in ("check", "plan"):
        ran = datafixes(None, command)
        assert ran.code == 0, ran.err
    alembic(["upgrade", "head"])
    assert database.rows("SELECT status FROM item ORDER BY id") == [("closed",), ("open",), ("open",)]
    assert "close" in datafixes(None, "history").out


@needs_pyproject
def test_a_configuration_that_cannot_be_read_is_one_line() -> None:
    Path("pyproject.toml").write_text("[tool.alembic\n", "utf-8")
    ran = datafixes(None, "check")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert ran.err.startswith("FAILED: The configuration cannot be read: Expected ']'")


@pytest.mark.parametrize("inner", ["", ".inner"])
def test_a_package_is_found_without_importing_it(inner: str) -> None:
    """`script_location = package:path`, and the package need not be installed."""
    folder = f"app{inner.replace('.', '/')}"
    lay(f"{folder}/migrations", "a")
    for package in {"app", folder}:
        Path(package, "__init__.py").write_text("raise SystemExit('imported')", "utf-8")
    # First, because Alembic leaves what it prepends on the path.
    ini(f"script_location = app{inner}:migrations", "prepend_sys_path = src")
    lost = datafixes(None, "check")
    told = f"FAILED: script_location = app{inner}:migrations: no package app was found. Set prepend_sys_path"
    assert (lost.code, lost.err.startswith(told)) == (1, True), lost.err
    ini(f"script_location = app{inner}:migrations", "prepend_sys_path = .")
    ran = datafixes(None, "check")
    assert (ran.code, "in 1 revision" in ran.out) == (3, True), ran.err
    ini(f"script_location = app{inner}:elsewhere", "prepend_sys_path = .")
    assert "its folder" in datafixes(None, "check").err


@needs_pyproject
def test_several_locations_one_of_them_in_a_package() -> None:
    lay("migrations", "a")
    lay("app/more", "b", env=False)
    Path("app/__init__.py").write_text("raise SystemExit('imported')", "utf-8")
    Path("pyproject.toml").write_text(
        '[tool.alembic]\nscript_location = "%(here)s/migrations"\nprepend_sys_path = ["."]\n'
        'version_locations = ["%(here)s/migrations/versions", "app.more:versions"]\n',
        "utf-8",
    )
    ran = datafixes(None, "check")
    assert (ran.code, "in 2 revisions" in ran.out) == (3, True), ran.err + ran.out


def test_no_revision_is_never_a_clean_check() -> None:
    lay("migrations")
    ini("script_location = migrations")
    ran = datafixes(None, "check")
    told = "FAILED: No revision was found in migrations/versions, so nothing was checked. Look at version_locations"
    assert (ran.code, ran.out, ran.err.startswith(told)) == (1, "", True), ran.err


@pytest.mark.parametrize("read", [0, 1])
def test_files_beside_what_is_read_are_told_of(read: int) -> None:
    """As where version_locations are set in code, or folders are read only with recursive_version_locations."""
    lay("migrations", *"a"[:read])
    lay("migrations/versions/2024", "b", "c", env=False)
    lay("migrations/other", "d", env=False)
    Path("migrations/helper.py").write_text("revision = 1\n", "utf-8")  # has no parent: no revision
    ini("script_location = migrations")
    ran = datafixes(None, "check")
    told = "Not read: 3 files that are revisions, in migrations/other/versions (1), migrations/versions/2024/versions (2)."
    assert told in ran.err
    assert ran.code == (3 if read else 1)
    ini("script_location = migrations", "recursive_version_locations = true")
    assert "Not read: 1 file that is a revision, in migrations/other" in datafixes(None, "check").err
    files = [str(path) for path in Path("migrations").rglob("versions/*.py")]
    given = datafixes(None, "check", *files)
    assert (given.code, "Not read" in given.err) == (3, False)
    # A folder is as good as its files, and an empty one is no clean check.
    folders = datafixes(None, "check", "migrations")
    assert folders.out.splitlines()[-1] == given.out.splitlines()[-1]
    Path("empty").mkdir()
    empty = datafixes(None, "check", "empty")
    told = "FAILED: No revision was found in empty, so nothing was checked."
    assert (empty.code, empty.last_line) == (1, told)


@pytest.mark.filterwarnings("ignore:Revision a referenced from:UserWarning")  # Alembic's
def test_a_parent_that_is_not_there_is_one_line() -> None:
    """As where the locations are set in code."""
    lay("migrations", "b")
    Path("migrations/versions/b.py").write_text("revision = 'b'\ndown_revision = 'a'\n", "utf-8")
    ini("script_location = migrations")
    ran = datafixes(None, "plan")
    told = (
        "FAILED: The revisions cannot be read: a, the parent of one of them, is not there. Restore its file"
    )
    assert (ran.code, ran.last_line.startswith(told)) == (1, True), ran.err


def test_a_directory_is_named_where_no_file_names_it() -> None:
    lay("db/revisions", "a")
    ran = datafixes(None, "-d", "db/revisions", "check")
    assert (ran.code, "in 1 revision" in ran.out) == (3, True), ran.err
    wrong = datafixes(None, "--script-location", "db", "check")
    assert (wrong.code, wrong.err) == (
        1,
        "FAILED: db has no env.py. Name the directory of env.py with -d DIR.\n",
    )


def test_a_template_with_folders_makes_them(database: Database) -> None:
    """`file_template` with a folder for each month, which is new on the first of it."""
    lay("migrations")
    database.psql(TABLE, "-v", "ON_ERROR_STOP=1")
    ini(
        "script_location = migrations",
        "file_template = %%(year)d/%%(month).2d/%%(rev)s",
        "recursive_version_locations = true",
    )
    words = ("new", "close", "--table", "item", "--where", "id = 1", "--set", "status=closed")
    new = datafixes(None, "-x", f"url={database.url}", *words)
    assert new.code == 0, new.err
    paths = [Path(line) for line in new.out.splitlines()]
    assert [path.parents[1].parent.name for path in paths] == ["versions", "versions"]
    assert datafixes(None, "check").code == 0
