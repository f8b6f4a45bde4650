"""Differences that may be none, because of a row that was not compared. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from datafixes.book.positions.position import Answer, Comparison, Difference, Known, Unsettled
from datafixes.book.positions.symbols import Symbol
from datafixes.book.rows.book import Book
from datafixes.book.rows.others import OtherRow

MAY_BE_EXPLAINED = ("missing", "quantity", "side", "account")
"""What a row that was not compared may explain: it may be the rest of what the broker has. A phantom stays one."""


def without_doubt(
    found: Comparison, book: Book, answers: Mapping[str, Answer], others: Iterable[OtherRow] = ()
) -> Comparison:
    """Take a difference for unsettled where a row that was not compared may be the reason for it.

    Args:
        found: what a comparison of the other rows found.
        book: the book.
        answers: what the broker said; rows of any other account could not be compared.
        others: rows that are not open, and may have been when the broker was asked.
    """
    doubts = _Doubts(book, answers, others)
    differences: list[Difference] = []
    unsettled = list(found.unsettled)
    for one in found.differences:
        if why := doubts.about(one):
            unsettled.append(Unsettled(one.account, one.symbol, one.rows, why))
        else:
            differences.append(one)
    unsettled.sort(key=lambda one: (one.account, str(one.symbol)))
    return replace(found, differences=tuple(differences), unsettled=tuple(unsettled))


def in_doubt(
    one: Difference, found: Comparison, answers: Mapping[str, Answer], *, trusted: bool = False
) -> str:
    """Why nothing should be proposed for a difference, certain as it looks; empty where something can be.

    What one account lacks may stand in another: in one that did not answer, or in one that differs in the same symbol.
    And keys that nothing proves to be those of their account may be another's.

    Args:
        one: the difference.
        found: everything that was found, in all accounts.
        answers: what the broker said.
        trusted: somebody said that all keys open the accounts that they are named for.
    """
    if one.kind in ("phantom", "missing") and found.unknown:
        return f"it may stand in {' or '.join(found.unknown)}, of which nothing is known"
    if others := _others(one, found):
        return f"{' and '.join(others)} differs in it too, or is not settled: it may be the same position"
    if apart := [other.account for other in found.left_out if other.instrument == str(one.symbol)]:
        return f"what {' and '.join(apart)} has of it is not compared (broker_ignore): it may be the same position"
    waiting = {(other.account, other.symbol) for other in found.unsettled}
    if one.kind != "phantom" and (one.account, one.symbol) in waiting:
        return "some of it is not settled yet"
    answer = answers.get(one.account)
    if isinstance(answer, Known) and answer.identity and not answer.proven and not trusted:
        return 'nothing proves that its keys open this account: put "account_number" beside them, or --trust-keys'
    return ""


def _others(one: Difference, found: Comparison) -> list[str]:
    """Other accounts that have too much of what one lacks, and may be where it is: in the book, or at the broker."""
    lacks = one.book - one.broker
    accounts = {
        other.account
        for other in found.differences
        if other.symbol == one.symbol and (other.broker - other.book) * lacks > 0
    }
    accounts |= {other.account for other in found.unsettled if other.symbol == one.symbol}
    return sorted(accounts - {one.account})


class _Doubts:
    """Which rows were not compared, by what is known of them, and why not."""

    def __init__(self, book: Book, answers: Mapping[str, Answer], others: Iterable[OtherRow]) -> None:
        self._rows: dict[tuple[str | None, Symbol | None], str] = {}
        cannot = "row {} of the book cannot be compared"
        for row in book.unreadable:
            place = (row.account if row.account in answers else None, row.symbol)
            self._rows.setdefault(place, cannot.format(row.id))
        for position in book.positions:
            if position.account not in answers:
                self._rows.setdefault((None, position.symbol), cannot.format(position.id))
        self._others: dict[Symbol, list[OtherRow]] = {}
        for other in others:
            self._others.setdefault(other.symbol, []).append(other)

    def about(self, one: Difference) -> str:
        """Why a difference may be none; empty where nothing says so."""
        accounts = [account for account in (one.account, one.elsewhere) if account]
        for account in accounts:
            if why := self._rows.get((account, one.symbol)):
                return why
        if one.kind not in MAY_BE_EXPLAINED:
            return ""
        for other in self._others.get(one.symbol, ()):
            if any(other.is_in(account) for account in accounts):
                return f"{other.words}{' within the grace period' if other.closed_at else ''}"
        places = [(account, None) for account in accounts] + [(None, one.symbol), (None, None)]
        return next((self._rows[place] for place in places if place in self._rows), "")
