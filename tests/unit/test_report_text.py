"""Values as harmless text: nothing unseen gets through, and two values never look the same."""

import sys
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from datafixes.report.document import Value
from datafixes.report.text import arrow, lines, literal, one_line, same_ends, shown

# Arabic and Kaithi signs of format that are seen: they stand around the digits that follow.
SEEN = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
SEEN |= set(range(0x13430, 0x13460))


def test_nothing_unseen_gets_through() -> None:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")
    unseen = {n for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n)) in kinds} - SEEN - {0x20}
    assert [hex(n) for n in sorted(unseen) if chr(n) in one_line(chr(n))] == []
    assert [hex(n) for n in sorted(unseen - {0x0A}) if chr(n) in "".join(lines(f"a{chr(n)}b"))] == []


def test_letters_of_every_script_stay_as_they_are() -> None:
    kinds = ("L", "N", "P", "S")
    seen = {n for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n))[0] in kinds}
    changed = {n for n in seen if one_line(chr(n)) != chr(n)}
    # Letters and a symbol that have no shape at all.
    assert changed == {0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800, 0xFFFC, 0xFFFD} & changed
    assert len(seen) > 100_000


def test_marks_that_pile_up_do_not_cover_their_neighbours() -> None:
    assert one_line("e\u0301") == "e\u0301"
    assert one_line("e" + "\u0301" * 6) == "e" + "\u0301" * 4 + "\\u0301\\u0301"


def test_values_are_written_so_that_each_is_itself() -> None:
    assert [shown(v, 99) for v in (Value(None), Value("NULL"), Value("null"), Value(""), Value(" "))] == [
        "NULL", "'NULL'", "'null'", "''", "' '",
    ]  # fmt: skip
    assert shown(Value(None, masked=True), 99) == "(masked)"
    assert literal("(masked)") == "'(masked)'"
    assert literal("it's") == "it's"
    assert literal("a\\n") == "a\\n"
    assert literal("a\n\\") == r"E'a\n\\'"
    assert literal("gpj\u202eexe\x00\ud800\U000e0041") == r"E'gpj\u202eexe\x00\ud800\U000e0041'"


@given(st.text(), st.text())
@example("a\n", "E'a\\n'")
@example("'", "''")
@example("x… (5 characters)", "x")
def test_two_values_never_look_the_same(one: str, other: str) -> None:
    assert (literal(one) == literal(other)) == (one == other)
    assert literal(one) not in ("NULL", "(masked)", "")


def test_a_long_value_says_how_long_it_is() -> None:
    assert shown(Value("x" * 30), 10) == "xxxxxxxxxx… (30 characters)"
    assert shown(Value("x" * 10, 2_097_152), 10) == "xxxxxxxxxx… (2,097,152 characters)"
    assert shown(Value("x" * 10), 10) == "x" * 10
    assert shown(Value("x… (30 characters)"), 99) == "'x… (30 characters)'"


def test_before_and_after_do_not_change_places() -> None:
    assert arrow("open", "closed") == " → "
    assert arrow("שלום", "עולם") == " \u200e→\u200e "


def test_what_two_texts_share() -> None:
    assert same_ends("abcd", "abXcd") == (2, 2)
    assert same_ends("aaa", "aa") == (2, 0)
    assert same_ends("", "x") == (0, 0)
