"""JSON for programs, that does no harm on a screen."""

import json

import pytest

from datafixes.report.json_format import to_json
from tests.unit.report_samples import HOSTILE


def test_it_is_json_that_reads_back() -> None:
    value = {"version": 1, "kind": "plan", "values": [*HOSTILE, "Größe", "東京", None, 1, True]}
    text = "".join(to_json(value))
    assert json.loads(text) == value
    assert text.startswith('{\n  "version": 1,\n')
    assert text.endswith("\n}\n")
    assert "Größe" in text
    assert "東京" in text


def test_nothing_unseen_is_in_it() -> None:
    text = "".join(to_json({"v": [*map(chr, range(0x20)), "\x7f\x85\u202e\u2066\u200b\ufeff\u2028\ud800"]}))
    assert all(character == "\n" or character.isprintable() for character in text)
    text.encode("utf-8")


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        "".join(to_json({"x": float("nan")}))
