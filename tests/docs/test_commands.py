"""Every command and every query of README and docs runs, page by page, in the order in which a reader meets them."""

import ast
import configparser
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from datafixes.cli.main import cli
from tests.aws import Cloud
from tests.docs.pages import LANGUAGES, PAGES, ROOT, Block, Reader, blocks, name_of, shows, typed
from tests.docs.stories import STORIES, runs_elsewhere
from tests.servers import Database

TUTORIAL, MOVE = "docs/tutorial.md", "docs/how-to/move-a-database.md"
PROTECT = "docs/how-to/protect-the-audit.md"
"""Pages with a test of their own."""
RUN = ("sh", "console", "sql")


def followed(page: Path) -> list[Block]:
    """The blocks of a page that run in its story."""
    return [
        block
        for block in blocks(page, *RUN)
        if block.language != "console" or not all(runs_elsewhere(one.command) for one in typed(block))
    ]


@pytest.mark.parametrize("name", STORIES)
def test_a_page_can_be_followed(name: str, database: Database, cloud: Cloud, tmp_path: Path) -> None:
    story, reader = STORIES[name], Reader(database, tmp_path)
    story.begins(reader, cloud)
    for block in blocks(ROOT / name, *RUN):
        for words, doing in story.meanwhile.items():
            if words in block.text:
                doing(reader, cloud)
        if block.language == "console":
            reader.type(story.typed(block))
        else:
            reader.run_block(block)


def test_every_page_with_commands_has_a_story() -> None:
    with_commands = {name_of(page) for page in PAGES if followed(page)}
    assert with_commands == {*STORIES, TUTORIAL, MOVE, PROTECT}


def test_the_pages_hold_commands_and_queries() -> None:
    # The tests above would pass if they saw nothing.
    found = [block.language for page in PAGES for block in blocks(page)]
    assert found.count("sh") >= 30
    assert found.count("sql") >= 10
    assert found.count("console") >= 15


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is_and_can_be_read(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "ini":
            configparser.ConfigParser(interpolation=None).read_string(block.text)
        elif block.language == "console":
            assert list(typed(block))
    assert page.read_text("utf-8").count("```") == 2 * len(blocks(page)), "a block that is not at the margin"


def _options(command: click.Command) -> set[str]:
    return {
        name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("-")
    }


def _named() -> Iterator[tuple[str, str, list[str]]]:
    """Page, command and options of everything that looks like a command of the command line."""
    for page in PAGES:
        text = re.sub(r"\\\n\s*", "", page.read_text("utf-8"))
        for line in text.splitlines():
            for found in re.finditer(r"\bdatafixes (?:-x \S+ )*([a-z]+(?:-[a-z]+)*)\b([^`|\n]*)", line):
                if found[0].startswith("datafixes -x") or line[: found.start()].endswith(
                    ("`", "$ ", "(", "run: ")
                ):
                    yield name_of(page), found[1], re.findall(r"(?<= )--?[a-z][a-z-]*", found[2])


def test_every_command_and_option_that_a_page_names_exists() -> None:
    context, seen = click.Context(cli), set()
    for page, name, options in _named():
        command = cli.get_command(context, name)
        assert command is not None, f"{page}: datafixes {name}"
        seen.add(name)
        wrong = set(options) - _options(command) - {"--help"}
        assert not wrong, f"{page}: datafixes {name} {wrong}"
    assert seen >= {"new", "check", "plan", "revert", "history", "show", "row", "open", "report", "doctor"}


def test_the_reference_names_every_command() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text("utf-8")
    assert [
        name for name in cli.list_commands(click.Context(cli)) if f"| `datafixes {name}` |" not in page
    ] == []


def test_what_a_page_shows_is_held_against_the_output() -> None:
    # The tests above would pass if everything were like everything.
    output = "one 2026-11-29 12:47:07.5\ntwo   x\nthree\nfour\n"
    assert shows(output, ("one 2000-01-01 10:00", "two x"))
    assert shows(output, ("one 2000-01-01 10:00", "...", "four"))
    assert shows(output, ("t...x", "three"))
    assert not shows(output, ("one 2000-01-01 10:00", "three"))
    assert not shows(output, ("four", "three"))
    assert not shows(output, ("ree",))
