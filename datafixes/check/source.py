"""A Python file as text and as a tree; a failure to read it is a finding."""

import ast
import hashlib
import io
import os
import re
import tokenize
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from datafixes.check.finding import Finding

LONGEST = 2_000_000
"""The maximum size of a file, in bytes: revisions are written for people."""

TOO_DEEP = "The file is nested too deeply to be read."


@dataclass(frozen=True, eq=False)
class Source:
    """A parsed file.

    Attributes:
        path: the file.
        shown: its name in findings.
        lines: its lines, without line breaks.
        tree: its syntax tree.
    """

    path: Path
    shown: str
    lines: tuple[str, ...]
    tree: ast.Module

    @cached_property
    def mentions_fixes(self) -> bool:
        """Whether it names this library or its operations; most files of an old project do not."""
        return any("datafix" in line for line in self.lines)

    def column(self, node: ast.expr | ast.stmt) -> int:
        """The character at which a node begins, from 1; Python itself counts bytes."""
        if not 0 < node.lineno <= len(self.lines):
            return 1
        line = self.lines[node.lineno - 1].encode("utf-8", "surrogatepass")
        return len(line[: node.col_offset].decode("utf-8", "replace")) + 1

    def fingerprint(self, first: int, last: int) -> str:
        """A digest of some lines, whatever their indentation."""
        text = "\n".join(line.strip() for line in self.lines[first - 1 : last])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_source(path: Path) -> Source | Finding:
    """Read a file, or return a finding that says why it cannot be read."""
    shown = shown_path(path)
    try:
        if not path.is_file():
            return Finding("FIX101", shown, 1, 1, "The file does not exist.")
        size = path.stat().st_size
        if size > LONGEST:
            message = f"The file has {size:,} bytes; the maximum is {LONGEST:,}."
            return Finding("FIX101", shown, 1, 1, message)
        content = path.read_bytes()
    except OSError as error:
        return Finding("FIX101", shown, 1, 1, f"The file cannot be read: {error.strerror or error}.")
    return _parsed(path, shown, content)


def _parsed(path: Path, shown: str, content: bytes) -> Source | Finding:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a string
            tree = ast.parse(content)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = f"The file is not {error.encoding}: byte 0x{content[error.start]:02x}."
        return Finding("FIX101", shown, line, 1, message)
    except SyntaxError as error:
        message = f"The file is not Python: {error.msg}."
        return Finding("FIX101", shown, error.lineno or 1, max(error.offset or 1, 1), message)
    except ValueError as error:
        return Finding("FIX101", shown, 1, 1, f"The file is not Python: {error}.")
    except (RecursionError, MemoryError):
        return Finding("FIX101", shown, 1, 1, TOO_DEEP)
    return Source(path, shown, tuple(re.split(r"\r\n|\r|\n", text)), tree)


def shown_path(path: Path) -> str:
    """A path relative to the current directory, if it is below."""
    try:
        return path.resolve().relative_to(Path(os.getcwd()).resolve()).as_posix()
    except (OSError, ValueError, RuntimeError):
        return path.as_posix()
