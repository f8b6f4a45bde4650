"""JSON for programs: each has a version and a kind, described by ``schema.json`` beside this file."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

# JSON escapes only control characters below the space. These are escaped too, because people read JSON on a screen, and
# a lone surrogate cannot be encoded at all.
_UNSEEN = re.compile(
    "[\\x7f-\\x9f\\xad\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff\\ufeff]"
)


def to_json(value: Any) -> Iterator[str]:
    """The JSON text in parts, indented by two spaces, with a line break at the end.

    Args:
        value: objects of JSON's own types, with ``version`` and ``kind``; an iterator is a list, and is read as it is
            written.

    Raises:
        ValueError: a number that JSON cannot represent, such as NaN.
    """
    yield from _parts(value, "\n")
    yield "\n"


def _parts(value: Any, line: str) -> Iterator[str]:
    match value:
        case dict():
            yield from _inside("{}", ((f"{_scalar(name)}: ", one) for name, one in value.items()), line)
        case list() | tuple() | Iterator():
            yield from _inside("[]", (("", one) for one in value), line)
        case _:
            yield _scalar(value)


def _inside(brackets: str, values: Iterable[tuple[str, Any]], line: str) -> Iterator[str]:
    opening = separator = brackets[0]
    for name, value in values:
        yield f"{separator}{line}  {name}"
        yield from _parts(value, f"{line}  ")
        separator = ","
    yield brackets if separator == opening else f"{line}{brackets[1]}"


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
