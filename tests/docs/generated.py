"""Parts of pages that are written by a test: UPDATE_GOLDEN=1 writes them again, and git shows what changed.

A part stands between two comments, `<!-- generated: NAME -->` and `<!-- end of NAME -->`.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from datafixes.settings import Setting


def compare(page: Path, name: str, text: str) -> None:
    """Fail where a part of a page is not the text."""
    begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->"
    found = re.search(f"{re.escape(begin)}(.*?){re.escape(end)}", page.read_text("utf-8"), re.DOTALL)
    assert found, f"{page} has no part {name}"
    if os.environ.get("UPDATE_GOLDEN"):
        whole = page.read_text("utf-8")
        page.write_text(whole[: found.start(1)] + text + whole[found.end(1) :], "utf-8")
        return
    assert found[1] == text, "not as generated: UPDATE_GOLDEN=1 pytest tests/docs writes it again"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    marked = re.compile(r"([|*])")
    lines = [head, ["---"] * len(head), *([marked.sub(r"\\\1", cell) for cell in row] for row in rows)]
    return "".join("|" + "".join(f" {cell} |" if cell else " |" for cell in line) + "\n" for line in lines)


def settings(sections: Iterable[tuple[str, Sequence[Setting]]]) -> str:
    """The reference of settings, a section for each table of them."""
    return "\n".join(
        f"## {heading}\n\n{table(('`-x` and configuration', 'environment', 'default', 'meaning'), map(_setting, rows))}"
        for heading, rows in sections
    )


def _setting(setting: Setting) -> tuple[str, str, str, str]:
    only = "" if setting.ini else " (only for one run)"
    if setting.ini not in ("", setting.name):
        only = f" (ini: `{setting.ini}`)"
    return (
        f"`{setting.name}`{only}",
        ", ".join(f"`{name}`" for name in setting.environment),
        f"`{setting.default}`" if setting.default else "",
        setting.meaning,
    )
