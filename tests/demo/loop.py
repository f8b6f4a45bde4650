"""The loop of the demo: the book differs from the broker, a revision is proposed, applied, and they are equal."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.book.broker.alpaca_server import Alpaca, accounts, running
from tests.demo.terminal import ROWS, check, command, heading, say

PROJECT = Path(__file__).resolve().parents[2]
HELD = {"QCOM260220P00145000": "1", "NOW260220P00110000": "1", "SPY": "2"}


def keep_the_book_true(environment: Mapping[str, str]) -> None:
    """Reconcile, propose, upgrade, and reconcile again."""
    heading("6. The loop: who finds such positions the next time?")
    say(
        "Now nobody has written a fix yet: the project is a copy without 015. The broker is asked itself. Here it is a server "
        "on this machine that speaks Alpaca's JSON; the client is the real one. The large account holds the three real "
        "positions, the tiny one holds nothing, and says so."
    )
    with _broker() as broker, TemporaryDirectory(prefix="ops-pipeline-") as place:
        directory = Path(place)
        shutil.copy(PROJECT / "alembic.ini", directory)
        shutil.copytree(
            PROJECT / "alembic", directory / "alembic", ignore=shutil.ignore_patterns("015_*", "__pycache__")
        )
        known = dict(environment) | {
            "DATAFIXES_BROKER_URL": broker.url,
            "DATAFIXES_BROKER_ACCOUNTS": "large=env:ALPACA_LARGE,tiny=env:ALPACA_TINY",
            "ALPACA_LARGE": broker.secret("large"),
            "ALPACA_TINY": broker.secret("tiny"),
        }
        check(
            "exit code 3: there are differences", command(("datafixes", "reconcile"), directory, known) == 3
        )
        check("exit code 0", command(("datafixes", "propose", "--phantoms"), directory, known) == 0)
        [proposed] = (directory / "alembic/versions").glob("015_*")
        text = proposed.read_text(encoding="utf-8")
        check(f"one revision was written: {proposed.name}", "13: " in text and "33: " in text)
        say("It goes through a pull request like any other, with a plan. Then:")
        check("exit code 0", command(("alembic", "upgrade", "head"), directory, known, left_out=ROWS) == 0)
        check(
            "exit code 0: the book equals the broker",
            command(("datafixes", "reconcile"), directory, known) == 0,
        )


@contextmanager
def _broker() -> Iterator[Alpaca]:
    with running(Alpaca(**accounts())) as broker:
        broker.accounts["large"].hold(**HELD)
        yield broker
