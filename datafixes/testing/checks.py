"""Results of checks, and their reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import DBAPIError

from datafixes.errors import DatafixError
from datafixes.testing.databases import words_of

TITLES = {
    "up-down-up": "the downgrade restores all rows, and the upgrade runs again",
    "offline": "the script of alembic upgrade --sql has the same effect as the online run",
    "stopped": "a fix in batches that stops after any batch can be taken back, and goes on",
    "foreign-write": "a downgrade does not lose later writes by others",
    "empty": "the upgrade succeeds on an empty database",
}
"""The expectation of each check."""

Outcome = Literal["passed", "failed", "left out", "nothing to check"]


@dataclass(frozen=True)
class Result:
    """The result of a check.

    Attributes:
        check: its name.
        outcome: its outcome.
        words: the reason, or what was not compared.
        evidence: further lines.
    """

    check: str
    outcome: Outcome
    words: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The results of the checks of one fix in one test."""

    fix: str
    revision: str
    results: tuple[Result, ...]

    @property
    def failed(self) -> list[Result]:
        """The checks that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def failure(self) -> str:
        """The failure for people: a summary, then one part for each failed check."""
        names = ", ".join(result.check for result in self.failed)
        parts = [f"datafix {self.fix} ({self.revision}): failed checks: {names}"]
        for result in self.failed:
            lines = [f"{result.check}: expected: {TITLES[result.check]}", f"    {result.words}"]
            lines += [f"    {line}" for line in result.evidence]
            parts.append("\n".join(lines))
        parts.append('A check can be left out: fix.without("' + self.failed[0].check + '", because="...").')
        return "\n\n".join(parts)

    def notes(self) -> list[tuple[str, str]]:
        """Notes about checks that did not fail: for each the outcome, and a line."""
        grouped: dict[tuple[str, str], list[str]] = {}
        for result in self.results:
            if result.outcome != "failed":
                grouped.setdefault((result.outcome, result.words), []).append(result.check)
        return [
            (outcome, f"datafix {self.fix}: {', '.join(checks)}: {outcome}{f': {words}' if words else ''}")
            for (outcome, words), checks in grouped.items()
        ]


class Failed(Exception):
    """The check failed."""

    def __init__(self, words: str, *evidence: str) -> None:
        super().__init__(words)
        self.words = words
        self.evidence = evidence

    @classmethod
    def by(cls, what: str, error: Exception) -> Failed:
        """A failure because of an exception."""
        if isinstance(error, DatafixError):
            return cls(f"{what}: {error.one_line()}", *error.detail.splitlines())
        words = words_of(error) if isinstance(error, DBAPIError) else " ".join(str(error).split())
        return cls(f"{what}: {type(error).__name__}: {words}")


class LeftOut(Exception):
    """The check could not run, which is reported."""


class NothingToCheck(Exception):
    """The check does not apply to this test."""
