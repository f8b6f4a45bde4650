"""All accounts compared at once, without a database and without settings."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping

from datafixes.book.compare.comparing import compare_account, together
from datafixes.book.positions.position import (
    NOT_IN_SETTINGS,
    Answer,
    BookPosition,
    Comparison,
    Known,
    Unknown,
)


def compare(
    book: Iterable[BookPosition], broker: Mapping[str, Answer], *, now: dt.datetime, grace: dt.timedelta
) -> Comparison:
    """Compare every open row of the book with the broker's positions.

    Args:
        book: the rows, of all accounts.
        broker: the broker's answer for each account. An account of the book that is missing here is unknown.
        now: when the broker was asked.
        grace: rows that were opened within this time before the answer are unsettled.
    """
    rows: dict[str, list[BookPosition]] = defaultdict(list)
    for row in book:
        rows[row.account].append(row)
    accounts = sorted({*rows, *broker})
    answers = {account: broker.get(account, NOT_IN_SETTINGS) for account in accounts}
    compared = {
        account: compare_account(account, rows[account], answer, now=now, grace=grace)
        for account, answer in answers.items()
        if isinstance(answer, Known)
    }
    unknown = {account: answer.why for account, answer in answers.items() if isinstance(answer, Unknown)}
    return together(compared, unknown)
