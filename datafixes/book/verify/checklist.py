"""The results of the checks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Colour = Literal["green", "red", "unknown", "skipped"]
"""As expected; not as expected; could not be checked; skipped on request."""


@dataclass(frozen=True)
class Line:
    """One line of the checklist.

    Attributes:
        name: the subject.
        colour: the result.
        evidence: the observation.
        hint: what to do about it, or an empty string.
        lasting: waiting will not change it.
    """

    name: str
    colour: Colour
    evidence: str
    hint: str = ""
    lasting: bool = False


@dataclass(frozen=True)
class Checklist:
    """All lines, in display order."""

    lines: tuple[Line, ...]

    @property
    def is_green(self) -> bool:
        """Whether nothing is red or unknown."""
        return all(line.colour in ("green", "skipped") for line in self.lines)

    @property
    def is_red(self) -> bool:
        """Whether a line is red."""
        return any(line.colour == "red" for line in self.lines)

    @property
    def is_final(self) -> bool:
        """Whether checking again is pointless."""
        return self.is_green or any(line.lasting for line in self.lines)

    def counts(self) -> str:
        """``3 green, 1 red``."""
        colours: tuple[Colour, ...] = ("green", "red", "unknown", "skipped")
        numbers = [(sum(line.colour == colour for line in self.lines), colour) for colour in colours]
        return ", ".join(f"{number} {colour}" for number, colour in numbers if number)


@dataclass
class Progress:
    """The progress of a check, for a waiting thread.

    Attributes:
        lines: the lines so far.
        asked: the name of the current subject.
    """

    lines: tuple[Line, ...] = ()
    asked: str = "Checklist"

    def asks(self, name: str, *known: Line) -> None:
        """Add lines, and go on to the next subject."""
        self.lines, self.asked = (*self.lines, *known), name

    def given_up(self, seconds: float) -> Checklist:
        """The checklist if the check does not end in time."""
        evidence = f"does not answer within {seconds:.3g} s; later lines were not checked"
        late = Line(self.asked, "unknown", evidence)
        return Checklist((*self.lines, late))


def some(texts: Iterable[str], most: int = 5) -> str:
    """The first of several texts, and the number of the others."""
    listed = list(texts)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return "; ".join(listed[:most]) + more
