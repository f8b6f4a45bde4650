"""The results of the checks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from datafixes.database.aws_client import DENIED, NotAsked
from datafixes.report.document import Fact, State, unknown

COLOURS: Mapping[State, str] = {"good": "green", "bad": "red", "unknown": "unknown", "": "skipped"}
"""The words for readers: as expected; not as expected; could not be checked; skipped on request."""


@dataclass(frozen=True)
class Checklist:
    """All lines, in display order."""

    lines: tuple[Fact, ...]

    @property
    def is_green(self) -> bool:
        """Whether nothing is red or unknown."""
        return all(line.state in ("good", "") for line in self.lines)

    @property
    def is_red(self) -> bool:
        """Whether a line is red."""
        return any(line.state == "bad" for line in self.lines)

    @property
    def is_final(self) -> bool:
        """Whether checking again is pointless."""
        return self.is_green or any(line.lasting for line in self.lines)

    def counts(self) -> str:
        """``3 green, 1 red``."""
        numbers = [(sum(line.state == state for line in self.lines), COLOURS[state]) for state in COLOURS]
        return ", ".join(f"{number} {colour}" for number, colour in numbers if number)


@dataclass
class Progress:
    """The progress of a check, for a waiting thread.

    Attributes:
        lines: the lines so far.
        asked: the name of the current subject.
    """

    lines: tuple[Fact, ...] = ()
    asked: str = "Checklist"

    def asks(self, name: str, *known: Fact) -> None:
        """Add lines, and go on to the next subject."""
        self.lines, self.asked = (*self.lines, *known), name

    def given_up(self, seconds: float) -> Checklist:
        """The checklist if the check does not end in time."""
        evidence = f"does not answer within {seconds:.3g} s; later lines were not checked"
        return Checklist((*self.lines, unknown(self.asked, evidence)))


def not_asked(name: str, error: NotAsked, permission: str) -> Fact:
    """The line for a question that AWS did not answer."""
    denied = error.code in DENIED
    hint = f"These credentials need {permission}" if denied else ""
    return unknown(name, str(error), hint, lasting=denied)


def some(texts: Iterable[str], most: int = 5) -> str:
    """The first of several texts, and the number of the others."""
    listed = list(texts)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return "; ".join(listed[:most]) + more
