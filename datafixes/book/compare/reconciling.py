"""Reads the book and the broker, account by account, and compares them."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datafixes.book.broker.alpaca import AlpacaBroker
from datafixes.book.broker.file_broker import FileBroker
from datafixes.book.broker.protocol import Broker
from datafixes.book.compare.comparing import compare_account, together
from datafixes.book.compare.doubts import MAY_BE_EXPLAINED, without_doubt
from datafixes.book.positions.position import (
    NOT_IN_SETTINGS,
    Answer,
    Comparison,
    Difference,
    Known,
    LeftOut,
    Unknown,
    Unsettled,
)
from datafixes.book.positions.symbols import ignored_of
from datafixes.book.rows.book import Book, read_book, read_others
from datafixes.book.settings import BookSettings
from datafixes.errors import DatafixError, SettingError
from datafixes.project import Project


@dataclass(frozen=True)
class Reconciliation:
    """The result of a reconciliation.

    Attributes:
        comparison: the differences, and what is unknown.
        book: the book, without rows that are equal.
        answers: the broker's answers by account, without positions that are equal.
        broker: the broker, as in the settings.
        read_at: when it began.
        grace: how long a position that was just opened or closed is unsettled.
        compared: the result for each known account by itself.
    """

    comparison: Comparison
    book: Book
    answers: Mapping[str, Answer]
    broker: str
    read_at: dt.datetime
    grace: dt.timedelta
    compared: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def is_certain(self) -> bool:
        """Whether every account and every row could be compared."""
        return not self.comparison.unknown and not self.book.unreadable

    @property
    def accounts(self) -> list[str]:
        """Every account of the book or of the settings."""
        return sorted({*self.answers, *self.comparison.unknown})

    def only(self, account: str) -> "Reconciliation":
        """The part about one account.

        Raises:
            DatafixError: neither the book nor the settings have the account.
        """
        if account not in self.accounts:
            known = ", ".join(self.accounts) or "none"
            raise DatafixError(
                f"Neither the book nor the settings have an account {account}. Known: {known}."
            )
        found, book = self.comparison, self.book
        compared = {name: one for name, one in self.compared.items() if name == account}
        return replace(
            self,
            comparison=Comparison(
                tuple(one for one in found.differences if account in (one.account, one.elsewhere)),
                tuple(one for one in found.unsettled if one.account == account),
                {name: why for name, why in found.unknown.items() if name == account},
                sum(one.equal for one in compared.values()),
                tuple(one for one in found.left_out if one.account == account),
            ),
            book=replace(
                book,
                rows=tuple(row for row in book.rows if row.account == account),
                # A row without an account may belong to this one.
                unreadable=tuple(row for row in book.unreadable if row.account in (account, None)),
                counts={name: rows for name, rows in book.counts.items() if name in (account, "")},
                ignored=tuple(row for row in book.ignored if row.account == account),
            ),
            answers={name: answer for name, answer in self.answers.items() if name == account},
            compared=compared,
        )


@dataclass(frozen=True)
class _Part:
    """The data and the result of one account; equal positions are dropped at once."""

    book: Book
    answer: Answer
    compared: Comparison | None = None


def open_broker(settings: BookSettings) -> Broker:
    """Prepare the broker, without sending a request.

    Raises:
        DatafixError: its client is not installed.
        SettingError: broker_url is not a URL, or would send the keys unencrypted; or broker_ignore names an unknown
            account.
    """
    kind, _, path = settings.broker.partition(":")
    if kind != "file":
        return AlpacaBroker(settings)
    limit = settings.broker_file_age.milliseconds
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:
        raise SettingError(f"broker is {settings.broker!r} ({settings.origins['broker']}): {error}") from None
    age = dt.timedelta(milliseconds=limit) if limit else None
    return FileBroker(file, age, ignored=ignored_of(settings))


def reconcile(project: Project, broker: Broker, *, now: dt.datetime | None = None) -> Reconciliation:
    """Read the book, ask the broker about every account in the settings, and compare.

    One account after the other, so that more accounts need no more memory.

    Args:
        project: its settings, and its database.
        broker: the broker.
        now: the time; by default the clock's.

    Raises:
        DatafixError: the book cannot be read. If the broker fails, the account is unknown instead.
    """
    settings = BookSettings.of(project.settings)
    read_at = now or dt.datetime.now(dt.UTC)
    grace = dt.timedelta(milliseconds=settings.grace.milliseconds)
    parts = {account: _part(project, broker, account, read_at, grace) for account in settings.broker_accounts}
    parts = _no_two_alike(parts)
    others = read_book(project, but=settings.broker_accounts)
    answers = {account: part.answer for account, part in parts.items()}
    book = _joined([*(part.book for part in parts.values()), others])
    compared = {account: part.compared for account, part in parts.items() if part.compared}
    unknown = {
        account: NOT_IN_SETTINGS.why for account in others.counts if account and account not in answers
    }
    unknown |= {account: answer.why for account, answer in answers.items() if isinstance(answer, Unknown)}
    found = together(compared, unknown)
    explained = {one.symbol for one in found.differences if one.kind in MAY_BE_EXPLAINED}
    asked_at = [answer.read_at for answer in answers.values() if isinstance(answer, Known) and answer.read_at]
    not_open = read_others(project, explained, min([read_at, *asked_at]) - grace)
    found = without_doubt(found, book, answers, not_open)
    found = replace(found, left_out=_left_out(ignored_of(settings), book, answers))
    return Reconciliation(found, book, answers, settings.broker, read_at, grace, compared)


def _part(project: Project, broker: Broker, account: str, read_at: dt.datetime, grace: dt.timedelta) -> _Part:
    # The book first: a change in between shows at the broker, as an order in flight or a recent fill.
    book = read_book(project, account=account)
    answer = broker.positions(account, since=read_at - grace)
    if isinstance(answer, Unknown):
        return _Part(book.only(()), answer)
    found = compare_account(account, book.rows, answer, now=read_at, grace=grace)
    shown: list[Difference | Unsettled] = [*found.differences, *found.unsettled]
    symbols = {one.symbol for one in shown}
    positions = tuple(one for one in answer.positions if one.symbol in symbols)
    return _Part(
        book.only({id_ for one in shown for id_ in one.rows}), replace(answer, positions=positions), found
    )


def _left_out(
    ignored: Mapping[str, frozenset[str]], book: Book, answers: Mapping[str, Answer]
) -> tuple[LeftOut, ...]:
    """Every instrument that the settings exclude, including those without positions."""
    found = []
    for account, instrument in sorted(
        (account, name) for account, names in ignored.items() for name in names
    ):
        answer = answers[account]
        held = answer.left_out.get(instrument) if isinstance(answer, Known) else None
        rows = tuple(row.id for row in book.ignored if (row.account, row.instrument) == (account, instrument))
        found.append(LeftOut(account, instrument, held.words if held else "", rows))
    return tuple(found)


def _no_two_alike(parts: Mapping[str, _Part]) -> dict[str, _Part]:
    """Mark accounts as unknown whose keys open the same account."""
    names: dict[str, list[str]] = {}
    for account, part in parts.items():
        if isinstance(part.answer, Known) and part.answer.identity:
            names.setdefault(part.answer.identity, []).append(account)
    checked = dict(parts)
    for alike in names.values():
        for account in alike if len(alike) > 1 else ():
            others = " and ".join(name for name in alike if name != account)
            why = f"its keys and those of {others} open the same account"
            checked[account] = _Part(parts[account].book.only(()), Unknown(why))
    return checked


def _joined(books: Sequence[Book]) -> Book:
    """Several parts of a book, combined."""
    rows = sorted((row for book in books for row in book.rows), key=lambda row: row.id)
    unreadable = sorted((row for book in books for row in book.unreadable), key=lambda row: row.id)
    counts = sum((Counter(book.counts) for book in books), Counter[str]())
    ignored = tuple(sorted((row for book in books for row in book.ignored), key=lambda row: row.id))
    return replace(books[0], rows=tuple(rows), unreadable=tuple(unreadable), counts=counts, ignored=ignored)
