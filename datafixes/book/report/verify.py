"""The checklist after a deploy, for people and for programs."""

from typing import Any

from datafixes.book.verify.checklist import Checklist, Colour, Line
from datafixes.report.document import Document, Fact, Section, State

# Colours are also words, for readers without colour.
_STATES: dict[Colour, State] = {"green": "good", "red": "bad", "unknown": "attention", "skipped": ""}


def document_of_checklist(checklist: Checklist) -> Document:
    """Each line with its evidence."""
    facts = tuple(Fact(line.name, _text(line), _STATES[line.colour]) for line in checklist.lines)
    if checklist.is_green:
        title, state = "All as expected", _STATES["green"]
    elif checklist.is_red:
        title, state = "Not as expected", _STATES["red"]
    else:
        title, state = "Not everything could be checked", _STATES["unknown"]
    return Document(
        "Verify",
        f"{title}: {checklist.counts()}.",
        state,
        sections=(Section("Checklist", facts=facts),),
    )


def _text(line: Line) -> str:
    words = line.evidence if line.evidence.endswith((".", "!", "?")) else f"{line.evidence}."
    return f"{line.colour}: {words}{f' {line.hint}' if line.hint else ''}"


def checklist_as_json(checklist: Checklist) -> dict[str, Any]:
    """The same in JSON's own types."""
    return {
        "version": 1,
        "kind": "verify",
        "green": checklist.is_green,
        "lines": [
            {"name": line.name, "colour": line.colour, "evidence": line.evidence, "hint": line.hint}
            for line in checklist.lines
        ],
    }
