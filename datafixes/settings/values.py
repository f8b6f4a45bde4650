"""Parsers of settings: each takes text, and raises a ValueError that says what is wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

Policy = Literal["skip", "overwrite"]
"""How a revert treats a row that somebody changed since: leave it, or restore the old values."""

MOST_ROWS = 10_000_000
"""A batch changes at most so many rows."""

_UNITS = {"us": Decimal("0.001"), "ms": Decimal(1), "s": Decimal(1000), "min": Decimal(60_000),
          "h": Decimal(3_600_000), "d": Decimal(86_400_000)}  # fmt: skip
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)
_LONGEST = 2_147_483_647

# Greedy up to the last @: an unescaped @ still belongs to the password.
USER_INFO = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]*://)(?P<user>[^:/?#@\s]*)(?::(?P<password>\S*?))?@"
    r"(?=[^@/?#\s]*(?:/[^@?\s]*)?(?:\?[\w.%-]+=\S*|#\S*)?(?:\s|$))",
    re.IGNORECASE,
)
_SECRET_PARAMETER = re.compile(
    r"(?P<name>(?:^|[?&;#\s])[\w.%-]*(?:pass|token|secret|key|sign|auth|credential|code)[\w.%-]*\s*=\s*)"
    r"(?:'(?:[^'\\]|\\.)*'|[^&\s]*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Duration:
    """A length of time in PostgreSQL's notation; its text form is valid in `SET lock_timeout`.

    Attributes:
        milliseconds: zero is PostgreSQL's "no limit".
    """

    milliseconds: int

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read `5s`, `500ms`, `1.5min` or `0`. The unit is required: PostgreSQL would read a bare 5 as 5 ms."""
        form = "write a number and a unit (us, ms, s, min, h, d) such as 5s, or 0"
        match = _DURATION.fullmatch(text)
        if not match or (match[2] not in _UNITS and (match[2] or Decimal(match[1]))):
            raise ValueError(form)
        exact = Decimal(match[1]) * _UNITS.get(match[2], Decimal(1))
        if exact > _LONGEST:
            raise ValueError("the maximum is 2147483647ms, about 24 days")
        if exact and exact < 1:
            raise ValueError("less than a millisecond would mean no limit")
        return cls(int(exact))

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.milliseconds / 1000

    def __str__(self) -> str:
        for unit in ("d", "h", "min", "s"):
            size = int(_UNITS[unit])
            if self.milliseconds and self.milliseconds % size == 0:
                return f"{self.milliseconds // size}{unit}"
        return f"{self.milliseconds}ms" if self.milliseconds else "0"


def masked(text: str) -> str:
    """The text with `***` for every password or token in its URLs."""
    return _SECRET_PARAMETER.sub(r"\g<name>***", USER_INFO.sub(_without_password, text))


def _without_password(match: re.Match[str]) -> str:
    before, user = match["before"], match["user"]
    # In http URLs, a user name without a password is often a token.
    if before.lower().startswith("http"):
        return f"{before}***@"
    return f"{before}{user}@" if match["password"] is None else f"{before}{user}:***@"


def parse_text(text: str) -> str:
    """Any text, on one line."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def parse_url(text: str) -> str:
    """A URL, which is parsed where it is used; unescaped white space in a password is kept."""
    return re.sub(r"\s", lambda space: f"%{ord(space[0]):02X}", text) if "://" in text else text


def parse_application(text: str) -> str:
    """Text for the ledger: on one line, without passwords and tokens."""
    return masked(parse_text(text))


def parse_attempts(text: str) -> int:
    """A positive integer."""
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) < 1:
        raise ValueError("write an integer from 1 to 9999")
    return int(text)


def parse_version(text: str) -> int:
    """A version of the embedded PostgreSQL."""
    if text not in ("16", "18"):
        raise ValueError("the embedded PostgreSQL comes in versions 16 and 18")
    return int(text)


def parse_region(text: str) -> str:
    """The name of an AWS region, which becomes part of a host name."""
    if text and not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", text):
        raise ValueError("write the name of a region such as eu-central-1")
    return text


def parse_prefix(text: str) -> str:
    """The path of parameters, with one slash at the end."""
    return text and text.rstrip("/") + "/"


def parse_policies(text: str) -> Mapping[str, Policy]:
    """`FIX:skip,FIX2:overwrite`, each fix once."""
    form = "write FIX:skip or FIX:overwrite, with commas between several"
    policies: dict[str, Policy] = {}
    for part in text.split(",") if text else ():
        fix, _, policy = (piece.strip() for piece in part.rpartition(":"))
        if not fix or policy not in ("skip", "overwrite"):
            raise ValueError(form)
        if fix in policies:
            raise ValueError(f"{fix} is given twice; {form}")
        policies[fix] = "skip" if policy == "skip" else "overwrite"
    return MappingProxyType(policies)


def parse_batches(text: str) -> Mapping[str, int]:
    """`FIX:5000,FIX2:1_000`: how many rows a batch of each fix changes at most, each fix once."""
    form = f"write FIX:5000, with commas between several; a batch has 1 to {MOST_ROWS:_} rows"
    batches: dict[str, int] = {}
    for part in text.split(",") if text else ():
        fix, _, rows = (piece.strip() for piece in part.rpartition(":"))
        if (
            not fix
            or not re.fullmatch(r"[0-9]+(_[0-9]+)*", rows, re.ASCII)
            or not 1 <= int(rows) <= MOST_ROWS
        ):
            raise ValueError(form)
        if fix in batches:
            raise ValueError(f"{fix} is given twice; {form}")
        batches[fix] = int(rows)
    return MappingProxyType(batches)


def parse_fix(text: str) -> str:
    """The name of one fix."""
    if text and not re.fullmatch(r"[\w.-]+", text):
        raise ValueError("write the name of one fix")
    return text


def parse_declined(text: str) -> Mapping[str, str]:
    """`FIX: reason`; several are separated by semicolons, each fix once."""
    form = "write 'FIX: reason', with semicolons between several"
    declined: dict[str, str] = {}
    for part in re.split(r";\s*(?=[\w.-]+\s*:)", parse_text(text)) if text.strip() else ():
        fix, _, reason = (piece.strip() for piece in part.partition(":"))
        if not re.fullmatch(r"[\w.-]+", fix) or not reason or fix in declined:
            raise ValueError(form)
        if reason.strip(".") in ("WHY", "REASON"):
            raise ValueError(f"{form}; the reason is required, because the ledger keeps it")
        declined[fix] = masked(reason)
    return MappingProxyType(declined)


def parse_tables(text: str) -> frozenset[str]:
    """`NAME,NAME`."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise ValueError("write NAME, with commas between several")
    return frozenset(names)


def parse_digests(text: str) -> frozenset[str]:
    """Read the digest of a plan: sixteen hexadecimal digits for each run, separated by hyphens."""
    digests = [part for part in text.strip().lower().split("-") if part]
    if any(not re.fullmatch(r"[0-9a-f]{16}", digest) for digest in digests):
        raise ValueError("give the digest that datafixes plan showed, such as 0f3c9a5b7d2e4811")
    return frozenset(digests)


def parse_patterns(text: str) -> tuple[str, ...]:
    """Read patterns for columns: email, users.*, public.users.pass*."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
