"""The checklist after a deploy, for people and for programs."""

from typing import Any

from datafixes.book.verify.checklist import COLOURS, Checklist
from datafixes.report.document import Document, Fact, Section, State

_TITLES: dict[State, str] = {
    "good": "All as expected",
    "bad": "Not as expected",
    "unknown": "Not everything could be checked",
}


def document_of_checklist(checklist: Checklist) -> Document:
    """Each line with its evidence."""
    facts = []
    for line in checklist.lines:
        words = line.text if line.text.endswith((".", "!", "?")) else f"{line.text}."
        text = f"{COLOURS[line.state]}: {words}{f' {line.remedy}' if line.remedy else ''}"
        facts.append(Fact(line.name, text, _shown(line.state)))
    state: State = "good" if checklist.is_green else "bad" if checklist.is_red else "unknown"
    return Document(
        "Verify",
        f"{_TITLES[state]}: {checklist.counts()}.",
        _shown(state),
        sections=(Section("Checklist", facts=tuple(facts)),),
    )


def _shown(state: State) -> State:
    """A check that could not be made needs attention."""
    return "attention" if state == "unknown" else state


def checklist_as_json(checklist: Checklist) -> dict[str, Any]:
    """The same in JSON's own types."""
    return {
        "version": 1,
        "kind": "verify",
        "green": checklist.is_green,
        "lines": [
            {"name": one.name, "colour": COLOURS[one.state], "evidence": one.text, "hint": one.remedy}
            for one in checklist.lines
        ],
    }
