"""Differences that may be none, because of a row that was not compared. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from datafixes.reconcile.book import Book
from datafixes.reconcile.closed_rows import ClosedRow
from datafixes.reconcile.positions import Answer, Comparison, Difference, Known, Unsettled
from datafixes.reconcile.symbols import Symbol

MAY_BE_EXPLAINED = ("missing", "quantity", "side", "account")
"""What a row that was not compared may explain: it may be the rest of what the broker has. A phantom stays one."""


def without_doubt(
    found: Comparison, book: Book, answers: Mapping[str, Answer], closed: Iterable[ClosedRow] = ()
) -> Comparison:
    """Take a difference for unsettled where a row that was not compared may be the reason for it.

    Args:
        found: what a comparison of the other rows found.
        book: the book.
        answers: what the broker said; rows of any other account could not be compared.
        closed: rows that were closed within the grace period: the broker may have been asked before.
    """
    doubts = _Doubts(book, answers, closed)
    differences: list[Difference] = []
    unsettled = list(found.unsettled)
    for one in found.differences:
        if why := doubts.about(one):
            unsettled.append(Unsettled(one.account, one.symbol, one.rows, why))
        else:
            differences.append(one)
    unsettled.sort(key=lambda one: (one.account, str(one.symbol)))
    return replace(found, differences=tuple(differences), unsettled=tuple(unsettled))


def in_doubt(one: Difference, found: Comparison, answers: Mapping[str, Answer]) -> str:
    """Why nothing should be proposed for a difference, certain as it looks; empty where something can be.

    A phantom is one only where every account answered: the position may stand in the one that did not. And keys that
    nothing proves to be those of their account may be another's.
    """
    silent = [account for account in found.unknown if account in answers]
    if one.kind == "phantom" and found.unknown:
        return f"the broker may hold it in {' or '.join(found.unknown)}, of which nothing is known"
    answer = answers.get(one.account)
    if not isinstance(answer, Known) or answer.proven or not answer.identity:
        return ""
    prove = 'put "account_number" beside them'
    if silent:
        return f"nothing proves its keys, and they may be those of {' or '.join(silent)}: {prove}"
    if other := _crossed(found.differences).get(one.account):
        return f"the keys of {one.account} and {other} may have changed places: {prove}"
    return ""


def _crossed(differences: Sequence[Difference]) -> dict[str, str]:
    """Accounts of which each holds what the book has in the other: as if their keys had changed places."""
    moved = {(one.account, one.elsewhere) for one in differences if one.elsewhere}
    found = {account: other for account, other in moved if (other, account) in moved}
    numbers = {(one.account, one.symbol): (one.book, one.broker) for one in differences}
    for (account, symbol), (book, broker) in numbers.items():
        for other in {one.account for one in differences if one.symbol == symbol} - {account}:
            if broker and numbers[other, symbol] == (broker, book):
                found[account] = other
    return found


class _Doubts:
    """Which rows were not compared, by what is known of them, and why not."""

    def __init__(self, book: Book, answers: Mapping[str, Answer], closed: Iterable[ClosedRow]) -> None:
        self._rows: dict[tuple[str | None, Symbol | None], str] = {}
        cannot = "row {} of the book cannot be compared"
        for row in book.unreadable:
            place = (row.account if row.account in answers else None, row.symbol)
            self._rows.setdefault(place, cannot.format(row.id))
        for position in book.positions:
            if position.account not in answers:
                self._rows.setdefault((None, position.symbol), cannot.format(position.id))
        self._closed = {
            (row.account, row.symbol): f"row {row.id} of the book was closed within the grace period"
            for row in closed
        }

    def about(self, one: Difference) -> str:
        """Why a difference may be none; empty where nothing says so."""
        accounts = [account for account in (one.account, one.elsewhere) if account]
        for account in accounts:
            if why := self._rows.get((account, one.symbol)):
                return why
        if one.kind not in MAY_BE_EXPLAINED:
            return ""
        for account in accounts:
            if why := self._closed.get((account, one.symbol)):
                return why
        places = [(account, None) for account in accounts] + [(None, one.symbol), (None, None)]
        return next((self._rows[place] for place in places if place in self._rows), "")
