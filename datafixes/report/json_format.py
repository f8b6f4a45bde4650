"""JSON for programs: each text has its version and kind, which ``schema.json`` beside this file describes."""

import json
from typing import Any


def to_json(value: Any) -> str:
    """The text, with two spaces and a line break at its end.

    Args:
        value: objects of JSON's own types, with ``version`` and ``kind``.
    """
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
