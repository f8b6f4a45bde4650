"""Whether an audit is as it was sealed, for people and for programs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datafixes.audit.chain.anchors import WORDS, Held
from datafixes.audit.chain.entries import Entry
from datafixes.audit.chain.signing import SIGNED
from datafixes.audit.chain.verdicts import Verdict
from datafixes.audit.wording import counted
from datafixes.report.document import Document, Fact, Grid, Section

_WITHOUT = (
    "Without an anchor (datafixes anchor) this finds out whoever changed images or lines, but not whoever rewrote the "
    "whole chain or cut its end off."
)


_NONE = (Fact("Anchors", _WITHOUT, "attention"),)


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        place: the database.
        ledgers: of each ledger its schema, its chain, and what is known of its runs.
        anchors: each anchor, and what became of it.
    """

    place: str
    ledgers: tuple[tuple[str, Sequence[Entry], tuple[Verdict, ...]], ...]
    anchors: tuple[Held, ...]

    @property
    def verdicts(self) -> list[Verdict]:
        """What is known of all runs."""
        return [one for _, _, verdicts in self.ledgers for one in verdicts]

    @property
    def is_fine(self) -> bool:
        """Whether all is as it was sealed and anchored."""
        return all(one.is_fine for one in self.verdicts) and all(one.is_fine for one in self.anchors)


def document(found: Verified) -> Document:
    """For people."""
    wrong = [one for one in found.verdicts if not one.is_fine]
    proven = [one for one in found.verdicts if one.state in ("proven", "redacted")]
    redacted = sum(one.state == "redacted" for one in proven)
    images = sum(one.images for one in proven)
    summary = f"{counted(len(proven), 'run')} proven, with {counted(images, 'image')}; {len(wrong)} not."
    summary += f" Of {redacted} of them, values were redacted." if redacted else ""
    sections = [_of_ledger(*one) for one in found.ledgers]
    if found.anchors:
        sections.append(_of_anchors(found.anchors))
    return Document(
        title="Audit",
        summary=summary,
        state="good" if found.is_fine else "bad",
        facts=(Fact("Database", found.place), *(() if found.anchors else _NONE)),
        sections=tuple(sections),
    )  # fmt: skip


def _of_ledger(schema: str, entries: Sequence[Entry], verdicts: tuple[Verdict, ...]) -> Section:
    rows = tuple(
        (str(one.run_id), one.fix, one.outcome, _minute(one.finished_at), _minute(one.sealed_at), one.state)
        for one in verdicts
    )
    columns = ("run", "fix", "outcome", "finished (UTC)", "proven since", "is")
    why = tuple(
        Fact(f"Run {one.run_id}", " ".join(one.why), "attention" if one.is_fine else "bad")
        for one in verdicts if one.why
    )  # fmt: skip
    not_covered = sorted({column for one in verdicts for column in one.not_covered})
    notes = (
        [f"Not covered, because renames and moves change such values: {', '.join(not_covered)}."]
        if not_covered
        else []
    )
    notes += _moves(entries)
    head = (
        (Fact("Head", f"{entries[-1].head} at position {entries[-1].position}", exact=True),)
        if entries
        else ()
    )
    is_fine = all(one.is_fine for one in verdicts)
    return Section(
        f"Ledger {schema}",
        state="good" if is_fine else "bad",
        facts=(*why, *head),
        notes=tuple(notes),
        grids=(Grid("", columns, rows, "no runs"),),
    )


def _moves(entries: Iterable[Entry]) -> Iterator[str]:
    """Where the chain went on in another place."""
    before: Entry | None = None
    for entry in entries:
        if before is not None and entry.place != before.place:
            where, was = _place(entry), _place(before)
            yield f"From position {entry.position} on, the chain was written in {where}; before, in {was}."
        before = entry


def _place(entry: Entry) -> str:
    return f"database {entry.database} of cluster {entry.cluster or 'unknown'}, timeline {entry.timeline or 'unknown'}"


def _of_anchors(anchors: Sequence[Held]) -> Section:
    facts = tuple(
        Fact(
            f"{one.anchor.source}, position {one.anchor.position}",
            f"{one.compared}. {WORDS[one.compared]}" + (f" {SIGNED[one.signature]}" if one.signature else ""),
            "good" if one.is_fine else "bad",
        )
        for one in anchors
    )
    is_fine = all(one.is_fine for one in anchors)
    return Section("Anchors", state="good" if is_fine else "bad", facts=facts)


def _minute(time: str | None) -> str | None:
    return None if time is None else time[:16].replace("T", " ")


def as_json(found: Verified) -> dict[str, Any]:
    """For programs."""
    return {
        "version": 1,
        "kind": "verify-audit",
        "fine": found.is_fine,
        "ledgers": [
            {
                "schema": schema,
                "ledger": entries[-1].ledger if entries else None,
                "position": entries[-1].position if entries else 0,
                "head": entries[-1].head if entries else None,
                "runs": [_run(one) for one in verdicts],
            }
            for schema, entries, verdicts in found.ledgers
        ],
        "anchors": [
            {
                "source": one.anchor.source,
                "ledger": one.anchor.ledger,
                "position": one.anchor.position,
                "head": one.anchor.head,
                "is": one.compared,
                "signature": one.signature,
            }
            for one in found.anchors
        ],
    }


def _run(one: Verdict) -> dict[str, Any]:
    return {
        "run_id": one.run_id, "fix": one.fix, "outcome": one.outcome, "finished_at": one.finished_at,
        "position": one.position, "proven_since": one.sealed_at, "state": one.state, "why": list(one.why),
        "not_covered": list(one.not_covered), "images": one.images,
    }  # fmt: skip
