"""The settings of ``datafixes check``."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from datafixes.settings.setting import Setting
from datafixes.settings.values import parse_text

_CODES = "write codes or beginnings of codes, with commas between several: FIX2, FIX301"
_FILES = "write 'PATTERN: CODES', one on each line, or with semicolons between several"


def parse_codes(text: str) -> tuple[str, ...]:
    """Read codes, or beginnings of codes: FIX2, FIX301."""
    codes = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(re.fullmatch(r"FIX[0-9]{0,3}", code) for code in codes):
        raise ValueError(_CODES)
    return codes


def parse_rows(text: str) -> int:
    """Read a number of rows: 100000, 100_000."""
    if not re.fullmatch(r"[0-9][0-9_]{0,14}", text.strip()):
        raise ValueError("write a number of rows: 100000")
    return int(text)


def parse_files(text: str) -> Mapping[str, tuple[str, ...]]:
    """Read `PATTERN: CODES` for several patterns."""
    found: dict[str, tuple[str, ...]] = {}
    for part in re.split(r"[;\n]", text):
        if not part.strip():
            continue
        pattern, _, codes = (piece.strip() for piece in part.rpartition(":"))
        if not pattern or not codes:
            raise ValueError(_FILES)
        found[pattern] = (*found.get(pattern, ()), *parse_codes(codes))
    return MappingProxyType(found)


def _shown(files: Mapping[str, tuple[str, ...]]) -> str:
    return "; ".join(f"{pattern}: {', '.join(codes)}" for pattern, codes in files.items())


_row = Setting.everywhere

CHECK_SETTINGS: tuple[Setting, ...] = (
    _row("check_select", "the codes that check reports, or their beginnings", parse_codes, "FIX", show=", ".join),
    _row("check_ignore", "codes that it does not report, such as FIX205, FIX4", parse_codes, show=", ".join),
    _row("check_per_file_ignores", "codes that it does not report of some files: versions/0*.py: FIX2", parse_files,
         show=_shown),
    _row("check_since", "a revision; it and its ancestors are not checked", parse_text),
    _row("check_rows", "the rows of one transaction; of a larger fix, check says that batches are better", parse_rows,
         "100000"),
    _row("check_baseline", "the file of findings that are known, beside Alembic's configuration", parse_text,
         "datafixes-baseline.json"),
)  # fmt: skip
"""Every setting of check, in display order."""
