"""A document as a comment: it stays text, whatever is in it, and never becomes too long."""

import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from datafixes.report.document import Cell, Changes, Document, Fact, Grid, Row, Section, Value
from datafixes.report.markdown import to_markdown
from datafixes.report.markdown_text import sentence
from tests.unit import report_samples as samples
from tests.unit.golden import compare

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def tokens(text: str) -> list[Token]:
    found = []
    for token in READER.parse(text):
        found += [token, *(token.children or [])]
    return found


def table_rows(text: str) -> list[list[str]]:
    """The cells of all rows, as a reader sees them; code is told by its backticks."""
    rows: list[list[str]] = []
    for token in READER.parse(text):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows and token.level >= 4:
            children = token.children or []
            rows[-1].append(
                "".join(f"`{c.content}`" if c.type == "code_inline" else c.content for c in children)
            )
    return rows


def of_rows(*rows: Row, total: int | None = None) -> Document:
    changes = Changes("t", rows, len(rows) if total is None else total)
    return Document("x", sections=(Section("s", changes=(changes,)),))


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize("name", ["plan", "refusal", "history"])
def test_it_reads_as_reviewed(name: str) -> None:
    compare(f"report_{name}.md", to_markdown(getattr(samples, name)()))


def test_the_counts_come_first() -> None:
    assert to_markdown(samples.plan()).split("\n\n")[:2] == [
        "## Plan: upgrade to 015",
        "**✓ 1 revision, 1 run of data fixes: 1 inserted, 7 updated, 1 deleted. All of it can be reverted: that was tried.**",
    ]


def test_whatever_is_in_it_stays_text() -> None:
    text = to_markdown(samples.hostile())
    found = tokens(text)
    assert {token.type for token in found} & {
        "link_open",
        "image",
        "s_open",
        "hr",
        "blockquote_open",
    } == set()
    html = [token.content.strip() for token in found if token.type in ("html_inline", "html_block")]
    assert set(html) <= {
        "<br>",
        "</details>",
        "<details>\n<summary>25 updated</summary>",
        "<details>\n<summary>50 updated</summary>",
    }
    [titles] = [[t for t in found if t.type == "heading_open"]]
    assert [token.tag for token in titles] == ["h2", "h3"]
    outside_code = " ".join(token.content for token in found if token.type == "text")
    assert not re.search(r"@\w|#\d|://|www\.|:\+1:|GH-\d", outside_code)
    text.encode("utf-8")


@pytest.mark.parametrize(
    "value", [v for v in samples.HOSTILE if v and v.isprintable() and v.strip() == v and "\\|" not in v]
)
def test_a_value_is_one_cell_and_reads_as_it_is(value: str) -> None:
    rows = table_rows(to_markdown(of_rows(Row(value, "updated", (samples.cell("c", value, "x"),)))))
    assert len(rows) == 2
    quoted = "'" + value.replace("'", "''") + "'" if value in ("NULL", "''", "E'x'") else value
    assert rows[1] == [f"`{value}`", "updated", f"`{quoted}` → `x`"]


def test_a_bar_behind_a_backslash_does_not_end_a_cell() -> None:
    rows = table_rows(to_markdown(of_rows(Row("k", "updated", (samples.cell("c", "a\\|b", "c\\\\|d"),)))))
    assert rows[1][2:] == [r"`a\x7cb` → `c\\x7cd`"]


def test_null_is_not_the_word() -> None:
    text = to_markdown(of_rows(Row("1", "updated", (samples.cell("c", None, "NULL"),))))
    assert "| _NULL_ → `'NULL'` |" in text


def test_only_changed_cells_are_shown_and_many_columns_go_below_each_other() -> None:
    many = Row("1", "updated", tuple(samples.cell(f"c{n}", "a", "b" if n else "a") for n in range(12)))
    text = to_markdown(of_rows(many))
    assert "c0" not in text
    assert "| `1` | updated | `c11` | `a` → `b` |" in text


def test_of_long_values_the_difference_is_seen() -> None:
    long = "the order was imported without tax and nobody saw it " * 9
    text = to_markdown(
        of_rows(Row("1", "updated", (samples.cell("doc", f"{long}net | {long}.", f"{long}gross | {long}."),)))
    )
    assert table_rows(text)[1][2] == (
        "`… without tax and nobody saw it [-net-]{+gross+} | the order was imported …` (961 → 963 characters)"
    )


def test_tickets_are_links() -> None:
    [link] = [token for token in tokens(to_markdown(samples.plan())) if token.type == "link_open"]
    assert link.attrs == {"href": "https://tickets.example/OPS-1234"}


def test_long_lists_are_folded() -> None:
    assert "<details>" not in to_markdown(samples.many(20, 2))
    text = to_markdown(samples.many(21, 2))
    assert "<details>\n<summary>21 updated</summary>\n\n| key |" in text
    assert text.endswith("\n\n</details>\n")


@pytest.mark.parametrize("rows", [300, 3000])
def test_it_fits_into_a_comment_and_says_what_is_left_out(rows: int) -> None:
    text = to_markdown(samples.many(rows, 8))
    assert utf16(text) <= 65_000
    shown = len(re.findall(r"^\| `\d+` \|", text, re.M))
    assert shown >= 100
    left = re.search(r"\*\*! ([\d,]+) of ([\d,]+) rows are not shown", text)
    assert (int(left[1].replace(",", "")) if left else 0) == rows - shown
    assert text.count("<details>") == text.count("</details>") == 1


def test_rows_that_were_never_read_are_counted_too() -> None:
    text = to_markdown(of_rows(samples.there("inserted", "1", a="x"), total=1000))
    assert "**! 999 of 1,000 rows are not shown.**" in text


def test_nothing_is_long_enough_to_break_it() -> None:
    million = "🐘" * 100_000
    section = Section(
        million, facts=(Fact(million, million),) * 50, notes=(million,), block=f"{million}\n" * 3,
        grids=(Grid("", ("a",), ((million,),) * 100),),
        changes=(Changes(million, (Row(million, "updated", (Cell("c", Value(million), Value("x")),)),), 1),),
    )  # fmt: skip
    text = to_markdown(Document("x", million, sections=(section,) * 3))
    assert utf16(text) <= 65_000
    assert "The rest does not fit into a comment" in text


def test_names_read_well_where_nothing_has_to_be_escaped() -> None:
    plain = "close_phantom_positions: 7 found at 08:12:44 (1 of 2), 3.5% - 10/2; db.internal:5432/ops"
    assert sentence(plain) == plain
