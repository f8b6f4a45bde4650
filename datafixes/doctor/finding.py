"""A finding: the check, the evidence, and the remedy."""

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "attention", "bad"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the subject, in a word or two.
        state: ``bad`` must be fixed; ``attention`` may be intended.
        evidence: the observation, in a sentence.
        remedy: how to fix it; empty if all is good.
    """

    check: str
    state: State
    evidence: str
    remedy: str = ""


def good(check: str, evidence: str) -> Finding:
    """Nothing to fix."""
    return Finding(check, "good", evidence)


def attention(check: str, evidence: str, remedy: str) -> Finding:
    """Something that may be intended."""
    return Finding(check, "attention", evidence, remedy)


def bad(check: str, evidence: str, remedy: str) -> Finding:
    """Something to fix."""
    return Finding(check, "bad", evidence, remedy)
