"""Values and sentences as safe text: nothing invisible, no control characters, no two values that look the same."""

import re
from collections.abc import Iterator, Mapping, Sequence

from datafixes.report.document import Kind, Value

# Control characters, spaces other than U+0020, and characters that are invisible or change the text direction.
# Written as code points; a test compares them with Unicode's own lists.
_UNSEEN = (
    "\\x00-\\x1f\\x7f-\\xa0\\xad\\u034f\\u061c\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f\\u2028-\\u202f"
    "\\u205f-\\u206f\\u2800\\u3000\\u3164\\ud800-\\udfff\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb"
    "\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff"
)
_COMBINING = "[\\u0300-\\u036f\\u0483-\\u0489\\u1ab0-\\u1aff\\u1dc0-\\u1dff\\u20d0-\\u20ff\\ufe20-\\ufe2f]"
# More than four combining marks on a letter cover its neighbours.
_PILED = f"(?<={_COMBINING}{{4}}){_COMBINING}"
_HARMFUL = re.compile(f"[{_UNSEEN}]|{_PILED}")
_HARMFUL_IN_LINES = re.compile(f"(?!\\n)[{_UNSEEN}]|{_PILED}")
_RIGHT_TO_LEFT = re.compile(
    "[\\u0590-\\u08ff\\ufb1d-\\ufdff\\ufe70-\\ufefc\\U00010800-\\U00010fff\\U0001e800-\\U0001efff]"
)
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
# What may end a sentence, or enclose an address, is not a part of it.
_ADDRESS = re.compile(r"(https?://[\w.~:/?#@!$&()*+,;=%-]*[\w/~=&#%+-])", re.ASCII)
_MARK_OF_CUT = re.compile(r"…$|… \([0-9,]+ characters\)$")

ELLIPSIS = "…"
NULL = "NULL"
MASKED, REDACTED = "(masked)", "(redacted)"
LEFT_TO_RIGHT = "\u200e"


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    number = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def one_line(text: str) -> str:
    """A sentence or a name on one line; invisible characters are shown as escapes."""
    return _HARMFUL.sub(_escape, text)


def lines(text: str) -> list[str]:
    """The lines of a text; invisible characters within them are shown as escapes."""
    return _HARMFUL_IN_LINES.sub(_escape, text.replace("\r\n", "\n").expandtabs(4)).split("\n")


def literal(text: str) -> str:
    """A value as text, such that different values have different texts.

    An unambiguous value is shown as it is. Any other is written as in SQL: ``'NULL'`` is a text and NULL is not, ``''``
    is the empty text, and ``E'...'`` has escapes for invisible characters.
    """
    if _HARMFUL.search(text):
        inner = _HARMFUL.sub(_escape, text.replace("\\", "\\\\")).replace("'", "''")
        return f"E'{inner}'"
    ambiguous = (
        text.strip(" ") != text
        or text.upper() in ("", NULL)
        or text.startswith(("'", "E'", MASKED, REDACTED, ELLIPSIS))
        or "→" in text
        or _MARK_OF_CUT.search(text) is not None
    )
    return "'" + text.replace("'", "''") + "'" if ambiguous else text


def shown(value: Value, limit: int) -> str:
    """A value for people.

    Args:
        value: the value.
        limit: the maximum number of characters; a longer value is cut, and its length is added.
    """
    if value.is_hidden:
        return MASKED if value.masked else REDACTED
    if value.text is None:
        return NULL
    characters = value.characters or len(value.text)
    if len(value.text) <= limit and characters == len(value.text):
        return literal(value.text)
    before = ELLIPSIS if value.start else ""
    return f"{before}{literal(value.text[:limit])}{ELLIPSIS} ({characters:,} characters)"


def is_plain(value: Value) -> bool:
    """Whether a value is neither NULL nor masked nor redacted."""
    return value.text is not None and not value.is_hidden


def same_ends(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """The number of characters, or words, that two texts share at the beginning and, after that, at the end."""
    shorter = min(len(one), len(other))
    start = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    rest = shorter - start
    end = next((at for at in range(rest) if one[-1 - at] != other[-1 - at]), rest)
    return start, end


def with_links(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a text, and for each whether it is an address of the web."""
    for number, part in enumerate(_ADDRESS.split(text)):
        if part:
            yield part, number % 2 == 1


def arrow(before: str, after: str) -> str:
    """The sign between before and after; right-to-left texts must not swap them."""
    turned = _RIGHT_TO_LEFT.search(before) or _RIGHT_TO_LEFT.search(after)
    return f" {LEFT_TO_RIGHT}→{LEFT_TO_RIGHT} " if turned else " → "


def counts_of(kinds: Mapping[Kind, int]) -> str:
    """``7 updated, 1 deleted``."""
    order: tuple[Kind, ...] = ("updated", "inserted", "deleted")
    return ", ".join(f"{kinds[kind]:,} {kind}" for kind in order if kinds.get(kind))
