"""Files that were reviewed; UPDATE_GOLDEN=1 writes them anew, and git shows what changed."""

import os
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden"


def compare(name: str, text: str) -> None:
    """Fail where a text is not the reviewed one."""
    file = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
