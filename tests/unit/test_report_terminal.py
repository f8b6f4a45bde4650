"""A document in a terminal: aligned at 80 columns, harmless, and coloured only where a person looks."""

import io
import re

import pytest
from rich.cells import cell_len

from datafixes.report.document import Cell, Changes, Document, Fact, Row, Section, Value
from datafixes.report.terminal import to_terminal
from tests.unit import report_samples as samples
from tests.unit.golden import compare


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Latin(io.StringIO):
    encoding = "latin-1"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def shown(*rows: Row, total: int | None = None) -> str:
    changes = Changes("t", rows, len(rows) if total is None else total)
    return to_terminal(Document("x", sections=(Section("s", changes=(changes,)),)), None)


@pytest.mark.parametrize("name", ["plan", "refusal", "history", "two_runs"])
def test_it_reads_as_reviewed(name: str) -> None:
    text = to_terminal(getattr(samples, name)(), None)
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if cell_len(line) > 80 or line != line.rstrip()] == []
    compare(f"report_{name}.txt", text)


def test_colours_only_in_a_terminal_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    document = samples.plan()
    coloured = to_terminal(document, Terminal())
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert plain == to_terminal(document, None) == to_terminal(document, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert to_terminal(document, Terminal()) == plain
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert to_terminal(document, Terminal()) == plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert to_terminal(document, io.StringIO()) == plain


def test_a_wide_terminal_has_a_line_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "180")
    text = to_terminal(samples.plan(), Terminal())
    [line] = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.startswith("  ~ 16")]
    assert "open → closed" in line
    assert "NULL → -16.5000" in line


def test_only_changed_cells_are_shown() -> None:
    text = shown(Row("1", "updated", (samples.cell("same", "x", "x"), samples.cell("other", "x", "y"))))
    assert "other  x → y" in text
    assert "same" not in text


def test_it_says_how_many_rows_are_not_shown() -> None:
    assert "(4,998 of 5,000 rows not shown)" in shown(
        samples.there("inserted", "1", a="x"), samples.there("deleted", "2", a="x"), total=5000
    )
    assert "not shown" not in shown(samples.there("inserted", "1", a="x"))


def test_of_long_values_the_difference_is_seen() -> None:
    long = "x" * 500
    text = shown(Row("1", "updated", (samples.cell("doc", f"{long}-one-{long}", f"{long}-two-{long}"),)))
    assert "xx-[-one-]{+two+}-xx" in text
    assert text.count("(1,005 characters)") == 1
    assert max(map(len, text.splitlines())) <= 80


def test_texts_with_marks_of_their_own_are_shown_one_below_the_other() -> None:
    before = f"{'the order was imported without tax ' * 3}[-1, 2] {'and the customer asked for it ' * 3}"
    text = shown(Row("1", "updated", (samples.cell("doc", before + "twice.", before + "again."),)))
    assert "  … the customer asked for it twice." in text
    assert "→ … the customer asked for it again." in text
    text = shown(Row("1", "updated", (samples.cell("doc", before + ".", before.replace("2]", "3]") + "."),)))
    assert "  … imported without tax [-1, 2] and the" in text
    assert "→ … imported without tax [-1, 3] and the" in text


def test_a_megabyte_fits_in_a_line() -> None:
    cells = (
        Cell("a", Value("y" * 200, 2_097_152), Value("z" * 200, 3)),
        samples.cell("b", "w" * 2_000_000, None),
    )
    text = shown(Row("k" * 1000, "updated", cells))
    assert max(map(len, text.splitlines())) <= 80
    assert "(2,097,152 characters)" in text


def test_a_command_is_never_wrapped() -> None:
    command = "alembic -x plan=" + "5f0c3f6f1d7c6b52-" * 6 + " upgrade head"
    text = to_terminal(Document("x", facts=(Fact("Run", command, exact=True),)), None)
    assert f"Run  {command}\n" in text


def test_nothing_reaches_the_screen_but_text() -> None:
    text = to_terminal(samples.hostile(), None)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert r"E'\x00\x1b[31mred" in text
    text.encode("utf-8")


def test_a_stream_without_these_characters_gets_others() -> None:
    text = to_terminal(samples.plan(), Latin())
    text.encode("latin-1")
    assert "open -> closed" in text


def test_a_wide_script_keeps_its_columns() -> None:
    text = shown(
        Row("東京", "updated", (samples.cell("名", "東", "京"),)),
        Row("1", "updated", (samples.cell("名", "a", "b"),)),
    )
    one, other = (line for line in text.splitlines() if "→" in line)
    assert cell_len(one.partition("updated")[0]) == cell_len(other.partition("updated")[0])
