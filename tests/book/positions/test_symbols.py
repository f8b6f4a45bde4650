"""Symbols: every odd one that there is, and those that are none."""

import datetime as dt
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafixes.book.positions.symbols import NoSymbol, Option, Stock, Symbol, may_be_renamed, parse_symbol


def option(root: str, day: str, right: Literal["C", "P"], strike: str) -> Option:
    return Option(root, dt.date.fromisoformat(day), right, Decimal(strike))


@pytest.mark.parametrize(
    ("text", "symbol", "plain"),
    [
        ("SPY", Stock("SPY"), "SPY"),
        (" spy ", Stock("SPY"), "SPY"),
        ("F", Stock("F"), "F"),
        ("BRK.B", Stock("BRK.B"), "BRK.B"),
        ("BRK/B", Stock("BRK.B"), "BRK.B"),
        ("brk-b", Stock("BRK.B"), "BRK.B"),
        ("BAC.PRB", Stock("BAC.PRB"), "BAC.PRB"),
        ("CRM260227P00200000", option("CRM", "2026-02-27", "P", "200"), "CRM260227P00200000"),
        ("crm260227p00200000", option("CRM", "2026-02-27", "P", "200"), "CRM260227P00200000"),
        ("CRM   260227P00200000", option("CRM", "2026-02-27", "P", "200"), "CRM260227P00200000"),
        ("F     260320C00012500", option("F", "2026-03-20", "C", "12.5"), "F260320C00012500"),
        ("F260320C00012500", option("F", "2026-03-20", "C", "12.5"), "F260320C00012500"),
        ("T260320P00000500", option("T", "2026-03-20", "P", "0.5"), "T260320P00000500"),
        ("X260320P00000001", option("X", "2026-03-20", "P", "0.001"), "X260320P00000001"),
        ("AAPL1260227C00150000", option("AAPL1", "2026-02-27", "C", "150"), "AAPL1260227C00150000"),
        ("SPXW1 260227C05150000", option("SPXW1", "2026-02-27", "C", "5150"), "SPXW1260227C05150000"),
        ("GOOGL2260227C99999999", option("GOOGL2", "2026-02-27", "C", "99999.999"), "GOOGL2260227C99999999"),
        ("C260227C00070000", option("C", "2026-02-27", "C", "70"), "C260227C00070000"),
        ("P260227P00070000", option("P", "2026-02-27", "P", "70"), "P260227P00070000"),
        ("SPY280229C00500000", option("SPY", "2028-02-29", "C", "500"), "SPY280229C00500000"),
    ],
)
def test_symbols(text: str, symbol: Symbol, plain: str) -> None:
    assert parse_symbol(text) == symbol
    assert str(symbol) == plain
    assert parse_symbol(plain) == symbol


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "5", "5SPY", "S P Y", "SPY;", "TOOLONG", "BRK.", ".B", "BRK..B", "BRK.TOOLONG", "BTC/USD", "EUR-USD", "$SPX", "SPY\x00", "SP\nY",
        "CRM260227X00200000", "CRM260227P0020000", "CRM260227P002000000", "CRM26227P00200000", "CRM 260227 P00200000",
        "TOOLONG260227P00200000", "260227P00200000", "CRM260227P00200000X", "CRM260227P-0200000", "CRM260227P00200.00",
        "ß", "ﬁ", "ſPY", "SPY٣", "CRM٢٦٠٢٢٧P00200000",
    ],
)  # fmt: skip
def test_what_is_no_symbol(text: str) -> None:
    with pytest.raises(NoSymbol) as caught:
        parse_symbol(text)
    assert "\n" not in caught.value.message
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SPY260231C00500000", "260231 is not a date"),
        ("SPY260229C00500000", "260229 is not a date"),
        ("SPY261301C00500000", "261301 is not a date"),
        ("SPY260100C00500000", "260100 is not a date"),
        ("SPY260227C00000000", "its strike price is zero"),
    ],
)
def test_an_option_that_cannot_be_says_why(text: str, words: str) -> None:
    with pytest.raises(NoSymbol, match=words):
        parse_symbol(text)


roots = st.from_regex(r"[A-Z][A-Z0-9]{0,5}", fullmatch=True)
options = st.builds(
    Option,
    roots,
    st.dates(dt.date(2000, 1, 1), dt.date(2068, 12, 31)),
    st.sampled_from(["C", "P"]),
    st.integers(1, 99_999_999).map(lambda thousandths: Decimal(thousandths) / 1000),
)
stocks = st.builds(
    Stock, st.from_regex(r"[A-Z][A-Z0-9]{0,5}(\.([A-Z]{1,2}|PR[A-Z]|WS[A-Z]))?", fullmatch=True)
)


@pytest.mark.parametrize(
    ("one", "other", "may_be"),
    [
        ("AAPL260220C00100000", "AAPL1260220C00100000", True),
        ("AAPL260220C00100000", "AAPL1260220C00050000", True),  # another strike, after a split
        ("AAPL260220C00100000", "AAPL1260220P00100000", False),
        ("AAPL260220C00100000", "AAPL1260320C00100000", False),
        ("AAPL260220C00100000", "AAL260220C00100000", False),
        ("AAPL260220C00100000", "AAPL", False),
        ("BRKB", "BRK.B", True),
        ("SPY", "SPY.U", True),
        ("SPY", "SPYG", False),
    ],
)
def test_what_may_be_the_same_under_another_name(one: str, other: str, may_be: bool) -> None:
    assert may_be_renamed(parse_symbol(one), parse_symbol(other)) is may_be
    assert may_be_renamed(parse_symbol(other), parse_symbol(one)) is may_be


@given(options)
def test_options_come_back_from_both_forms(one: Option) -> None:
    short = str(one)
    full = f"{one.root:<6}{short[len(one.root) :]}"
    assert len(full) == 21
    assert parse_symbol(short) == parse_symbol(full) == parse_symbol(full.lower()) == one


@given(stocks)
def test_stocks_come_back(one: Stock) -> None:
    assert parse_symbol(str(one)) == one


@given(options, options)
def test_two_options_have_one_text_only_if_they_are_one(one: Option, other: Option) -> None:
    assert (str(one) == str(other)) is (one == other)


@given(st.text(max_size=22))
def test_any_text_is_a_symbol_or_none(text: str) -> None:
    try:
        symbol = parse_symbol(text)
    except NoSymbol:
        return
    assert parse_symbol(str(symbol)) == symbol
    assert text.strip().isascii()
