"""Commands and settings of other packages: found by entry point, and no reason for anything else to fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import ENV, Ran

LOGGING_ENV = "import logging\nlogging.basicConfig()\n" + ENV

GREETING = '''
import click
from datafixes.cli.project_options import pass_where

@click.command()
@click.option("--loud", is_flag=True)
@pass_where
def command(where, loud):
    """Greet the project that is told."""
    settings = where.project().settings
    print(("HELLO" if loud else "hello"), settings.shown("lock_timeout"))
    return 3
'''
SETTINGS = """
from datafixes.settings import Setting
from datafixes.settings.groups import Group

GROUP = Group(
    title="the shop",
    settings=(Setting.everywhere("shop_name", "which shop", str), Setting.everywhere("shop_size", "how big", int, "7")),
    switch="shop_name",
    commands={"greet": "say hello to the shop"},
)
"""
BROKEN = {
    "raises": "raise RuntimeError('out of order')",
    "exits": "raise SystemExit(9)",
    "is missing": None,
    "is something else": "command = GROUP = 'no such thing'",
    "lacks the object": "",
}
"""Ways in which what an entry point names cannot be had."""


def install(directory: Path, name: str, entry_points: str, **modules: str) -> None:
    """A distribution as pip leaves it: its modules, and beside them its metadata."""
    metadata = directory / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    (metadata / "entry_points.txt").write_text(entry_points, "utf-8")
    for module, text in modules.items():
        (directory / f"{module}.py").write_text(text, "utf-8")


def project(directory: Path, section: str = "") -> None:
    """A project of somebody else."""
    (directory / "migrations/versions").mkdir(parents=True)
    (directory / "migrations/env.py").write_text(LOGGING_ENV, "utf-8")
    (directory / "migrations/versions/a.py").write_text("revision, down_revision = 'a', None\n", "utf-8")
    (directory / "alembic.ini").write_text(
        f"[alembic]\nscript_location = migrations\n[datafixes]\n{section}", "utf-8"
    )


def run(directory: Path, *arguments: str, module: str = "datafixes") -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(directory / "site")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def test_any_package_may_add_a_command(tmp_path: Path) -> None:
    project(tmp_path, "lock_timeout = 3s\n")
    install(
        tmp_path / "site",
        "greeting",
        "[datafixes.commands]\ngreet = greeting:command\nplan = greeting:command\n",
        greeting=GREETING,
    )
    ran = run(tmp_path, "greet", "--loud")
    assert (ran.code, ran.out, ran.err) == (3, "HELLO 3s\n", "")
    shown = run(tmp_path, "--help").out
    assert "Commands of other packages:\n  greet  Greet the project that is told.\n" in shown
    assert "Did you mean greet" in run(tmp_path, "gret").err
    assert "Show before it runs" not in shown
    assert "hello" not in run(tmp_path, "plan").out, "a command of the engine was hidden"


def test_an_application_has_headings_where_it_is_used(tmp_path: Path) -> None:
    project(tmp_path)
    points = "[datafixes.commands]\ngreet = greeting:command\n[datafixes.settings]\nshop = shop:GROUP\n"
    install(tmp_path / "site", "shop", points, greeting=GREETING, shop=SETTINGS)
    assert "greet" not in run(tmp_path, "--help").out
    assert "shop" not in run(tmp_path, "where").out
    assert run(tmp_path, "greet").out == "hello 5s\n"
    with (tmp_path / "alembic.ini").open("a") as file:
        file.write("shop_name = corner\n")
    heading = "Commands for the shop:\n  greet  say hello to the shop\n"
    assert heading in run(tmp_path, "--help").out
    where = run(tmp_path, "where").out
    assert "Settings of the shop" in where
    assert [line.split() for line in where.splitlines() if "shop_" in line] == [
        ["shop_name", "corner", "alembic.ini", "[datafixes]", "shop_name"],
        ["shop_size", "7", "default"],
    ]
    (tmp_path / "other.ini").write_text("[alembic]\nscript_location = migrations\n", "utf-8")
    assert heading not in run(tmp_path, "-c", "other.ini", "--help").out
    assert heading in run(tmp_path, "-c", "other.ini", "-x", "shop_name=x", "--help").out


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_package_breaks_nothing_else(tmp_path: Path, how: str) -> None:
    project(tmp_path, "some_option = 1\n")
    text = BROKEN[how]
    modules = {} if text is None else {"broken": text}
    points = "[datafixes.commands]\nbreak = broken:command\n[datafixes.settings]\nbroken = broken:GROUP\n"
    install(tmp_path / "site", "brokenware", points, **modules)
    shown = run(tmp_path, "--help")
    assert shown.code == 0
    assert "datafixes plan" in shown.out
    told = shown.err.splitlines()
    assert [line.partition(" cannot be loaded: ")[0] for line in told] == [
        "Omitted: broken (datafixes.settings) of the package brokenware",
        "Omitted: break (datafixes.commands) of the package brokenware",
    ]
    # Whether the option in alembic.ini is one of the broken package's, nobody can know.
    where = run(tmp_path, "-x", "url=postgresql://me@127.0.0.1:1/x", "where")
    assert where.code == 0
    assert "lock_timeout" in where.out
    assert where.err.splitlines() == told[:1]
    alembic = run(tmp_path, "-x", "url=postgresql://me@127.0.0.1:1/x", "current", module="alembic")
    assert "some_option was not checked: broken (datafixes.settings) of" in alembic.err
    assert "unknown setting" not in alembic.err
    assert run(tmp_path, "check").code == 0
    itself = run(tmp_path, "break")
    assert (itself.code, itself.out) == (1, "")
    assert itself.err.startswith(
        "FAILED: break (datafixes.commands) of the package brokenware cannot be loaded: "
    )
    assert len(itself.err.splitlines()) == 1


def test_metadata_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    project(tmp_path)
    install(tmp_path / "site", "garbled", "[datafixes.commands]\nthis is no entry point\n")
    install(
        tmp_path / "site", "greeting", "[datafixes.commands]\ngreet = greeting:command\n", greeting=GREETING
    )
    shown = run(tmp_path, "--help")
    assert shown.code == 0
    assert "greet  Greet" in shown.out


def test_nothing_is_imported_that_nobody_asked_for(tmp_path: Path) -> None:
    project(tmp_path)
    install(
        tmp_path / "site",
        "greeting",
        "[datafixes.commands]\ngreet = greeting:command\n[datafixes.settings]\nshop = greeting:GROUP\n",
        greeting="raise SystemExit('imported')",
    )
    for arguments in (("--version",), ("plan", "--help"), ("check",), ("reconcile", "--help")):
        ran = run(tmp_path, *arguments)
        assert (ran.code, "imported" in ran.out + ran.err) == (0, False), arguments
