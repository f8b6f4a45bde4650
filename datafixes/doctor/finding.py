"""What was looked at, what was seen, and how to mend it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "attention", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what, in a word or two.
        state: ``bad`` must be mended; ``attention`` may be as it is meant.
        evidence: what was seen, in a sentence.
        remedy: how to mend it; empty where all is good.
    """

    check: str
    state: State
    evidence: str
    remedy: str = ""


def good(check: str, evidence: str) -> Finding:
    """Nothing to mend."""
    return Finding(check, "good", evidence)


def attention(check: str, evidence: str, remedy: str) -> Finding:
    """Something that may be as it is meant."""
    return Finding(check, "attention", evidence, remedy)


def bad(check: str, evidence: str, remedy: str) -> Finding:
    """Something to mend."""
    return Finding(check, "bad", evidence, remedy)
