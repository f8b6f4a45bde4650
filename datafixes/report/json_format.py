"""JSON for programs: each text has its version and kind, which ``schema.json`` beside this file describes."""

import json
import re
from typing import Any

# JSON escapes only what is below a space. These are escaped too, because people look at JSON on a screen, and half of a
# pair of surrogates cannot be written at all.
_UNSEEN = re.compile(
    "[\\x7f-\\x9f\\xad\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff\\ufeff]"
)


def to_json(value: Any) -> str:
    """The text, with two spaces and a line break at its end.

    Args:
        value: objects of JSON's own types, with ``version`` and ``kind``.

    Raises:
        ValueError: a number that JSON has no word for, such as NaN.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text) + "\n"
