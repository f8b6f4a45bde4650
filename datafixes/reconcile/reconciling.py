"""One look at the book and at the broker, and what comes of comparing them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from datafixes.errors import DatafixError
from datafixes.reconcile.book import Book, read_book
from datafixes.reconcile.positions import Answer, Comparison, Difference, Unsettled, compare
from datafixes.reconcile.symbols import Symbol

if TYPE_CHECKING:
    from datafixes.project import Project
    from datafixes.reconcile.broker import Broker

# What a row that cannot be read may explain: it may be the rest of what the broker has. A phantom stays a phantom.
_MAY_BE_EXPLAINED = ("missing", "quantity", "side", "account")


@dataclass(frozen=True)
class Reconciliation:
    """What one look at the book and at the broker found.

    Attributes:
        comparison: the differences, and what is not known.
        book: the book as it was read.
        answers: what the broker said, by account.
        broker: which broker was asked, as the settings call it.
        read_at: when the look began.
        grace: how long a position that was just opened or closed is unsettled.
    """

    comparison: Comparison
    book: Book
    answers: Mapping[str, Answer]
    broker: str
    read_at: dt.datetime
    grace: dt.timedelta

    @property
    def is_certain(self) -> bool:
        """Whether every account and every row could be compared."""
        return not self.comparison.unknown and not self.book.unreadable

    @property
    def accounts(self) -> list[str]:
        """Every account of the book or of the settings."""
        return sorted({*self.answers, *self.comparison.unknown})

    def only(self, account: str) -> Reconciliation:
        """The part of it that is about one account.

        Raises:
            DatafixError: neither the book nor the settings know the account.
        """
        if account not in self.accounts:
            known = ", ".join(self.accounts) or "none"
            raise DatafixError(
                f"Neither the book nor the settings know an account {account}. Known: {known}."
            )
        found = self.comparison
        book = replace(
            self.book,
            rows=tuple(row for row in self.book.rows if row.position.account == account),
            # A row without an account may belong to this one.
            unreadable=tuple(row for row in self.book.unreadable if row.account in (account, None)),
        )
        answers = {name: answer for name, answer in self.answers.items() if name == account}
        alone = compare(book.positions, answers, now=self.read_at, grace=self.grace)
        differences = tuple(one for one in found.differences if account in (one.account, one.elsewhere))
        unsettled = tuple(one for one in found.unsettled if one.account == account)
        unknown = {name: why for name, why in found.unknown.items() if name == account}
        return replace(
            self,
            comparison=Comparison(differences, unsettled, unknown, alone.equal),
            book=book,
            answers=answers,
        )


def reconcile(project: Project, broker: Broker, *, now: dt.datetime | None = None) -> Reconciliation:
    """Read the book, ask the broker about every account of the settings, and compare.

    Args:
        project: its settings, and its database.
        broker: who knows what is held.
        now: the time, where it is not the clock's.

    Raises:
        DatafixError: the book cannot be read. A broker that cannot be asked makes an account unknown instead.
    """
    settings = project.settings
    read_at = now or dt.datetime.now(dt.UTC)
    grace = dt.timedelta(milliseconds=settings.grace.milliseconds)
    book = read_book(project)
    answers = {
        account: broker.positions(account, since=read_at - grace) for account in settings.broker_accounts
    }
    found = compare(book.positions, answers, now=read_at, grace=grace)
    return Reconciliation(without_doubt(found, book, answers), book, answers, settings.broker, read_at, grace)


def without_doubt(found: Comparison, book: Book, answers: Mapping[str, Answer]) -> Comparison:
    """Take a difference for unsettled where a row that could not be compared may be the reason for it.

    Args:
        found: what a comparison of the other rows found.
        book: the book.
        answers: what the broker said; rows of any other account could not be compared either.
    """
    doubts = _Doubts(book, answers)
    differences: list[Difference] = []
    unsettled = list(found.unsettled)
    for one in found.differences:
        if row := doubts.about(one):
            why = f"row {row} of the book cannot be compared"
            unsettled.append(Unsettled(one.account, one.symbol, one.rows, why))
        else:
            differences.append(one)
    unsettled.sort(key=lambda one: (one.account, str(one.symbol)))
    return replace(found, differences=tuple(differences), unsettled=tuple(unsettled))


class _Doubts:
    """Which rows could not be compared, by what is known of them."""

    def __init__(self, book: Book, answers: Mapping[str, Answer]) -> None:
        self._rows: dict[tuple[str | None, Symbol | None], int] = {}
        for row in book.unreadable:
            self._rows.setdefault((row.account if row.account in answers else None, row.symbol), row.id)
        for position in book.positions:
            if position.account not in answers:
                self._rows.setdefault((None, position.symbol), position.id)

    def about(self, one: Difference) -> int | None:
        """A row that may be the reason for a difference."""
        accounts = [account for account in (one.account, one.elsewhere) if account]
        for account in accounts:
            if (row := self._rows.get((account, one.symbol))) is not None:
                return row
        if one.kind in _MAY_BE_EXPLAINED:
            places = [(account, None) for account in accounts] + [(None, one.symbol), (None, None)]
            return next((self._rows[place] for place in places if place in self._rows), None)
        return None
