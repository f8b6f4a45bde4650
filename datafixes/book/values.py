"""Parsers of the book's settings: each takes text, and raises a ValueError that says what is wrong."""

import re
from collections.abc import Mapping
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


def parse_accounts(text: str) -> Mapping[str, str]:
    """`NAME=SECRET,NAME=SECRET`, each account once; a name alone if the broker needs no keys."""
    form = "write ACCOUNT=SECRET, with commas between several"
    accounts: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, secret = (piece.strip() for piece in part.partition("="))
        is_name = re.fullmatch(r"(env:|arn:[\w:-]+:)?[\w/+=.@-]+", secret) or not equals
        if not name or name in accounts or not is_name:
            raise ValueError(form)
        accounts[name] = secret
    return MappingProxyType(accounts)


def parse_ignored(text: str) -> tuple[tuple[str, str], ...]:
    """`ACCOUNT:INSTRUMENT,ACCOUNT:INSTRUMENT`, each once."""
    form = "write ACCOUNT:INSTRUMENT, with commas between several"
    found: dict[tuple[str, str], None] = {}
    for part in text.split(",") if text else ():
        account, _, instrument = (piece.strip() for piece in part.rpartition(":"))
        if not account or not instrument:
            raise ValueError(form)
        if (account, instrument) in found:
            raise ValueError(f"{account}:{instrument} is given twice; {form}")
        found[account, instrument] = None
    return tuple(found)


def parse_streams(text: str) -> tuple[tuple[str, str], ...]:
    """`ACCOUNT=PATTERN,ACCOUNT=PATTERN`; an account may have several patterns."""
    form = "write ACCOUNT=PATTERN, with commas between several; * stands for anything"
    found: dict[tuple[str, str], None] = {}
    for part in text.split(",") if text else ():
        account, _, pattern = (piece.strip() for piece in part.partition("="))
        if not account or not pattern:
            raise ValueError(form)
        found[account, pattern] = None
    return tuple(found)
