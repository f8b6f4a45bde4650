"""Differences, and what a watch remembers and tells from round to round, without a clock."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal

from datafixes.book.alerts.alert import Alert
from datafixes.book.positions.position import Comparison, Difference, Unsettled
from datafixes.book.positions.symbols import parse_symbol
from datafixes.book.watch.changes import Failure, Look, after_round
from datafixes.book.watch.incidents import Limits, Moment
from datafixes.book.watch.state import State

START = dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC)
LIMIT = dt.timedelta(minutes=15)


def phantom(account: str = "large", symbol: str = "QCOM", *rows: int) -> Difference:
    return Difference("phantom", account, parse_symbol(symbol), rows or (16,), Decimal("5.0000"), Decimal(0))


def moved() -> Difference:
    return replace(phantom(), kind="account", broker=Decimal(5), elsewhere="tiny")


def missing() -> Difference:
    return Difference("missing", "tiny", parse_symbol("QCOM"), (), Decimal(0), Decimal(5))


def unsettled(account: str = "large", symbol: str = "QCOM") -> Comparison:
    return Comparison((), (Unsettled(account, parse_symbol(symbol), (16,), "an order is in flight"),))


def unknown(*accounts: str, differences: tuple[Difference, ...] = ()) -> Comparison:
    return Comparison(differences, unknown=dict.fromkeys(accounts, "it answers 500"))


class Story:
    """Rounds, a minute after each other."""

    def __init__(self) -> None:
        self.state, self.minute = State(), -1

    def round(self, found: Comparison | Failure | Look) -> list[Alert]:
        self.minute += 1
        look = Look(found) if isinstance(found, Comparison) else found
        moment = Moment(START + dt.timedelta(minutes=self.minute), Limits(LIMIT, LIMIT), "book")
        self.state, alerts = after_round(self.state, look, moment)
        return list(alerts)

    def events(self, found: Comparison | Failure | Look) -> list[str]:
        return [alert.event for alert in self.round(found)]


NOTHING = Comparison(())
