"""The differences between book and broker, for people and for programs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from datafixes.audit.wording import counted, moment, named
from datafixes.book.compare.reconciling import Reconciliation
from datafixes.book.positions.position import Known, digits
from datafixes.report.document import Document, Fact, Grid, Section, State

Word = Literal["equal", "different", "unsettled", "unknown"]
"""All compared positions are equal; some differ; none differ, but some are unsettled; unknown."""


def _verdict_on(found: Reconciliation, account: str) -> tuple[Word, str]:
    """The verdict on one account of a reconciliation: in a word, and with the counts, or the reason."""
    part = found.only(account)
    count = len(part.comparison.differences)
    bad = part.book.unreadable
    cannot = f"{named('row', (row.id for row in bad))} cannot be compared"
    waiting = f"{len(part.comparison.unsettled)} unsettled"
    if count:
        more = [cannot] * bool(bad) + [waiting] * bool(part.comparison.unsettled)
        return "different", ", ".join([f"{count} differ{'s' if count == 1 else ''}", *more])
    if account in part.comparison.unknown:
        return "unknown", f"unknown: {part.comparison.unknown[account]}"
    if bad:
        why = f": {bad[0].why}" if len(bad) == 1 else ""
        return "unknown", f"unknown: {cannot}{why}"
    if part.comparison.unsettled:
        return "unsettled", waiting
    return "equal", "equal"


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
        Fact(
            "Book", f"{found.book.source}: {counted(sum(found.book.counts.values()), 'row')} open or closing"
        ),
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


def _account(found: Reconciliation, account: str) -> tuple[str, State]:
    word, text = _verdict_on(found, account)
    words = [text, f"{counted(found.book.counts.get(account, 0), 'row')} in the book"]
    if account in found.compared and account not in found.comparison.unknown:
        words.append(f"{counted(found.compared[account].held, 'position')} at the broker")
    left_out = [one for one in found.comparison.left_out if one.account == account]
    words += [f"{one.instrument} excluded" for one in left_out]
    state = _STATES[word]
    in_book = state == "good" and any(one.rows for one in left_out)
    return "; ".join(words), "attention" if in_book else state


def _sections(found: Reconciliation) -> tuple[Section, ...]:
    lists = _lists(found)
    kinds = {one.kind for one in found.comparison.differences}
    differences = [
        {
            **one,
            "account": f"{one['account']}, not {one['elsewhere']}" if one["elsewhere"] else one["account"],
        }
        for one in lists["differences"]
    ]
    unknown = [{"account": account, "why": why} for account, why in found.comparison.unknown.items()]
    sections = (
        _table("Unknown accounts", unknown, note="An account that did not answer in full is not compared."),
        replace(
            _table("Differences", differences),
            facts=tuple(Fact(kind, meaning) for kind, meaning in MEANING.items() if kind in kinds),
        ),
        _table("Rows of the book that cannot be compared", lists["unreadable"]),
        _table(
            "Unsettled",
            lists["unsettled"],
            state="attention",
            note="Not differences yet: compare again later.",
        ),
        _table(
            "Not compared",
            lists["not_compared"],
            state="attention" if found.book.ignored else "",
            note="The setting broker_ignore excludes these, at the broker and in the book.",
        ),
    )
    return tuple(section for section in sections if section.grids[0].rows)


def _table(title: str, rows: Sequence[Mapping[str, Any]], *, state: State = "bad", note: str = "") -> Section:
    """A table of the rows of the JSON; the document has another place for "elsewhere"."""
    columns = tuple(name for name in (rows[0] if rows else ()) if name != "elsewhere")
    cells = tuple(tuple(_cell(row[name]) for name in columns) for row in rows)
    return Section(title, state, notes=(note,) if note else (), grids=(Grid("", columns, cells),))


def _cell(value: Any) -> str | None:
    return (", ".join(map(str, value)) or None) if isinstance(value, list) else value and str(value)


def reconciliation_as_json(found: Reconciliation) -> dict[str, Any]:
    """The JSON. Quantities are strings, so that no program rounds them."""
    return {
        "version": 2,
        "kind": "reconcile",
        "book": {
            "source": found.book.source,
            "read_at": found.book.read_at.isoformat(),
            "rows": sum(found.book.counts.values()),
        },
        "broker": found.broker,
        "read_at": found.read_at.isoformat(),
        "accounts": [_account_as_json(found, account) for account in found.accounts],
        "equal": found.comparison.equal,
        **_lists(found),
    }


def _lists(found: Reconciliation) -> dict[str, list[dict[str, Any]]]:
    """The parts of the JSON that are tables in the document."""
    return {
        "differences": [
            {
                "kind": one.kind,
                "account": one.account,
                "elsewhere": one.elsewhere or None,
                "symbol": str(one.symbol),
                "book": digits(one.book),
                "broker": digits(one.broker),
                "rows": list(one.rows),
            }
            for one in found.comparison.differences
        ],
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
    return {
        "account": account,
        "verdict": _verdict_on(found, account)[0],
        "differences": len(found.only(account).comparison.differences),
        "known": known is not None,
        "why": found.comparison.unknown.get(account),
        "read_at": known.read_at.isoformat() if known and known.read_at else None,
        "source": known.source if known else None,
        "positions": found.compared[account].held if known else None,
    }
