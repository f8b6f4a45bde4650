"""What a check found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import DBAPIError

from datafixes.errors import DatafixError
from datafixes.testing.databases import words_of

TITLES = {
    "up-down-up": "the downgrade gives back what the upgrade found, and the upgrade runs again",
    "offline": "the script of alembic upgrade --sql does what the online run does",
    "foreign-write": "a downgrade does not lose what somebody else wrote since",
    "empty": "on an empty database the upgrade goes on",
}
"""By name, what each check is for."""

Outcome = Literal["passed", "failed", "left out", "nothing to check"]


@dataclass(frozen=True)
class Result:
    """What became of a check.

    Attributes:
        check: its name.
        outcome: how it ended.
        words: why, or what was left aside.
        evidence: more lines.
    """

    check: str
    outcome: Outcome
    words: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What became of the checks of one fix in one test."""

    fix: str
    revision: str
    results: tuple[Result, ...]

    @property
    def failed(self) -> list[Result]:
        """The checks that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def failure(self) -> str:
        """What failed, for people: a line for the summary, then one part for each check."""
        names = ", ".join(result.check for result in self.failed)
        parts = [f"datafix {self.fix} ({self.revision}): failed checks: {names}"]
        for result in self.failed:
            lines = [f"{result.check}: expected: {TITLES[result.check]}", f"    {result.words}"]
            lines += [f"    {line}" for line in result.evidence]
            parts.append("\n".join(lines))
        parts.append('A check can be left out: fix.without("' + self.failed[0].check + '", because="...").')
        return "\n\n".join(parts)

    def notes(self) -> list[tuple[str, str]]:
        """What to tell of checks that did not fail: each the outcome, and a line."""
        grouped: dict[tuple[str, str], list[str]] = {}
        for result in self.results:
            if result.outcome != "failed":
                grouped.setdefault((result.outcome, result.words), []).append(result.check)
        return [
            (outcome, f"datafix {self.fix}: {', '.join(checks)}: {outcome}{f': {words}' if words else ''}")
            for (outcome, words), checks in grouped.items()
        ]


class Failed(Exception):
    """Ends a check that failed."""

    def __init__(self, words: str, *evidence: str) -> None:
        super().__init__(words)
        self.words = words
        self.evidence = evidence

    @classmethod
    def by(cls, what: str, error: Exception) -> Failed:
        """Because something was refused or broke."""
        if isinstance(error, DatafixError):
            return cls(f"{what}: {error.one_line()}", *error.detail.splitlines())
        words = words_of(error) if isinstance(error, DBAPIError) else " ".join(str(error).split())
        return cls(f"{what}: {type(error).__name__}: {words}")


class LeftOut(Exception):
    """Ends a check that should run and cannot: people are told."""


class NothingToCheck(Exception):
    """Ends a check that this test has no use for."""
