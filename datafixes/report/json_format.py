"""JSON for programs: each has a version and a kind, described by ``schema.json`` beside this file."""

import json
import re
from typing import Any

# JSON escapes only control characters below the space. These are escaped too, because people read JSON on a screen, and
# a lone surrogate cannot be encoded at all.
_UNSEEN = re.compile(
    "[\\x7f-\\x9f\\xad\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff\\ufeff]"
)


def to_json(value: Any) -> str:
    """The JSON text, indented by two spaces, with a line break at the end.

    Args:
        value: objects of JSON's own types, with ``version`` and ``kind``.

    Raises:
        ValueError: a number that JSON cannot represent, such as NaN.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text) + "\n"
