"""Only what is known to be a stock or an option is one: at Alpaca, in a file, in orders and fills.

Kinds of instrument that are not: each class that Alpaca lists, one that nobody knows yet, none at all, one that is
written otherwise, and one that is no text; under a name that could be a ticker, and under one that could not.
"""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datafixes.book.broker.alpaca_answers import read_positions
from datafixes.book.broker.alpaca_orders import read_orders, symbols_of_fills
from datafixes.book.broker.file_broker import FileBroker
from datafixes.book.broker.protocol import NoAnswer
from datafixes.book.positions.position import Known, Unknown
from datafixes.book.positions.symbols import parse_symbol
from tests.book.books import REAL, ROOT, Trader, new_row, trader
from tests.book.broker.alpaca_server import Alpaca, Row, accounts, fill, order, position, running
from tests.cli.commands import answer, datafixes
from tests.projects import Ran
from tests.servers import Database

# https://docs.alpaca.markets lists these; us_equity and us_option beside them.
OTHERS: list[Any] = [
    "crypto", "crypto_perp", "treasury", "corporate", "global_equity", "us_index", "us_equity_chain", "ipo",
    "prediction_market", "", None, "US_EQUITY", "us_equity ", "equity", 1, ["us_equity"], {},
]  # fmt: skip
LONG_AGO = dt.datetime(2026, 2, 3, 15, tzinfo=dt.UTC)


@pytest.fixture
def book(tmp_path: Path, database: Database) -> Trader:
    return trader(tmp_path, database)


@pytest.fixture
def alpaca(monkeypatch: pytest.MonkeyPatch) -> Iterator[Alpaca]:
    """Alpaca with what the incident's accounts really hold."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running(Alpaca(**accounts())) as alpaca:
        for name in alpaca.accounts:
            monkeypatch.setenv(f"KEYS_{name.upper()}", alpaca.secret(name))
        alpaca.accounts["large"].positions = [
            position(one["symbol"], one["quantity"], one["entry_price"]) for one in REAL
        ]
        yield alpaca


def run(book: Trader, alpaca: Alpaca, *arguments: str, **flags: str) -> Ran:
    return datafixes(book.project, *given(alpaca, **flags), *arguments)


def found(book: Trader, alpaca: Alpaca, *, code: int, **flags: str) -> Any:
    return answer(book.project, *given(alpaca, **flags), "reconcile", code=code)


def given(alpaca: Alpaca, **flags: str) -> list[str]:
    known = {
        "broker_accounts": "large=env:KEYS_LARGE,tiny=env:KEYS_TINY", "broker_url": alpaca.url, **flags
    }  # fmt: skip
    return [part for name, value in known.items() for part in ("-x", f"{name}={value}")]


def whys(value: Any) -> dict[str, str | None]:
    return {one["account"]: one["why"] for one in value["accounts"]}


@pytest.mark.parametrize("kind", OTHERS, ids=str)
@pytest.mark.parametrize("symbol", ["KLAR", "912797KS5", "CRM260227P00200000"])
def test_a_position_of_another_class_is_named(kind: Any, symbol: str) -> None:
    with pytest.raises(NoAnswer) as caught:
        read_positions([position("SPY", "5"), position(symbol, "10", asset_class=kind)])
    is_word = isinstance(kind, str) and kind.isidentifier() and kind.islower()
    told = str(kind) if is_word else repr(kind) if kind else "of no asset_class"
    assert caught.value.why == f"holds {symbol}, which is {told}: neither a stock nor an option"
    assert caught.value.instrument == symbol
    [one, other] = read_positions([position("SPY", "5"), position(symbol, "10", asset_class=kind)], {symbol})
    assert (one.ignored, other.position, other.instrument) == (None, None, symbol)


@pytest.mark.parametrize("kind", ["ipo", None])
def test_a_position_of_another_class_makes_the_account_unknown(
    book: Trader, alpaca: Alpaca, kind: str | None
) -> None:
    alpaca.accounts["large"].positions.append(position("KLAR", "10", "40", asset_class=kind))
    value = found(book, alpaca, code=1)
    assert whys(value)["large"] == (
        f"holds KLAR, which is {kind or 'of no asset_class'}: neither a stock nor an option "
        "(to exclude it: broker_ignore=large:KLAR)"
    )
    assert [(one["account"], one["verdict"]) for one in value["accounts"]] == [
        ("large", "unknown"), ("tiny", "different")
    ]  # fmt: skip
    assert [one for one in value["differences"] if one["account"] == "large"] == []
    ran = run(book, alpaca, "propose", "--phantoms", "--missing")
    assert (ran.code, ran.out, book.written()) == (1, "", []), ran.err
    assert "Account large is unknown, so nothing is proposed for it: holds KLAR" in ran.err


ENDED = ("canceled", "expired", "rejected", "replaced")


def may_move(symbol: str, kind: Any) -> list[Row]:
    """Orders that are not over, or have filled something, or do not say that they have not."""
    part = {"filled_qty": "1", "filled_avg_price": "9"}
    legs = [order("SPY", "1"), order(symbol, "1", asset_class=kind)]
    states = ("new", "held", "done_for_day", "what", "filled")
    return [
        *(order(symbol, "1", status, asset_class=kind) for status in states),
        order(symbol, "1", "filled", asset_class=kind) | {"filled_qty": "0"},
        *(order(symbol, "2", status, asset_class=kind, **part) for status in ENDED),
        *(
            order(symbol, "2", "canceled", asset_class=kind, filled_qty=none)
            for none in (None, "", "none", "NaN")
        ),
        *(order(symbol, "2", asset_class=kind) | {"status": odd} for odd in ("CANCELED", None, ["canceled"])),
        order("", "1", side="", order_class="mleg", legs=legs),
    ]


@pytest.mark.parametrize("kind", [one for one in OTHERS if one not in ("crypto", "crypto_perp")], ids=str)
@pytest.mark.parametrize("symbol", ["KLAR", "912797KS5"])
def test_an_order_that_may_move_something_is_named(symbol: str, kind: Any) -> None:
    for row in may_move(symbol, kind):
        with pytest.raises(NoAnswer, match=f"has an order in {symbol}, which is .*: neither a stock nor"):
            read_orders([order("SPY", "1"), row])
        assert str(read_orders([order("SPY", "1"), row], {symbol})[0].symbol) == "SPY"
    with pytest.raises(NoAnswer, match="has an order in 8EF998015: '8EF998015' is neither a ticker"):
        read_orders([order("8EF998015", "1", asset_class="us_equity")])


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize("kind", [*OTHERS, "us_equity"], ids=str)
def test_an_order_that_ended_and_moved_nothing_is_left_alone(status: str, kind: Any) -> None:
    assert read_orders([order("912797KS5", "1", status, asset_class=kind)]) == []
    assert read_orders([order("KLAR", "1", status, asset_class=kind, filled_qty="0.00")]) == []


def test_orders_in_other_instruments_blind_the_account_as_long_as_they_may_move_something(
    book: Trader, alpaca: Alpaca
) -> None:
    large = alpaca.accounts["large"]
    large.orders = [order("KLAR", "1", asset_class="ipo"), order("BTC/USD", "1", asset_class="crypto")]
    assert whys(found(book, alpaca, code=1))["large"] == (
        "has an order in KLAR, which is ipo: neither a stock nor an option (to exclude it: broker_ignore=large:KLAR)"
    )
    value = found(book, alpaca, code=3, broker_ignore="large:KLAR")
    assert (value["equal"], len(value["differences"])) == (3, 7)
    now = lately()
    large.orders = [
        order("912797KS5", "1", "canceled", asset_class="treasury", at=now),
        order("8EF998015", "1", "expired", asset_class="us_equity", at=now),
    ]
    value = found(book, alpaca, code=3)
    assert (whys(value), value["equal"]) == ({"large": None, "tiny": None}, 3)
    large.orders = [order("912797KS5", "1", "filled", asset_class="treasury", at=now)]
    assert "has an order in 912797KS5, which is treasury" in str(whys(found(book, alpaca, code=1))["large"])
    large.orders, large.fills = [], [fill("KLAR", "1", now, asset_class="ipo")]
    assert "has a fill in KLAR, which is ipo" in str(whys(found(book, alpaca, code=1))["large"])
    large.fills = [fill("KLAR", "1", now), fill("912797KS5", "1", now)]  # as Alpaca lists them
    assert found(book, alpaca, code=3)["equal"] == 3


def lately() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)


def test_a_fill_says_no_class_and_one_that_does_is_believed() -> None:
    rows = [
        fill("SPY", "1", LONG_AGO),
        fill("912797KS5", "1", LONG_AGO),
        fill("BTC/USD", "1", LONG_AGO, asset_class="crypto"),
    ]
    assert symbols_of_fills([*rows, fill("QCOM", "1", LONG_AGO, asset_class="us_equity")]) == {
        parse_symbol("SPY"), parse_symbol("QCOM")
    }  # fmt: skip
    with pytest.raises(NoAnswer, match="has a fill in KLAR, which is ipo: neither a stock nor an option"):
        symbols_of_fills([*rows, fill("KLAR", "1", LONG_AGO, asset_class="ipo")])
    assert symbols_of_fills([fill("KLAR", "1", LONG_AGO, asset_class="ipo")], {"KLAR"}) == frozenset()


# An instrument that somebody leaves out.


REST = position("8EF998015", "3", "0", asset_class="us_equity", market_value=None)


def test_an_odd_instrument_blinds_no_account_that_leaves_it_out(book: Trader, alpaca: Alpaca) -> None:
    alpaca.accounts["large"].positions += [REST, position("TBILL", "1000", "0.98", asset_class="treasury")]
    assert "'8EF998015' is neither a ticker nor" in str(whys(found(book, alpaca, code=1))["large"])
    flags = {"broker_ignore": "large:8ef998015, large:TBILL,tiny:KLAR"}
    value = found(book, alpaca, code=3, **flags)
    assert value["not_compared"] == [
        {"account": "large", "instrument": "8EF998015", "broker": "3 us_equity", "rows": []},
        {"account": "large", "instrument": "TBILL", "broker": "1000 treasury", "rows": []},
        {"account": "tiny", "instrument": "KLAR", "broker": None, "rows": []},
    ]
    assert [(one["account"], one["verdict"], one["positions"]) for one in value["accounts"]] == [
        ("large", "different", 3), ("tiny", "different", 0)
    ]  # fmt: skip
    assert (value["equal"], len(value["differences"])) == (3, 7)
    for form in ("terminal", "markdown", "html"):
        told = run(book, alpaca, "reconcile", "--format", form, **flags).out
        assert all(
            words in told for words in ("Not compared", "broker_ignore", "3 us_equity", "1000 treasury")
        ), told
        assert "3 instruments excluded" in " ".join(told.split())
    ran = run(book, alpaca, "propose", "--phantoms", "--missing", **flags)
    assert ran.code == 0, ran.err
    assert (
        "Not compared, so nothing is proposed for it (broker_ignore): large 8EF998015 (3 us_equity)"
        in ran.err
    )
    text = Path(ran.out.strip()).read_text("utf-8")
    assert ("insert_missing" in text, "# " in text, "8EF998015 (3 us_equity)" in text) == (False, True, True)
    assert book.project.alembic("upgrade", "head").code == 0
    value = found(book, alpaca, code=0, **flags)
    assert [one["verdict"] for one in value["accounts"]] == ["equal", "equal"]


def test_an_instrument_that_is_left_out_and_in_the_book_is_said(book: Trader, alpaca: Alpaca) -> None:
    book.database.execute(
        "DELETE FROM active_positions WHERE close_reason IS NULL AND id IN (13, 16, 19, 21, 24, 32, 33)",
        new_row(id=90, ticker="8EF998015", quantity=3), new_row(id=91, ticker="KLAR", quantity=7),
    )  # fmt: skip
    alpaca.accounts["large"].positions += [REST]
    flags = {"broker_ignore": "large:8EF998015,large:KLAR"}
    value = found(book, alpaca, code=0, **flags)
    assert [(one["instrument"], one["broker"], one["rows"]) for one in value["not_compared"]] == [
        ("8EF998015", "3 us_equity", [90]), ("KLAR", None, [91])
    ]  # fmt: skip
    assert (value["book"]["rows"], value["equal"], value["unreadable"]) == (5, 3, [])
    told = run(book, alpaca, "reconcile", **flags).out
    assert (
        "! No difference, 3 positions equal, 2 instruments excluded, 2 rows of the book in them."
        in " ".join(told.split())
    )
    assert "! equal; 5 rows in the book; 3 positions at the broker; 8EF998015 excluded" in " ".join(
        told.split()
    )
    ran = run(book, alpaca, "propose", "--phantoms", "--missing", **flags)
    assert (ran.code, book.written()) == (0, [])
    assert "(broker_ignore): large KLAR (in the book too: row 91)" in ran.err
    # Only of this account.
    assert (
        found(book, alpaca, code=3, broker_ignore="tiny:KLAR,large:8EF998015")["differences"][0]["symbol"]
        == "KLAR"
    )


def test_what_is_left_out_is_no_proof_about_anything_else(book: Trader, alpaca: Alpaca) -> None:
    """A phantom may be what another account has of it, or the same under another name: a person decides."""
    alpaca.accounts["large"].positions += [
        position("QCOM", "5", "148"), position("8EF998015", "4", "0", asset_class="us_equity", market_value=None)
    ]  # fmt: skip
    book.database.execute("UPDATE active_positions SET account_name = 'tiny' WHERE id = 16")
    ran = run(book, alpaca, "propose", "--phantoms", broker_ignore="large:QCOM,large:8EF998015")
    assert ran.code == 0, ran.err
    assert (
        "Left alone: phantom tiny QCOM (row 16): it is not compared in large (broker_ignore): it may be the"
        " same position" in ran.err
    )
    assert (
        "Left alone: phantom large NOW (row 13): it may be 8EF998015 of the same account, under another"
        in ran.err
    )
    assert "expect={" in (text := Path(ran.out.strip()).read_text("utf-8"))
    assert ("16: (" in text, "13: (" in text, "19: (" in text) == (False, False, True)


def test_an_account_is_still_believed_only_if_its_figures_fit(book: Trader, alpaca: Alpaca) -> None:
    large = alpaca.accounts["large"]
    large.positions = [position("TBILL", "1000", "0.98", asset_class="treasury")]
    flags = {"broker_ignore": "large:TBILL"}
    assert whys(found(book, alpaca, code=3, **flags))["large"] is None
    large.figures = {"long_market_value": "0"}  # some brokers' figures do not have it
    assert whys(found(book, alpaca, code=3, **flags))["large"] is None
    large.figures = {"long_market_value": "5000"}
    assert "are worth 5,000.00, but lists 980.00" in str(whys(found(book, alpaca, code=1, **flags))["large"])
    large.figures = {"short_market_value": "-50"}
    assert "short positions are worth 50.00, but lists none" in str(
        whys(found(book, alpaca, code=1, **flags))["large"]
    )
    large.positions, large.figures = (
        [{"symbol": "TBILL", "qty": "?", "market_value": None}],
        {"long_market_value": "9"},
    )
    value = found(book, alpaca, code=3, **flags)
    assert value["not_compared"][0]["broker"] == "'?' of no asset_class"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("huge:KLAR", "broker_accounts has no account huge. Known: large, tiny."),
        ("KLAR", "write ACCOUNT:INSTRUMENT"),
        ("large:", "write ACCOUNT:INSTRUMENT"),
        (":KLAR", "write ACCOUNT:INSTRUMENT"),
        ("large:KLAR,", "write ACCOUNT:INSTRUMENT"),
        ("large:KLAR,large:KLAR", "large:KLAR is given twice"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [("reconcile",), ("propose", "--phantoms"), ("watch", "--once"), ("verify", "--skip", "broker")],
)
def test_a_setting_that_means_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, words: str, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held.csv").write_text("account,symbol,quantity\n")
    (tmp_path / "alembic/versions").mkdir(parents=True)
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    ran = datafixes(
        None, "-x", "url=postgresql://127.0.0.1:1/none", "-x", "broker=file:held.csv", "-x", f"broker_ignore={given}",
        *command,
    )  # fmt: skip
    assert (ran.code, words in ran.err, len(ran.err.splitlines())) == (2, True, 1), ran.err


# A file as the broker.


def held(book: Trader, text: str, name: str = "held.csv") -> Path:
    path = book.project.directory / name
    path.write_text(text, "utf-8")
    return path


def of_file(book: Trader, path: Path, *, code: int, **flags: str) -> Any:
    settings = [part for name, value in flags.items() for part in ("-x", f"{name}={value}")]
    return answer(book.project, "-x", f"broker=file:{path}", *settings, "reconcile", code=code)


def rows(kind: str, *, column: str = "asset_class", symbol: str = "KLAR") -> str:
    real = "".join(f"large,{one['symbol']},{option(one['symbol'])},{one['quantity']}\n" for one in REAL)
    return f"account,symbol,{column},quantity\n{real}large,{symbol},{kind},10\ntiny,,\n"


def option(symbol: str) -> str:
    return "us_option" if len(symbol) > 6 else "us_equity"


@pytest.mark.parametrize(
    "kind", ["crypto", "cash", "ipo", "", "US_EQUITY", "Us_Option", "FUT", "BOND", "us_option", "CALL"]
)
@pytest.mark.parametrize(
    "column", ["asset_class", "sec_type", "secType", "type", "Instrument Type", "Asset-Class"]
)
def test_a_file_that_says_what_a_row_is_in_is_believed(tmp_path: Path, kind: str, column: str) -> None:
    path = tmp_path / "held.csv"
    path.write_text(rows(kind, column=column), "utf-8")
    large = FileBroker(path).positions("large", since=LONG_AGO)
    assert isinstance(large, Unknown)
    assert "line 5: holds KLAR, which is " in large.why
    assert f"({column.lower()})" in large.why
    assert isinstance(FileBroker(path).positions("tiny", since=LONG_AGO), Known)
    assert large.why.endswith("(to exclude it: broker_ignore=large:KLAR)")
    answer = FileBroker(path, ignored={"large": {"KLAR"}}).positions("large", since=LONG_AGO)
    assert isinstance(answer, Known)
    assert (len(answer.positions), answer.left_out["KLAR"].words) == (3, "10")


@pytest.mark.parametrize(
    ("stock", "option"),
    [("us_equity", "us_option"), ("stock", "option"), ("STK", "OPT"), ("EQUITY", "OPTION"), ("STOCK", "PUT")],
)
def test_the_words_that_brokers_have_for_stocks_and_options(tmp_path: Path, stock: str, option: str) -> None:
    path = tmp_path / "held.csv"
    path.write_text(rows(stock).replace("us_equity", stock).replace("us_option", option), "utf-8")
    large = FileBroker(path).positions("large", since=LONG_AGO)
    assert isinstance(large, Known)
    assert (len(large.positions), str(large.positions[-1].symbol)) == (4, "KLAR")


def test_cash_and_coins_of_a_file_are_no_stocks(book: Trader) -> None:
    text = "account,symbol,asset_class,quantity\nlarge,AAPL,us_equity,1\nlarge,BTCUSD,crypto,0.1\nlarge,USD,cash,1000.55\n"
    path = held(book, text)
    assert "line 3: holds BTCUSD, which is crypto (asset_class)" in str(
        whys(of_file(book, path, code=1))["large"]
    )
    flags = {"broker_ignore": "large:BTCUSD,large:usd", "broker_accounts": "large"}
    value = of_file(book, path, code=1, **flags)  # tiny is in the book alone
    assert whys(value)["large"] is None
    assert {one["symbol"] for one in value["differences"] if one["kind"] == "missing"} == {"AAPL"}


def test_an_odd_symbol_of_a_file_blinds_its_account_alone(book: Trader) -> None:
    real = "".join(f"large,{one['symbol']},{one['quantity']}\n" for one in REAL)
    path = held(book, f"account,symbol,quantity\n{real}large,8EF998015,3\ntiny,,\n")
    value = whys(of_file(book, path, code=1))
    assert (str(value["large"]).endswith("(to exclude it: broker_ignore=large:8EF998015)"), value["tiny"]) == (
        True, None
    )  # fmt: skip
    assert of_file(book, path, code=3, broker_ignore="large:8EF998015")["equal"] == 3
    # A line that makes no sense says nothing about anybody.
    path = held(book, f"account,symbol,quantity\n{real}large,3,8EF998015\ntiny,,\n")
    assert None not in whys(of_file(book, path, code=1)).values()


def test_another_currency_is_another_instrument(book: Trader) -> None:
    text = "account,symbol,currency,quantity\nlarge,SPY,USD,2\nlarge,SAP,{},10\ntiny,,\n"
    for currency, told in (
        ("EUR", "in EUR (currency)"),
        ("", "in no currency (currency)"),
        ("usd", "in usd (currency)"),
    ):
        why = whys(of_file(book, held(book, text.format(currency)), code=1))["large"]
        assert f"holds SAP, {told}, but the book is in USD" in str(why)
    assert whys(of_file(book, held(book, text.format("USD")), code=3))["large"] is None


def test_json_rows_that_do_not_say_what_others_say(book: Trader) -> None:
    positions = [{**one, "assetClass": option(str(one["symbol"]))} for one in REAL]
    content = {
        "positions": [*positions, {"account": "large", "symbol": "KLAR", "quantity": "1"}],
        "empty": ["tiny"],
    }
    why = whys(of_file(book, held(book, json.dumps(content), "held.json"), code=1))["large"]
    assert "positions[3]: holds KLAR, which is nothing (assetClass)" in str(why)
    content["positions"] = positions
    assert of_file(book, held(book, json.dumps(content), "held.json"), code=3)["equal"] == 3


def test_a_fill_of_something_else_counts_as_long_as_it_is_new(book: Trader) -> None:
    header = "account,symbol,asset_class,quantity,filled_at,price,order_id\n"
    real = "".join(f"large,{one['symbol']},{option(one['symbol'])},{one['quantity']},,,\n" for one in REAL)
    text = header + real + "large,QCOM,ipo,-5,{},150,o-1\ntiny,,\n"
    now = of_file(book, held(book, text.format(lately().isoformat())), code=1)
    assert "line 5: has a fill in QCOM, which is ipo (asset_class)" in str(whys(now)["large"])
    path = held(book, text.format("2026-02-03T15:00:00Z"))
    assert of_file(book, path, code=3)["equal"] == 3
    ran = datafixes(book.project, "-x", f"broker=file:{path}", "propose", "--phantoms")
    assert (ran.code, "so their exits are neutral: " in ran.err, "has a fill in QCOM, which is ipo" in ran.err) == (
        0, True, True
    )  # fmt: skip


def test_a_short_row_says_that_an_account_holds_nothing(book: Trader) -> None:
    header = "account,symbol,quantity,entry_price,asset_class\n"
    real = "".join(
        f"large,{one['symbol']},{one['quantity']},{one['entry_price']},{option(one['symbol'])}\n"
        for one in REAL
    )
    for short in ("tiny,,", "tiny", "tiny,,,,", "tiny,", '"tiny",""'):
        value = of_file(book, held(book, f"{header}{real}{short}\n"), code=3)
        assert [(one["account"], one["known"], one["positions"]) for one in value["accounts"]] == [
            ("large", True, 3), ("tiny", True, 0)
        ]  # fmt: skip
    for cut, told in (
        ("tiny,SPY", "line 5: 2 values for 5 columns"), ("tiny,SPY,5", "line 5: 3 values for 5 columns"),
        (",,5", "line 5: 3 values for 5 columns"), ("tiny,,,,,", "line 5: 6 values for 5 columns"),
    ):  # fmt: skip
        value = of_file(book, held(book, f"{header}{real}{cut}\n"), code=1)
        assert [told in str(why) for why in whys(value).values()] == [True, True]
    value = of_file(book, held(book, f"{header}{real}large,,\ntiny,,\n"), code=1)
    assert "lists large both as empty and with positions" in str(whys(value)["large"])
