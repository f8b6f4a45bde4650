"""What differs between two texts, word by word: the source for terminal, Markdown and HTML."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Literal

from datafixes.report.document import Cell, Value
from datafixes.report.text import ELLIPSIS, is_plain, literal, same_ends

# A word with the blanks behind it; dates, numbers, addresses, escapes and short texts in quotes are words.
_WORD = re.compile(r"(?:\\.|\"[^\"\s\\]{1,40}\"|\w(?:[\w.:/@+-]*\w)?|\s|[^\w\s])\s*")
_JSON = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
# Fewer shared characters make a comparison noise. In more words, or in texts that have little in common, only the two
# ends are compared, because difflib would take too long.
_SHARED, _MOST_WORDS, _ALIKE = 16, 1000, 0.4
_APART, _GAP = 4, 12
"""Fewer equal characters do not part two changes; and fewer are not left out."""

MARKS = {"was": ("[-", "-]"), "is": ("{+", "+}")}
"""What stands around words that were removed and added, where there is text only: as in ``git diff --word-diff``."""


@dataclass(frozen=True)
class Piece:
    """A piece of two texts: in both; in both and far from a change; only in the one before; only in the one after."""

    kind: Literal["same", "gap", "was", "is"]
    text: str


def difference(cell: Cell, around: int, *, laid_out: bool = False) -> list[Piece]:
    """The pieces of a changed value, in order; empty if its two sides are not texts, or have little in common.

    Args:
        cell: the value before and after.
        around: how many characters to keep on both sides of a change; further ones are a gap.
        laid_out: show JSON with a line for each member.
    """
    sides = _plain_sides(cell)
    if sides is None or max(map(len, sides)) <= _SHARED:
        return []
    before, after = map(_lines_of_json, sides) if laid_out else sides
    found = list(_pieces(before, after))
    shared = sum(len(piece.text.strip()) for piece in found if piece.kind == "same")
    if shared < _SHARED or all(piece.kind == "same" for piece in found):
        return []
    cut = [value.characters is not None for value in (cell.before, cell.after) if value is not None]
    start = cell.before.start if cell.before is not None else 0
    return _merged(_with_gaps(found, around, start=start > 0, cut=any(cut)))


def _plain_sides(cell: Cell) -> tuple[str, str] | None:
    before, after = cell.before, cell.after
    if before is None or after is None or not (is_plain(before) and is_plain(after)):
        return None
    one, other = before.text or "", after.text or ""
    # of long values a part was read: both parts end as far from the end, so that what follows a change is the same
    behind = (_characters(before) - len(one)) - (_characters(after) - len(other))
    if before.characters is not None and after.characters is not None:
        one, other = one[: max(len(one) - max(-behind, 0), 0)], other[: max(len(other) - max(behind, 0), 0)]
    return literal(one), literal(other)


def as_text(pieces: Iterable[Piece], longest: int) -> str:
    """One text with marks around what was removed and added: ``…was [-7 %-]{+19 %+} of the…``."""
    parts = []
    for piece in pieces:
        opening, closing = MARKS.get(piece.kind, ("", ""))
        parts.append(opening + shortened(piece, longest) + closing)
    return "".join(parts)


def one_side(pieces: Iterable[Piece], side: Literal["was", "is"], longest: int) -> str:
    """The text before or after, without marks."""
    return "".join(shortened(piece, longest) for piece in pieces if piece.kind in ("same", "gap", side))


def is_ambiguous(pieces: Iterable[Piece]) -> bool:
    """Whether the texts hold what looks like a mark, such as the list ``[-1]`` in JSON."""
    text = " ".join(piece.text for piece in pieces)
    return any(mark in text for marks in MARKS.values() for mark in marks)


def lengths(cell: Cell) -> str:
    """The number of characters before and after, ``(689 → 691 characters)``."""
    before, after = (_characters(value) for value in (cell.before, cell.after))
    return f"({before:,} → {after:,} characters)" if before != after else f"({before:,} characters)"


def _characters(value: Value | None) -> int:
    return 0 if value is None else value.characters or len(value.text or "")


def shortened(piece: Piece, longest: int) -> str:
    """The text of a piece, or its beginning."""
    if piece.kind == "gap":
        return ELLIPSIS
    return piece.text if len(piece.text) <= longest else piece.text[:longest] + ELLIPSIS


def _lines_of_json(text: str) -> str:
    """A JSON object or list with a line for each member, if it has PostgreSQL's own form; only blanks are added."""
    if not text.startswith(("{", "[")):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    words = _JSON.findall(text)
    if "".join(f"{word} " if word in (",", ":") else word for word in words) != text:
        return text
    lines, depth = [""], 0
    for number, word in enumerate(words):
        opens, closes = word in ("{", "["), word in ("}", "]")
        is_empty = closes and words[number - 1] in ("{", "[")
        depth -= closes
        if closes and not is_empty:
            lines.append("  " * depth)
        lines[-1] += word + (" " if word == ":" else "")
        depth += opens
        if word == "," or (opens and words[number + 1] not in ("}", "]")):
            lines.append("  " * depth)
    return "\n".join(lines)


def _pieces(before: str, after: str) -> Iterator[Piece]:
    """The pieces without gaps; a removal comes before the addition in its place."""
    was, now = _WORD.findall(before), _WORD.findall(after)
    start = next(
        (n for n, pair in enumerate(zip(was, now, strict=False)) if pair[0] != pair[1]),
        min(len(was), len(now)),
    )
    rest = min(len(was), len(now)) - start
    end = next((n for n in range(rest) if was[-1 - n] != now[-1 - n]), rest)
    one, other = was[start : len(was) - end], now[start : len(now) - end]
    found = [
        Piece("same", "".join(was[:start])),
        *_between(one, other),
        Piece("same", "".join(was[len(was) - end :])),
    ]
    yield from _joined(found)


def _between(was: list[str], now: list[str]) -> Iterator[Piece]:
    matcher = SequenceMatcher(None, was, now)
    if max(len(was), len(now)) > _MOST_WORDS or not (was and now) or matcher.quick_ratio() < _ALIKE:
        yield from _replaced("".join(was), "".join(now))
        return
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield Piece("same", "".join(was[i1:i2]))
        else:
            yield from _replaced("".join(was[i1:i2]), "".join(now[j1:j2]))


def _replaced(was: str, now: str) -> Iterator[Piece]:
    """Two texts without a word in common; of very long words, the ends that they share."""
    start, end = same_ends(was, now)
    if start + end < _SHARED:
        start = end = 0
    yield Piece("same", was[:start])
    yield Piece("was", was[start : len(was) - end])
    yield Piece("is", now[start : len(now) - end])
    yield Piece("same", was[len(was) - end :] if end else "")


def _joined(pieces: list[Piece]) -> Iterator[Piece]:
    """Neighbours of a kind as one, and changes that only a few characters keep apart."""
    was = now = same = ""
    for piece in (*pieces, Piece("same", "")):
        if piece.kind == "was":
            was, now, same = was + same + piece.text, now + same, ""
        elif piece.kind == "is":
            was, now, same = was + same, now + same + piece.text, ""
        elif piece.text:
            same += piece.text
        if len(same.strip()) >= _APART or (same and not (was or now)):
            yield from _change(was, now)
            was = now = ""
            yield Piece("same", same)
            same = ""
    yield from _change(was, now)
    if same:
        yield Piece("same", same)


def _change(was: str, now: str) -> Iterator[Piece]:
    """Without the blanks behind both."""
    blanks, _ = same_ends(*(text[len(text.rstrip()) :][::-1] for text in (was, now)))
    end = len(was) - blanks
    if end:
        yield Piece("was", was[:end])
    if len(now) > blanks:
        yield Piece("is", now[: len(now) - blanks])
    if blanks:
        yield Piece("same", was[end:])


def _with_gaps(pieces: list[Piece], around: int, *, start: bool, cut: bool) -> Iterator[Piece]:
    """Long equal pieces with a gap in them."""
    pieces = _merged(pieces)
    if start:
        yield Piece("gap", "")
    for number, piece in enumerate(pieces):
        if piece.kind != "same":
            yield piece
            continue
        first = 0 if number == 0 else _behind(piece.text, around)
        last = len(piece.text) if number == len(pieces) - 1 else _ahead(piece.text, around)
        if last - first <= _GAP:
            yield piece
            continue
        parts = (piece.text[:first], piece.text[first:last], piece.text[last:])
        yield from (
            replace(piece, kind="gap" if place == 1 else "same", text=part)
            for place, part in enumerate(parts)
            if part
        )
    if cut and (not pieces or pieces[-1].kind != "same"):
        yield Piece("gap", "")


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    found: list[Piece] = []
    for piece in pieces:
        if found and found[-1].kind == piece.kind:
            found[-1] = Piece(piece.kind, found[-1].text + piece.text)
        else:
            found.append(piece)
    return found


def _behind(text: str, around: int) -> int:
    """The end of the first words, or lines, of a text, about so many characters."""
    if len(text) <= around:
        return len(text)
    at = text.find(_parting(text), around)
    return at + 1 if 0 <= at < around * 2 else around


def _ahead(text: str, around: int) -> int:
    """The beginning of the last words, or lines, of a text, about so many characters."""
    if len(text) <= around:
        return 0
    start = len(text) - around
    at = text.rfind(_parting(text), max(start - around, 0), start)
    return at if at >= 0 else start


def _parting(text: str) -> str:
    return "\n" if "\n" in text else " "
