"""Parsers of the book's settings: each takes text, and raises a ValueError that says what is wrong."""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType


def parse_definition(text: str) -> str:
    """`8`, or `FAMILY:8`: a revision of a task definition, of any family or of this one."""
    if text and not re.fullmatch(r"([A-Za-z0-9_-]{1,255}:)?[1-9][0-9]{0,8}", text):
        raise ValueError("write a revision such as 8, or FAMILY:8")
    return text


def parse_broker(text: str) -> str:
    """`alpaca`, or `file:` and the path of a file of positions."""
    if text != "alpaca" and not (text.startswith("file:") and text != "file:"):
        raise ValueError("write alpaca, or file: and the path of a file of positions")
    return text


def _pairs(text: str, divide: Callable[[str], tuple[str, str, str]], form: str) -> Iterator[tuple[str, str]]:
    """The pairs of a list with commas."""
    for part in text.split(",") if text else ():
        first, _, second = (piece.strip() for piece in divide(part))
        if not first or not second:
            raise ValueError(f"write {form}")
        yield first, second


def parse_accounts(text: str) -> Mapping[str, str]:
    """`NAME=SECRET,NAME=SECRET`, each account once; a name alone if the broker needs no keys."""
    accounts: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, secret = (piece.strip() for piece in part.partition("="))
        is_name = re.fullmatch(r"(env:|arn:[\w:-]+:)?[\w/+=.@-]+", secret) or not equals
        if not name or name in accounts or not is_name:
            raise ValueError("write ACCOUNT=SECRET, with commas between several")
        accounts[name] = secret
    return MappingProxyType(accounts)


def parse_ignored(text: str) -> tuple[tuple[str, str], ...]:
    """`ACCOUNT:INSTRUMENT,ACCOUNT:INSTRUMENT`, each once."""
    form = "ACCOUNT:INSTRUMENT, with commas between several"
    found = tuple(_pairs(text, lambda part: part.rpartition(":"), form))
    if twice := [pair for pair in found if found.count(pair) > 1]:
        raise ValueError(f"{':'.join(twice[0])} is given twice; write {form}")
    return found


def parse_streams(text: str) -> tuple[tuple[str, str], ...]:
    """`ACCOUNT=PATTERN,ACCOUNT=PATTERN`; an account may have several patterns."""
    form = "ACCOUNT=PATTERN, with commas between several; * stands for anything"
    return tuple(dict.fromkeys(_pairs(text, lambda part: part.partition("="), form)))
