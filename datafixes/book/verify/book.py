"""The open positions of each account, book against broker."""

from collections.abc import Iterable, Mapping, Sequence

from datafixes.audit.wording import counted, named
from datafixes.book.positions.position import Comparison, Difference, digits
from datafixes.book.rows.book import Book
from datafixes.book.rows.row import UnreadableRow
from datafixes.book.verify.checklist import some
from datafixes.report.document import Fact, bad, good, unknown

_MORE = "More: datafixes reconcile"
_NO_ACCOUNT = "(no account)"


def rows_of(book: Book) -> Mapping[str, int]:
    """The number of open rows of the book by account, comparable or not."""
    return {account or _NO_ACCOUNT: rows for account, rows in book.counts.items()}


def check_book(book: Book, comparison: Comparison, accounts: Iterable[str] = ()) -> tuple[Fact, ...]:
    """A line for each account.

    Args:
        book: the rows that are open.
        comparison: what book and broker say.
        accounts: the accounts in the settings, which may have no rows.
    """
    rows = rows_of(book)
    unreadable: dict[str, list[UnreadableRow]] = {}
    for row in book.unreadable:
        unreadable.setdefault(row.account or _NO_ACCOUNT, []).append(row)
    named = sorted({*rows, *accounts, *comparison.unknown, *(one.account for one in comparison.differences)})
    return tuple(
        _of_account(account, rows.get(account, 0), unreadable.get(account, ()), comparison)
        for account in named
    )


def _of_account(account: str, rows: int, unreadable: Sequence[UnreadableRow], comparison: Comparison) -> Fact:
    name, open_rows = f"Positions of {account}", f"{counted(rows, 'row')} open in the book"
    found = [one for one in comparison.differences if account in (one.account, one.elsewhere)]
    if found:
        evidence = f"{open_rows}; {len(found)} different: {some(_words(found))}"
        return bad(name, evidence, _MORE)
    doubts = [f"row {row.id} cannot be compared: {row.why}" for row in unreadable]
    if account in comparison.unknown:
        doubts.append(f"the broker's positions are unknown: {comparison.unknown[account]}")
    if doubts:
        return unknown(name, f"{open_rows}; {some(doubts)}", _MORE)
    waiting = [f"{one.symbol} ({one.why})" for one in comparison.unsettled if one.account == account]
    if waiting:
        return unknown(name, f"{open_rows}; not settled yet: {some(waiting)}", _MORE)
    equal = "the broker holds the same" if rows else "the broker holds nothing either"
    left_out = [one for one in comparison.left_out if one.account == account]
    if not left_out:
        return good(name, f"{open_rows}, {equal}")
    evidence = f"{open_rows}, {equal} except what is not compared (broker_ignore): {some(map(str, left_out))}"
    # A position that only the broker has is ignored on purpose; a row of the book in it is unchecked.
    if any(one.rows for one in left_out):
        return unknown(name, evidence, _MORE)
    return good(name, evidence)


def _words(found: Sequence[Difference]) -> Iterable[str]:
    for one in found:
        rows = f" {named('row', one.rows)}" if one.rows else ""
        place = f" in {one.elsewhere}" if one.elsewhere else ""
        book, broker = digits(one.book), digits(one.broker)
        yield f"{one.symbol} {one.kind}{rows} (book {book}, broker {broker}{place})"
