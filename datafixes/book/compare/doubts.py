"""Doubts about differences, because of rows that were not compared. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from datafixes.book.positions.position import Answer, Comparison, Difference, Known, Unsettled
from datafixes.book.positions.symbols import Symbol
from datafixes.book.rows.book import Book, OtherRow

MAY_BE_EXPLAINED = ("missing", "quantity", "side", "account")
"""The kinds of differences that an uncompared row may explain, as the rest of the broker's position."""


def without_doubt(
    found: Comparison, book: Book, answers: Mapping[str, Answer], others: Iterable[OtherRow] = ()
) -> Comparison:
    """Treat a difference as unsettled if an uncompared row may be its reason.

    Args:
        found: the result for the other rows.
        book: the book.
        answers: the broker's answers; rows of other accounts could not be compared.
        others: rows that are not open, and may have been when the broker was asked.
    """
    rows: dict[tuple[str | None, Symbol | None], str] = {}
    cannot = "row {} of the book cannot be compared"
    for row in book.unreadable:
        rows.setdefault((row.account if row.account in answers else None, row.symbol), cannot.format(row.id))
    for position in book.rows:
        if position.account not in answers:
            rows.setdefault((None, position.symbol), cannot.format(position.id))
    by_symbol: dict[Symbol, list[OtherRow]] = defaultdict(list)
    for other in others:
        by_symbol[other.symbol].append(other)
    differences: list[Difference] = []
    unsettled = list(found.unsettled)
    for one in found.differences:
        if why := _doubt_about(one, rows, by_symbol[one.symbol]):
            unsettled.append(Unsettled(one.account, one.symbol, one.rows, why))
        else:
            differences.append(one)
    unsettled.sort(key=lambda one: (one.account, str(one.symbol)))
    return replace(found, differences=tuple(differences), unsettled=tuple(unsettled))


def in_doubt(
    one: Difference, found: Comparison, answers: Mapping[str, Answer], *, trusted: bool = False
) -> str:
    """Why nothing should be proposed for a difference, although it looks certain; empty if something can be.

    A position that one account lacks may be in another one that did not answer, or that differs in the same symbol.
    Keys that are not proven to belong to their account may belong to another.

    Args:
        one: the difference.
        found: the result for all accounts.
        answers: the broker's answers.
        trusted: whether the operator vouches for all keys.
    """
    if one.kind in ("phantom", "missing") and found.unknown:
        return f"it may be in {' or '.join(found.unknown)}, which is unknown"
    if others := _others(one, found):
        return f"{' and '.join(others)} differs in it too, or is unsettled: it may be the same position"
    if apart := [other.account for other in found.left_out if other.instrument == str(one.symbol)]:
        return f"it is not compared in {' and '.join(apart)} (broker_ignore): it may be the same position"
    waiting = {(other.account, other.symbol) for other in found.unsettled}
    if one.kind != "phantom" and (one.account, one.symbol) in waiting:
        return "part of it is unsettled"
    answer = answers.get(one.account)
    if isinstance(answer, Known) and answer.identity and not answer.proven and not trusted:
        return 'nothing proves that its keys open this account: add "account_number" to the secret, or use --trust-keys'
    return ""


def _others(one: Difference, found: Comparison) -> list[str]:
    """Other accounts with a surplus of what one lacks, in the book or at the broker."""
    lacks = one.book - one.broker
    accounts = {
        other.account
        for other in found.differences
        if other.symbol == one.symbol and (other.broker - other.book) * lacks > 0
    }
    accounts |= {other.account for other in found.unsettled if other.symbol == one.symbol}
    return sorted(accounts - {one.account})


def _doubt_about(
    one: Difference, rows: Mapping[tuple[str | None, Symbol | None], str], others: Iterable[OtherRow]
) -> str:
    """Why a difference is in doubt; empty if it is not.

    Args:
        one: the difference.
        rows: why rows were not compared, by what is known of their account and symbol.
        others: rows of its symbol that are not open.
    """
    accounts = [account for account in (one.account, one.elsewhere) if account]
    if why := next((rows[account, one.symbol] for account in accounts if (account, one.symbol) in rows), ""):
        return why
    if one.kind not in MAY_BE_EXPLAINED:
        return ""
    for other in others:
        if any(other.is_in(account) for account in accounts):
            return f"{other.words}{' within the grace period' if other.closed_at else ''}"
    places = [(account, None) for account in accounts] + [(None, one.symbol), (None, None)]
    return next((rows[place] for place in places if place in rows), "")
