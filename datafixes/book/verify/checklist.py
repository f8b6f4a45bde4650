"""What a check found, as values."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Colour = Literal["green", "red", "unknown", "skipped"]
"""As wanted; not as wanted; could not be looked at; nobody wanted to look."""


@dataclass(frozen=True)
class Line:
    """One line of the checklist.

    Attributes:
        name: what is looked at.
        colour: what became of it.
        evidence: what was seen.
        hint: what to do about it, or an empty string.
        lasting: it will not change by waiting.
    """

    name: str
    colour: Colour
    evidence: str
    hint: str = ""
    lasting: bool = False


@dataclass(frozen=True)
class Checklist:
    """All lines, in the order in which they are to be read."""

    lines: tuple[Line, ...]

    @property
    def is_green(self) -> bool:
        """Whether nothing is red or unknown."""
        return all(line.colour in ("green", "skipped") for line in self.lines)

    @property
    def is_red(self) -> bool:
        """Whether something is certainly not as wanted."""
        return any(line.colour == "red" for line in self.lines)

    @property
    def is_final(self) -> bool:
        """Whether there is no sense in looking again."""
        return self.is_green or any(line.lasting for line in self.lines)

    def counts(self) -> str:
        """``3 green, 1 red``."""
        colours: tuple[Colour, ...] = ("green", "red", "unknown", "skipped")
        numbers = [(sum(line.colour == colour for line in self.lines), colour) for colour in colours]
        return ", ".join(f"{number} {colour}" for number, colour in numbers if number)


@dataclass
class Progress:
    """How far a look has come, for whoever waits for it in another thread.

    Attributes:
        lines: what is known already.
        asked: the name of what it looks at now.
    """

    lines: tuple[Line, ...] = ()
    asked: str = "Checklist"

    def asks(self, name: str, *known: Line) -> None:
        """Go on to the next, with what the last one brought."""
        self.lines, self.asked = (*self.lines, *known), name

    def given_up(self, seconds: float) -> Checklist:
        """What is there to be shown when it does not come to its end."""
        evidence = f"does not answer within {seconds:.3g} s; what comes after it was not looked at"
        late = Line(self.asked, "unknown", evidence)
        return Checklist((*self.lines, late))


def some(texts: Iterable[str], most: int = 5) -> str:
    """The first of several texts, and how many there are more."""
    listed = list(texts)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return "; ".join(listed[:most]) + more
