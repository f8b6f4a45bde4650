"""A directory of revisions to check."""

from pathlib import Path
from textwrap import dedent, indent

from datafixes.check.checking import Checked, check, revision_files

TOP = """\
import datetime as dt
import uuid
from pathlib import Path
import sqlalchemy as sa
from sqlalchemy import text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session
from alembic import op
from datafixes import AtMost, DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql

orders = sa.table("orders", sa.column("id"))
"""


class Folder:
    """A directory of revisions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(
        self, name: str, up: str = "pass", down: str = "pass", *, top: str = "", after: str | None = None
    ) -> Path:
        """Write a revision with imports, a fix or whatever `top` says, and two functions."""
        ways = "".join(
            f"\n\ndef {way}():\n{indent(dedent(body).strip(), '    ')}\n"
            for way, body in (("upgrade", up), ("downgrade", down))
        )
        text = f"{TOP}revision = {name!r}\ndown_revision = {after!r}\n{dedent(top)}{ways}"
        return self.file(f"{name[:20]}.py", text)

    def file(self, name: str, text: str) -> Path:
        """Write a file as it is."""
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        return path

    def check(self, since: str | None = None, only: list[Path] | None = None) -> Checked:
        """Check all that is there."""
        return check(revision_files([self.path]), only, since)

    def told(self, without: str = "none") -> list[str]:
        """Code and sentence of every finding, except of those of a family of codes."""
        found = self.check().findings
        return [f"{one.code} {one.message}" for one in found if not one.code.startswith(without)]

    def codes(self, up: str = "pass", down: str = "pass", *, top: str = "") -> list[str]:
        """The codes found in one revision."""
        self.write("a", up, down, top=top)
        return [one.code for one in self.check().findings]
