"""The incident's project as a copy of its own, with a book and a file that plays the broker."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.commands import datafixes
from tests.projects import Project, Ran
from tests.servers import Database

ROOT = Path(__file__).parents[2]
BOOK = (ROOT / "tests/fixtures/book.sql").read_text("ascii")

REAL = (
    {"account": "large", "symbol": "QCOM260220P00145000", "quantity": "1", "entry_price": "5.20"},
    {"account": "large", "symbol": "NOW260220P00110000", "quantity": "1", "entry_price": "4.80"},
    {"account": "large", "symbol": "SPY", "quantity": "2", "entry_price": "689.00"},
)
"""What the broker holds in the incident: three positions of the large account, none of the tiny one."""

PHANTOMS = [13, 16, 19, 21, 24, 32, 33]


@dataclass(frozen=True)
class Trader:
    """A copy of the project, its database with the book of the incident, and a broker that is a file."""

    project: Project

    @property
    def database(self) -> Database:
        """The database."""
        return self.project.database

    @property
    def versions(self) -> Path:
        """Where revisions stand."""
        return self.project.directory / "alembic/versions"

    def hold(
        self,
        positions: Sequence[dict[str, Any]] = REAL,
        *,
        fills: Sequence[dict[str, Any]] = (),
        empty: Sequence[str] = ("tiny",),
    ) -> None:
        """Say what the broker holds."""
        content = {"positions": list(positions), "fills": list(fills), "empty": list(empty)}
        (self.project.directory / "held.json").write_text(json.dumps(content), "utf-8")

    @property
    def broker(self) -> tuple[str, str]:
        """The option that makes the file the broker."""
        return "-x", f"broker=file:{self.project.directory / 'held.json'}"

    def run(self, *arguments: str) -> Ran:
        """Run a command with that broker."""
        return datafixes(self.project, *self.broker, *arguments)

    def found(self, *arguments: str, code: int) -> Any:
        """What `datafixes reconcile` finds, as JSON."""
        ran = self.run("reconcile", "--format", "json", *arguments)
        assert ran.code == code, ran.err
        return json.loads(ran.out)

    def written(self) -> list[str]:
        """The revisions on top of those of the project."""
        ours = {path.name for path in (ROOT / "alembic/versions").glob("*.py")}
        return sorted(path.name for path in self.versions.glob("*.py") if path.name not in ours)

    def rows(self, columns: str, where: str) -> list[tuple[Any, ...]]:
        """Rows of the book, by id."""
        return self.database.rows(f"SELECT {columns} FROM active_positions WHERE {where} ORDER BY id")


def trader(directory: Path, database: Database) -> Trader:
    """The project at its head, then the book: what 015 was written for is there again."""
    for name in ("alembic.ini", "alembic"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / name)
    made = Trader(Project(directory, database, migrations="alembic"))
    ran = made.project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    made.hold()
    return made


def new_row(**values: Any) -> str:
    """An INSERT of a row of the book; what is not said is an open day trade of one share, opened long ago."""
    row = {
        "account_name": "large", "ticker": "QCOM", "instrument_type": "STOCK", "strategy_type": "day_trade",
        "side": "long", "quantity": 1, "entry_price": 10, "entry_time": "2026-02-03 12:00", "status": "open", **values,
    }  # fmt: skip
    shown = ("NULL" if value is None else f"'{value}'" for value in row.values())
    return f"INSERT INTO active_positions ({', '.join(row)}) VALUES ({', '.join(shown)})"
