"""What differs between two texts: shown word by word, and never as two equal beginnings."""

import time

from hypothesis import example, given
from hypothesis import strategies as st

from datafixes.report.differences import as_text, difference, is_ambiguous, one_side
from datafixes.report.document import Cell, Value
from datafixes.report.text import literal

WORDS = st.lists(
    st.sampled_from(["order", "tax", "19 %", "\n", "2026-03-04", "{", '"a": 1,', "é", "'", "-]"]), max_size=40
)
LONG = "the order was imported without tax and the customer asked for a corrected invoice " * 4


def cell(before: str, after: str) -> Cell:
    return Cell("note", Value(before), Value(after))


def told(before: str, after: str, around: int = 24) -> str:
    return as_text(difference(cell(before, after), around), 200)


@given(WORDS, WORDS)
@example(["tax"] * 20, ["tax"] * 21)
def test_the_pieces_of_a_side_are_its_text(before: list[str], after: list[str]) -> None:
    one, other = " ".join(before), " ".join(after)
    pieces = difference(cell(one, other), 8)
    if pieces:
        sides = ["".join(p.text for p in pieces if p.kind in ("same", "gap", side)) for side in ("was", "is")]
        assert sides == [literal(one), literal(other)]
        assert {piece.kind for piece in pieces} & {"was", "is"}


def test_each_change_is_shown_with_the_words_around_it() -> None:
    assert told(f"{LONG}net 19 % {LONG}end", f"{LONG}net 7 % {LONG}END") == (
        "… a corrected invoice net [-19-]{+7+} % the order was imported … for a corrected invoice [-end-]{+END+}"
    )
    assert (
        told("a note without an end", "a note without an end, and more")
        == "a note without an end{+, and more+}"
    )
    assert told(f"sent to a@example.org {LONG}.", f"sent {LONG}.") == (
        "sent [-to a@example.org -]the order was imported without …"
    )


def test_of_one_very_long_word_only_the_middle_differs() -> None:
    long = "x" * 500
    assert (
        told(f"{long}-one-{long}", f"{long}-two-{long}")
        == "…xxxxxxxxxxxxxxxxxxxxxxx-[-one-]{+two+}-xxxxxxxxxxxxxxxxxxxxxxx…"
    )


def test_texts_with_little_in_common_are_not_compared() -> None:
    assert difference(cell("open", "closed"), 24) == []
    assert difference(cell("a wholly other sentence than it", "nobody would compare these two"), 24) == []
    assert difference(Cell("n", Value(None), Value(LONG)), 24) == []
    assert difference(Cell("n", Value(None, masked=True), Value(None, masked=True)), 24) == []


def test_json_is_laid_out_without_a_change_of_its_characters() -> None:
    before = '{"id": 12, "tags": [], "tax": {"rate": 0.1900, "of": [1, 2]}, "text": "a, {b: c"}'
    pieces = difference(cell(before, before.replace("0.1900", "0.07")), 500, laid_out=True)
    assert one_side(pieces, "is", 500) == (
        '{\n  "id": 12,\n  "tags": [],\n  "tax": {\n    "rate": 0.07,\n    "of": [\n      1,\n      2\n    ]\n  },\n'
        '  "text": "a, {b: c"\n}'
    )
    assert [piece.text for piece in pieces if piece.kind in ("was", "is")] == ["0.1900", "0.07"]
    spaced = before.replace(": ", ":  ")  # of the type json, which keeps its blanks
    [one, *_] = difference(cell(spaced, spaced.replace("0.1900", "0.07")), 500, laid_out=True)
    assert one.text.startswith('{"id":  12,')


def test_marks_that_are_in_the_text_are_seen_as_such() -> None:
    assert is_ambiguous(difference(cell("a list of numbers: [-1, 2]", "a list of numbers: [-1, 3]"), 24))
    assert not is_ambiguous(difference(cell("a list of numbers: [1, 2]", "a list of numbers: [1, 3]"), 24))


def test_a_part_of_a_value_says_that_it_is_one() -> None:
    before, after = (Value(f"{LONG}{word} {LONG}", 2_000_000, start=900_000) for word in ("one", "two"))
    text = as_text(difference(Cell("note", before, after), 24), 200)
    assert text == "… for a corrected invoice [-one-]{+two+} the order was imported without …"


def test_long_texts_with_a_change_in_each_line_take_no_time() -> None:
    line = "see http://old.example/{n} for order {n} of {n}\n"
    before = "".join(line.format(n=n) for n in range(90))
    started = time.monotonic()
    for _ in range(5):
        assert difference(cell(before, before.replace("old.", "new.")), 24)
        assert difference(cell(before, before[::-1]), 24) == []
    assert time.monotonic() - started < 5
