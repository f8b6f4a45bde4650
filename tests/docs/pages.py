"""The pages that users read, and a reader who does what they say."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import Database

ROOT = Path(__file__).parents[2]

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

LANGUAGES = ("sh", "console", "sql", "python", "ini", "json", "yaml", "toml", "text")
"""sh and console run, and so does sql; text is neither a command nor a query."""

EXAMPLE_URL = "postgresql://postgres@localhost:5432/ops"
"""What pages name where a reader has a server of his own."""

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is another one in each run, and in each terminal.
_VARIES = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d+)?)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "DIGEST"),
    (re.compile(r"\b\d+\.\d+ ?s\b"), "SECONDS"),
    (re.compile(r"\s+"), " "),
)


def name_of(page: Path) -> str:
    """The page as links and messages name it."""
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page, in its order; those of some languages only, if any are named."""
    return blocks_of(page.read_text("utf-8"), *languages)


def blocks_of(text: str, *languages: str) -> list[Block]:
    """The same of a part of a page."""
    found = [Block(*match.groups()) for match in _FENCE.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def fixes() -> list[str]:
    """Every revision file with a fix that a page shows."""
    return [block.text for page in PAGES for block in blocks(page, "python") if "down_revision" in block.text]


@dataclass(frozen=True)
class Typed:
    """A command of a console block, and the output that the page shows; nothing shown is nothing said about it."""

    command: str
    shown: tuple[str, ...]


def typed(block: Block) -> Iterator[Typed]:
    """The commands of a console block: each begins with a dollar sign."""
    assert block.text.startswith("$ "), block.text
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, *shown = re.sub(r"\\\n\s*", "", part).rstrip("\n").split("\n")
        yield Typed(command, tuple(shown))


@dataclass
class Reader:
    """Somebody at a shell, with a database and a directory of the project.

    Attributes:
        database: what `$DATABASE_URL` names, and the example URL of the pages.
        directory: where the commands are typed.
        environment: more variables.
    """

    database: Database
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The database, as psql takes it."""
        return self.database.url.replace("postgresql+psycopg2", "postgresql")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run one command, or several lines of which each must succeed."""
        paths = (str(Path(sys.executable).parent), str(self.database.binaries), os.environ["PATH"])
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace(EXAMPLE_URL, f"'{self.url}'")],
            cwd=self.directory,
            env={**os.environ, "PATH": os.pathsep.join(paths), "DATABASE_URL": self.url, "COLUMNS": "80", **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )  # fmt: skip

    def run_block(self, block: Block) -> None:
        """Do what a block says: commands, or statements and queries."""
        if block.language == "sql":
            self.database.psql(block.text, "-v", "ON_ERROR_STOP=1")
        else:
            done = self.run(block.text)
            assert done.returncode == 0, f"{block.text}\n{done.stdout}"

    def type(self, commands: list[Typed]) -> None:
        """Type command after command, and look whether each prints what the page shows, and succeeds.

        One that fails is followed by `echo $?` in the page.
        """
        code = 0
        for number, one in enumerate(commands, 1):
            if one.command == "echo $?":
                assert one.shown == (str(code),), f"exit code {code}, the page says {one.shown}"
                continue
            done = self.run(one.command)
            code = done.returncode
            asked = [following.command for following in commands[number : number + 1]] == ["echo $?"]
            assert code == 0 or asked, f"{one.command}\n{done.stdout}"
            assert shows(done.stdout, one.shown), (
                f"$ {one.command}\n{done.stdout}\nThe page shows:\n" + "\n".join(one.shown)
            )


def shows(output: str, lines: tuple[str, ...]) -> bool:
    """Whether the output has these lines, one after the other; a line of three dots is any number of lines, three dots
    in a line are any text. Times, digests and spaces may differ."""
    pattern = "".join(
        "(?:.*\n)*?" if line == "..." else f"{'.*?'.join(map(re.escape, _steady(line).split('...')))}\n"
        for line in lines
    )
    steady = "".join(f"{_steady(line)}\n" for line in output.splitlines())
    return re.search(f"^{pattern}", steady, re.MULTILINE) is not None


def _steady(line: str) -> str:
    for varies, instead in _VARIES:
        line = varies.sub(instead, line)
    return line.strip()
