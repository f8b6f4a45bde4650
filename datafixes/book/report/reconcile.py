"""The differences between book and broker, for people and for programs."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datafixes.audit.wording import counted, moment, named
from datafixes.book.compare.reconciling import Reconciliation
from datafixes.book.positions.position import Difference, Known, digits
from datafixes.report.document import Document, Fact, Grid, Section, State

Word = Literal["equal", "different", "unsettled", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on an account.

    Attributes:
        word: all compared positions are equal; some differ; none differ, but some are unsettled; unknown.
        text: the same with the counts, or the reason.
        differences: the number of different positions.
    """

    word: Word
    text: str
    differences: int


def verdict_on(found: Reconciliation, account: str) -> Verdict:
    """The verdict on one account of a reconciliation."""
    part = found.only(account)
    count = len(part.comparison.differences)
    bad = part.book.unreadable
    cannot = f"{named('row', (row.id for row in bad))} cannot be compared"
    waiting = f"{len(part.comparison.unsettled)} unsettled"
    if count:
        more = [cannot] * bool(bad) + [waiting] * bool(part.comparison.unsettled)
        return Verdict("different", ", ".join([f"{count} differ{'s' if count == 1 else ''}", *more]), count)
    if account in part.comparison.unknown:
        return Verdict("unknown", f"unknown: {part.comparison.unknown[account]}", 0)
    if bad:
        why = f": {bad[0].why}" if len(bad) == 1 else ""
        return Verdict("unknown", f"unknown: {cannot}{why}", 0)
    if part.comparison.unsettled:
        return Verdict("unsettled", waiting, 0)
    return Verdict("equal", "equal", 0)


MEANING: Mapping[str, str] = {
    "phantom": "only the book has it",
    "missing": "only the broker has it",
    "quantity": "both have it, in different quantities",
    "side": "one is long and the other short",
    "duplicate": "the book has it more than once",
    "account": "the broker has it in another account",
}
"""The meaning of each kind of difference, in display order."""


PROPOSED_WITH: Mapping[str, str] = {
    "phantom": "--phantoms",
    "duplicate": "--duplicates",
    "missing": "--missing",
    "quantity": "--quantities",
}
"""The option of ``datafixes propose`` for each kind that can be proposed."""


_STATES: Mapping[Word, State] = {
    "equal": "good", "different": "bad", "unsettled": "attention", "unknown": "unknown"
}  # fmt: skip


def document_of_reconciliation(found: Reconciliation) -> Document:
    """The document for an operator."""
    in_doubt = found.comparison.unsettled or found.book.ignored
    state: State = "attention" if in_doubt else "good"
    if found.comparison.differences or not found.is_certain:
        state = "bad"
    facts = (
        Fact("Book", f"{found.book.source}: {counted(_rows(found), 'row')} open or closing"),
        Fact("Broker", found.broker),
        *(Fact(f"Account {account}", *_account(found, account)) for account in found.accounts),
        Fact("Read", moment(found.read_at)),
    )
    return Document("Reconcile", summary(found), state, facts, _sections(found))


def summary(found: Reconciliation) -> str:
    """The summary: ``7 differences (7 phantom), 3 positions equal.``"""
    kinds = Counter[str](one.kind for one in found.comparison.differences)
    words = [
        f"{counted(len(found.comparison.differences), 'difference')} "
        f"({', '.join(f'{kinds[kind]} {kind}' for kind in MEANING if kind in kinds)})"
        if kinds
        else "No difference"
        if found.is_certain
        else "No difference is known"
    ]
    words.append(f"{counted(found.comparison.equal, 'position')} equal")
    for count, what, plural in (
        (len(found.comparison.unsettled), "unsettled", "unsettled"),
        (len(found.comparison.unknown), "account unknown", "accounts unknown"),
        (len(found.book.unreadable), "row cannot be compared", "rows cannot be compared"),
        (len(found.comparison.left_out), "instrument excluded", "instruments excluded"),
        (len(found.book.ignored), "row of the book in it", "rows of the book in them"),
    ):
        if count:
            words.append(f"{count} {what if count == 1 else plural}")
    return f"{', '.join(words)}."


def _rows(found: Reconciliation) -> int:
    return sum(found.book.counts.values())


def _account(found: Reconciliation, account: str) -> tuple[str, State]:
    verdict = verdict_on(found, account)
    words = [verdict.text, f"{counted(found.book.counts.get(account, 0), 'row')} in the book"]
    if account in found.compared and account not in found.comparison.unknown:
        words.append(f"{counted(found.compared[account].held, 'position')} at the broker")
    left_out = [one for one in found.comparison.left_out if one.account == account]
    words += [f"{one.instrument} excluded" for one in left_out]
    state = _STATES[verdict.word]
    in_book = state == "good" and any(one.rows for one in left_out)
    return "; ".join(words), "attention" if in_book else state


def _sections(found: Reconciliation) -> tuple[Section, ...]:
    comparison = found.comparison
    sections = (
        _table(
            "Unknown accounts",
            ("account", "why"),
            [(account, why) for account, why in comparison.unknown.items()],
            note="An account that did not answer in full is not compared.",
        ),
        _differences(found),
        _table(
            "Rows of the book that cannot be compared",
            ("row", "account", "why"),
            [(str(row.id), row.account, row.why) for row in found.book.unreadable],
        ),
        _table(
            "Unsettled",
            ("account", "symbol", "rows", "why"),
            [(one.account, str(one.symbol), _ids(one.rows), one.why) for one in comparison.unsettled],
            state="attention",
            note="Not differences yet: compare again later.",
        ),
        _table(
            "Not compared",
            ("account", "instrument", "broker", "rows"),
            [
                (one.account, one.instrument, one.broker or None, _ids(one.rows))
                for one in comparison.left_out
            ],
            state="attention" if found.book.ignored else "",
            note="The setting broker_ignore excludes these, at the broker and in the book.",
        ),
    )
    return tuple(section for section in sections if section.grids[0].rows)


def _table(
    title: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[str | None, ...]],
    *,
    state: State = "bad",
    note: str = "",
) -> Section:
    return Section(title, state, notes=(note,) if note else (), grids=(Grid("", columns, tuple(rows)),))


def _differences(found: Reconciliation) -> Section:
    differences = found.comparison.differences
    kinds = [kind for kind in MEANING if any(one.kind == kind for one in differences)]
    rows = tuple(
        (
            one.kind,
            f"{one.account}, not {one.elsewhere}" if one.elsewhere else one.account,
            str(one.symbol),
            digits(one.book),
            digits(one.broker),
            _ids(one.rows),
        )
        for one in differences
    )
    return Section(
        "Differences",
        "bad",
        facts=tuple(Fact(kind, MEANING[kind]) for kind in kinds),
        grids=(Grid("", ("kind", "account", "symbol", "book", "broker", "rows"), rows),),
    )


def _ids(rows: tuple[int, ...]) -> str | None:
    return ", ".join(map(str, rows)) or None


def reconciliation_as_json(found: Reconciliation) -> dict[str, Any]:
    """The JSON. Quantities are strings, so that no program rounds them."""
    return {
        "version": 2,
        "kind": "reconcile",
        "book": {
            "source": found.book.source,
            "read_at": found.book.read_at.isoformat(),
            "rows": _rows(found),
        },
        "broker": found.broker,
        "read_at": found.read_at.isoformat(),
        "accounts": [_account_as_json(found, account) for account in found.accounts],
        "equal": found.comparison.equal,
        "differences": [_difference_as_json(one) for one in found.comparison.differences],
        "unsettled": [
            {"account": one.account, "symbol": str(one.symbol), "rows": list(one.rows), "why": one.why}
            for one in found.comparison.unsettled
        ],
        "unreadable": [
            {"row": row.id, "account": row.account, "why": row.why} for row in found.book.unreadable
        ],
        "not_compared": [
            {
                "account": one.account,
                "instrument": one.instrument,
                "broker": one.broker or None,
                "rows": list(one.rows),
            }
            for one in found.comparison.left_out
        ],
    }


def _account_as_json(found: Reconciliation, account: str) -> dict[str, Any]:
    answer = found.answers.get(account)
    known = answer if isinstance(answer, Known) else None
    verdict = verdict_on(found, account)
    return {
        "account": account,
        "verdict": verdict.word,
        "differences": verdict.differences,
        "known": known is not None,
        "why": found.comparison.unknown.get(account),
        "read_at": _moment(known.read_at if known else None),
        "source": known.source if known else None,
        "positions": found.compared[account].held if known else None,
    }


def _moment(time: dt.datetime | None) -> str | None:
    return time.isoformat() if time else None


def _difference_as_json(one: Difference) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "account": one.account,
        "elsewhere": one.elsewhere or None,
        "symbol": str(one.symbol),
        "book": digits(one.book),
        "broker": digits(one.broker),
        "rows": list(one.rows),
    }
