"""Alpaca's real client against a broker on this machine, with everything that can go wrong on the way."""

import datetime as dt
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from datafixes.book.broker.alpaca import AlpacaBroker
from datafixes.book.broker.alpaca_answers import contradiction, read_account, read_positions, rows_of
from datafixes.book.broker.alpaca_orders import filled_since, in_flight, read_orders
from datafixes.book.broker.protocol import NoAnswer
from datafixes.book.compare.reconciling import open_broker
from datafixes.book.positions.position import NOT_IN_SETTINGS, BrokerPosition, Fill, Known, Unknown
from datafixes.book.positions.symbols import Symbol, parse_symbol
from datafixes.book.settings import BookSettings
from datafixes.book.thread import THREAD_NAME
from datafixes.errors import DatafixError, SettingError
from tests.book.broker.alpaca_server import (
    Alpaca,
    Fault,
    accounts,
    body,
    closed,
    drip,
    fill,
    half,
    order,
    position,
    running,
    slow,
    status,
)
from tests.book.settings import book_settings

NOW = dt.datetime.now(dt.UTC)
SINCE = NOW - dt.timedelta(minutes=5)
PUT = "CRM260227P00200000"


@pytest.fixture(scope="module")
def server() -> Iterator[Alpaca]:
    with running(Alpaca(**accounts())) as alpaca:
        yield alpaca


@pytest.fixture
def alpaca(server: Alpaca, monkeypatch: pytest.MonkeyPatch) -> Alpaca:
    """The broker, as new; its accounts' keys stand in the environment."""
    server.accounts = accounts()
    server.asked.clear()
    server.heal()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in server.accounts:
        monkeypatch.setenv(f"KEYS_{name.upper()}", server.secret(name))
    return server


class Waits(list[float]):
    """Stands for time.sleep."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def settings(alpaca: Alpaca, **flags: str) -> BookSettings:
    known = {
        "broker_accounts": "large=env:KEYS_LARGE,tiny=env:KEYS_TINY",
        "broker_url": alpaca.url,
        "broker_timeout": "5s",
    }
    return book_settings(**{**known, **flags})


def ask(alpaca: Alpaca, account: str = "large", waits: Waits | None = None, **flags: str) -> Known | Unknown:
    sleep = Waits() if waits is None else waits
    return AlpacaBroker(settings(alpaca, **flags), sleep=sleep).positions(account, since=SINCE)


def known(alpaca: Alpaca, account: str = "large") -> Known:
    answer = ask(alpaca, account)
    assert isinstance(answer, Known), answer
    return answer


def why(alpaca: Alpaca, account: str = "large", waits: Waits | None = None, **flags: str) -> str:
    """Why the account is unknown: always one line, never with a secret in it."""
    answer = ask(alpaca, account, waits, **flags)
    assert isinstance(answer, Unknown), answer
    assert "\n" not in answer.why
    assert "HIDDEN" not in answer.why
    return answer.why


def symbols(*names: str) -> frozenset[Symbol]:
    return frozenset(map(parse_symbol, names))


def test_positions_are_read_exactly(alpaca: Alpaca) -> None:
    alpaca.accounts["large"].positions = [
        position("SPY", "12.123456789", "690.1234"),
        position("NOW", "-5", "100.5"),
        position(PUT, "2", "3.15"),
        position("BRK.B", "1", "500"),
    ]
    answer = known(alpaca)
    assert list(answer.positions) == [
        BrokerPosition(parse_symbol("SPY"), Decimal("12.123456789"), Decimal("690.1234")),
        BrokerPosition(parse_symbol("NOW"), Decimal(-5), Decimal("100.5")),
        BrokerPosition(parse_symbol(PUT), Decimal(2), Decimal("3.15")),
        BrokerPosition(parse_symbol("BRK.B"), Decimal(1), Decimal(500)),
    ]
    assert answer.in_flight == answer.closed_lately == frozenset()
    assert answer.read_at is not None
    assert abs(answer.read_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
    assert (
        answer.source
        == f"Alpaca {alpaca.url.removeprefix('http://')}, account …1111, the one that its secret names"
    )


def test_an_account_that_holds_nothing_is_known(alpaca: Alpaca) -> None:
    alpaca.accounts["large"].hold(SPY="1")
    assert known(alpaca, "tiny").positions == []


def test_a_side_without_a_sign_counts(alpaca: Alpaca) -> None:
    alpaca.accounts["large"].positions = [position("SPY", "5", side="short", market_value="-50")]
    assert [one.quantity for one in known(alpaca).positions] == [Decimal(-5)]


@pytest.mark.parametrize("path", ["/account", "/positions", "/orders", "/account/activities/FILL"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(429), "answers HTTP 429 (4 attempts)"),
        (status(500), "answers HTTP 500 (4 attempts)"),
        (status(401, "key HIDDEN-large is wrong"), "rejects the keys of environment KEYS_LARGE (HTTP 401: key *** is"),
        (status(403, "forbidden."), "rejects the keys of environment KEYS_LARGE (HTTP 403: forbidden.)"),
        (status(404), "answers HTTP 404"),
        (body("moved", 302), "answers HTTP 302"),
        (body("<html>HIDDEN</html>"), "does not answer with JSON"),
        (body('[{"symbol": "SPY"'), "does not answer with JSON"),
        (body(""), "gave an empty answer"),
        (body("null"), "gave an empty answer"),
        (body('{"message": "HIDDEN"}'), ""),
        (body('["HIDDEN"]'), ""),
        (body("5"), ""),
        (half, "closed the connection in the middle of its answer (4 attempts)"),
        (closed, "cannot be reached, or closes the connection (4 attempts)"),
    ],
)  # fmt: skip
def test_no_fault_of_any_answer_is_taken_for_no_positions(
    alpaca: Alpaca, path: str, fault: Fault, words: str
) -> None:
    alpaca.accounts["large"].hold(SPY="1")
    alpaca.fail(path, fault)
    assert words in why(alpaca)


@pytest.mark.parametrize("fault", [slow(2), drip(2)])
def test_no_answer_takes_longer_than_its_time(alpaca: Alpaca, fault: Fault) -> None:
    alpaca.fail("/positions", fault)
    waits = Waits()
    others = set(threading.enumerate())
    begun = time.monotonic()
    # No attempt begins that could not end within six times the limit.
    assert "does not answer within 0.2s (2 attempts)" in why(alpaca, waits=waits, broker_timeout="200ms")
    assert time.monotonic() - begun < 1.5
    assert waits == [0.5]
    # And nobody goes on listening, however long one byte comes after the other.
    listening = [one for one in threading.enumerate() if one.name == THREAD_NAME and one not in others]
    for thread in listening:
        thread.join(0.4)
    assert [thread for thread in listening if thread.is_alive()] == []


def test_a_broker_with_no_end_of_pages(alpaca: Alpaca) -> None:
    pages = itertools.count()

    def page(handler: Any) -> None:
        at = NOW + dt.timedelta(seconds=next(pages))
        handler.send(200, json.dumps([order("SPY", "1", at=at) for _ in range(500)]), {})

    alpaca.fail("/orders", page)
    begun = time.monotonic()
    # The last page may be the one that is cut off.
    assert why(alpaca, broker_timeout="200ms").split(" ", 1)[1] in (
        "takes too long for all requests together",
        "does not answer within 0.2s",
    )
    assert time.monotonic() - begun < 2.5


@pytest.mark.parametrize("fault", [status(429), status(500), status(503), half, closed])
def test_what_may_pass_is_tried_again(alpaca: Alpaca, fault: Fault) -> None:
    alpaca.accounts["large"].hold(SPY="1")
    for path in ("/account", "/positions", "/orders"):
        alpaca.fail(path, fault, 2)
    waits = Waits()
    assert isinstance(ask(alpaca, waits=waits), Known)
    assert waits == [0.5, 1.0] * 3
    assert alpaca.count("/positions") == 3


@pytest.mark.parametrize("fault", [status(401), status(403), status(422), body("<html>")])
def test_what_will_not_pass_is_not_tried_again(alpaca: Alpaca, fault: Fault) -> None:
    alpaca.fail("/account", fault)
    waits = Waits()
    why(alpaca, waits=waits)
    assert (waits, alpaca.count("/account")) == ([], 1)


def test_a_broker_that_asks_to_wait_is_obeyed(alpaca: Alpaca) -> None:
    alpaca.fail("/positions", status(429, Retry_After="3"), 1)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=20)
    alpaca.fail("/positions", status(429, Retry_After=f"{later:%a, %d %b %Y %H:%M:%S} GMT"), 1)
    waits = Waits()
    assert isinstance(ask(alpaca, waits=waits), Known)
    assert waits[0] == 3
    assert 15 < waits[1] <= 20


def test_a_broker_that_asks_to_wait_for_too_long_is_not(alpaca: Alpaca) -> None:
    alpaca.fail("/positions", status(429, Retry_After="3600"))
    waits = Waits()
    assert "answers HTTP 429 and asks to wait 3600s" in why(alpaca, waits=waits)
    assert waits == []


def test_nobody_there(alpaca: Alpaca) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert "cannot be reached, or closes the connection (4 attempts)" in why(alpaca, broker_url=url)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"qty": "many"}, "qty of SPY is 'many': not a number"),
        ({"qty": None}, "qty of SPY is None: not a number"),
        ({"qty": "NaN"}, "qty of SPY is 'NaN': not a number"),
        ({"qty": "1_0"}, "qty of SPY is '1_0': not a number"),
        ({"qty": True}, "qty of SPY is True: not a number"),
        ({"qty": "-5", "side": "long"}, "SPY: a quantity of -5 contradicts the side 'long'"),
        ({"side": "both"}, "a quantity of 5 contradicts the side 'both'"),
        ({"avg_entry_price": "-"}, "avg_entry_price of SPY is '-': not a number"),
        ({"symbol": "no symbol"}, "'no symbol' is neither a ticker nor"),
        ({"symbol": ""}, "an answer has no symbol"),
        ({"symbol": "SPY260231P00100000"}, "260231 is not a date"),
        ({"symbol": "BTCUSD", "asset_class": "crypto"}, "BTCUSD, which is crypto: neither a stock nor an option"),
        ({"asset_class": "us_option"}, "SPY has the asset class 'us_option'"),
        ({"symbol": PUT}, "CRM260227P00200000 has the asset class 'us_equity'"),
        ({"symbol": "QQQ"}, "lists QQQ twice"),
    ],
)  # fmt: skip
def test_one_position_that_makes_no_sense(alpaca: Alpaca, changed: dict[str, Any], words: str) -> None:
    alpaca.accounts["large"].positions = [position("QQQ", "1"), {**position("SPY", "5"), **changed}]
    assert words in why(alpaca)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"account_blocked": True}, "the account is blocked"),
        ({"status": "ACCOUNT_CLOSED"}, "its status is 'ACCOUNT_CLOSED'"),
        ({"long_market_value": None}, "long_market_value of the account is None: not a number"),
        ({"account_number": ""}, "an answer has no account_number"),
        ({"long_market_value": "500"}, "says that its long positions are worth 500.00, but lists 50.00"),
        ({"short_market_value": "-0.5"}, "says that its short positions are worth 0.50, but lists none"),
        ({"long_market_value": "0"}, "says that its long positions are worth 0.00, but lists 50.00"),
    ],
)
def test_an_account_that_contradicts_its_list(alpaca: Alpaca, figures: dict[str, Any], words: str) -> None:
    alpaca.accounts["large"].positions = [position("SPY", "5")]
    alpaca.accounts["large"].figures = figures
    assert words in why(alpaca)


def test_an_empty_list_of_an_account_with_positions(alpaca: Alpaca) -> None:
    alpaca.accounts["large"].hold(SPY="5")
    alpaca.fail("/positions", body("[]"))
    assert why(alpaca) == "the account says that its long positions are worth 50.00, but lists none"


def test_an_answer_with_the_other_accounts_positions(alpaca: Alpaca) -> None:
    alpaca.fail("/positions", body(json.dumps([position("SPY", "5")])))
    assert why(alpaca, "tiny") == "the account says that its long positions are worth 0.00, but lists 50.00"


def test_prices_that_moved_and_options_beyond_the_figure_are_no_contradiction(alpaca: Alpaca) -> None:
    alpaca.accounts["large"].positions = [position("SPY", "5"), position(PUT, "1")]
    alpaca.accounts["large"].figures = {"long_market_value": "60"}
    assert len(known(alpaca).positions) == 2


def test_a_contradiction_that_passes_is_none(alpaca: Alpaca) -> None:
    """Something was sold between the two answers."""
    before = alpaca.accounts["large"].shown() | {"long_market_value": "99"}
    alpaca.fail("/account", body(json.dumps(before)), 1)
    assert known(alpaca).positions == []


def test_keys_that_say_which_account_they_open_must_open_it(
    alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYS_LARGE", alpaca.secret("large", number=False))
    assert not known(alpaca).proven
    named = json.loads(alpaca.secret("large")) | {"account_number": "PA3TINY2222"}
    monkeypatch.setenv("KEYS_LARGE", json.dumps(named))
    assert why(alpaca) == "environment KEYS_LARGE opens account …1111, but names …2222"
    monkeypatch.setenv("KEYS_LARGE", json.dumps(named | {"account_number": "PA3LARGE1111"}))
    assert known(alpaca).proven


def test_another_account_that_cannot_be_asked_contradicts_nobody(
    alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYS_TINY")
    assert known(alpaca).positions == []
    assert "environment KEYS_TINY: not set." in why(alpaca, "tiny")


def test_an_account_that_the_settings_do_not_know(alpaca: Alpaca) -> None:
    assert why(alpaca, "huge") == "the settings have no such account"
    assert alpaca.asked == []


def test_keys_are_read_again_after_a_refusal(alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    good = alpaca.secret("large")
    monkeypatch.setenv("KEYS_LARGE", json.dumps({"api_key": "old", "secret_key": "HIDDEN"}))
    broker = AlpacaBroker(settings(alpaca))
    assert isinstance(broker.positions("large", since=SINCE), Unknown)
    monkeypatch.setenv("KEYS_LARGE", good)
    assert isinstance(broker.positions("large", since=SINCE), Known)
    monkeypatch.setenv("KEYS_LARGE", "gone")
    assert isinstance(broker.positions("large", since=SINCE), Known)


@pytest.mark.parametrize(
    "state",
    ["new", "accepted", "pending_new", "partially_filled", "pending_cancel", "held", "suspended", "what"],
)
def test_a_symbol_with_an_open_order_is_in_flight(alpaca: Alpaca, state: str) -> None:
    alpaca.accounts["large"].hold(SPY="5", QQQ="1")
    alpaca.accounts["large"].orders = [order("SPY", "-5", state), order("BTCUSD", "1", asset_class="crypto")]
    assert known(alpaca).in_flight == symbols("SPY")


@pytest.mark.parametrize(
    ("waiting", "held", "flies"),
    [
        # Both exits of a bracket whose entry is filled: they stay as long as the position.
        (order("SPY", "-5", "held", order_class="bracket", type="stop"), "5", False),
        (order("SPY", "-5", "new", order_class="bracket", type="limit"), "5", False),
        (order("SPY", "5", "new", order_class="oco", type="limit"), "-5", False),
        # A leg that is done, of an order whose other legs are not.
        (order("SPY", "-5", "filled"), "5", False),
        (order("SPY", "-5", "new", type="trailing_stop"), "5", False),
        # The entry itself, and exits that are under way, too big, for the other side, or for nothing.
        (order("SPY", "5", "new", order_class="bracket", type="limit"), "5", True),
        (order("SPY", "-5", "new", order_class="bracket", filled_qty="1"), "5", True),
        (order("SPY", "-5", "pending_cancel", order_class="bracket"), "5", True),
        (order("SPY", "-6", "held", order_class="bracket", type="stop"), "5", True),
        (order("SPY", "-5", "held", order_class="bracket", type="stop"), "0", True),
        (order("SPY", "-5", "new", order_class="bracket", position_intent="sell_to_open"), "5", True),
        (order("SPY", "-5", "new", order_class="bracket", qty=None, notional="9"), "5", True),
        # A limit order that somebody placed may be carried out at any moment.
        (order("SPY", "-5", "new", type="limit"), "5", True),
    ],
)
def test_an_exit_that_merely_waits_is_not_in_flight(waiting: dict[str, Any], held: str, flies: bool) -> None:
    found = in_flight(read_orders([waiting]), [BrokerPosition(parse_symbol("SPY"), Decimal(held))])
    assert found == (symbols("SPY") if flies else frozenset())


def test_an_order_of_several_legs_is_in_flight_in_all_of_them(alpaca: Alpaca) -> None:
    legs = [order(PUT, "1"), order("CRM260227P00190000", "-1")]
    alpaca.accounts["large"].orders = [order("", "1", order_class="mleg", side="", legs=legs)]
    assert known(alpaca).in_flight == symbols(PUT, "CRM260227P00190000")


def test_more_open_orders_than_a_page_holds(alpaca: Alpaca) -> None:
    """1,300 orders; those of one moment stand on both sides of a page's end."""
    begun = dt.datetime(2026, 2, 13, 15, tzinfo=dt.UTC)
    names = ["".join(chr(65 + number // 26**place % 26) for place in range(3)) for number in range(1300)]
    alpaca.accounts["large"].orders = [
        order(
            name,
            "1",
            at=(begun + dt.timedelta(seconds=number // 7)).isoformat().replace("+00:00", ".123456789Z"),
        )
        for number, name in enumerate(names)
    ]
    assert known(alpaca).in_flight == symbols(*names)


def test_more_orders_of_one_moment_than_a_page_holds(alpaca: Alpaca) -> None:
    alpaca.accounts["large"].orders = [order("SPY", "1", at=NOW) for _ in range(501)]
    assert "lists more than 500 orders with the same time" in why(alpaca)


def test_a_clock_that_is_minutes_ahead_makes_nothing_known(
    alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was filled a moment ago would look as if it was older than the grace period."""
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda _: "Wed, 04 Feb 2026 15:00:00 GMT")
    assert "this machine's clock and Alpaca's differ by " in why(alpaca)
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda _: "no date")
    assert known(alpaca).positions == []


def test_what_was_filled_lately_is_told(alpaca: Alpaca) -> None:
    long_ago, lately = NOW - dt.timedelta(days=30), NOW - dt.timedelta(minutes=1)
    account = alpaca.accounts["large"]
    account.orders = [
        order("NOW", "1", "filled", at=lately),
        order("QCOM", "-3", "canceled", at=lately, filled_qty="1", filled_avg_price="9", canceled_at=lately.isoformat()),
        order("ORCL", "1", "canceled", at=lately, canceled_at=lately.isoformat()),
        order("IBM", "1", "filled", at=long_ago),
    ]  # fmt: skip
    # The order of this one was submitted a month ago: a stop-loss that was just hit.
    account.fills = [fill("SPY", "-1", lately), fill("BTC/USD", "1", lately), fill("T", "1", long_ago)]
    answer = known(alpaca)
    assert answer.closed_lately == symbols("NOW", "QCOM", "SPY")
    assert answer.in_flight == frozenset()


def test_what_was_filled_earlier_is_not() -> None:
    rows = [
        order("SPY", "1", "filled", at=SINCE - dt.timedelta(seconds=1)),
        order("QQQ", "1", "filled", at=SINCE),
    ]
    assert filled_since(read_orders(rows), SINCE) == symbols("QQQ")


def test_more_fills_than_a_page_holds(alpaca: Alpaca) -> None:
    names = [f"{chr(65 + number // 26)}{chr(65 + number % 26)}" for number in range(250)]
    alpaca.accounts["large"].fills = [fill(name, "1", NOW - dt.timedelta(minutes=1)) for name in names]
    assert known(alpaca).closed_lately == symbols(*names)


def test_closing_fills(alpaca: Alpaca) -> None:
    opened, closed_at = NOW - dt.timedelta(days=3), NOW - dt.timedelta(days=1)
    sale = order(
        "NOW", "-7", "filled", at=opened - dt.timedelta(seconds=1), filled_avg_price="101.2345",
        filled_at=closed_at.isoformat(), order_class="bracket",
    )  # fmt: skip
    part = order(PUT, "9", "canceled", at=closed_at, filled_qty="2", filled_avg_price="1.05",
                 canceled_at=NOW.isoformat())  # fmt: skip
    alpaca.accounts["large"].orders = [
        part, sale,
        order("NOW", "7", "filled", at=opened, position_intent="buy_to_open"),
        order("NOW", "-7", "filled", at=opened - dt.timedelta(days=9)),
        order("NOW", "-7", "canceled", at=closed_at, canceled_at=closed_at.isoformat()),
        order("SPY", "-1", "filled", at=closed_at),
    ]  # fmt: skip
    broker = open_broker(settings(alpaca))
    wanted = [parse_symbol("NOW"), parse_symbol(PUT)]
    assert broker.fills("large", wanted, after=opened) == [
        Fill(parse_symbol("NOW"), Decimal(-7), Decimal("101.2345"), closed_at, sale["id"]),
        Fill(parse_symbol(PUT), Decimal(2), Decimal("1.05"), NOW, part["id"], is_whole=False),
    ]
    assert broker.fills("large", wanted, after=opened.replace(tzinfo=None)) != []
    assert broker.fills("large", [], after=opened) == []
    assert broker.fills("huge", wanted, after=opened) == NOT_IN_SETTINGS
    alpaca.fail("/orders", status(403))
    refused = broker.fills("large", wanted, after=opened)
    assert isinstance(refused, Unknown)
    assert "rejects the keys" in refused.why


def test_ten_thousand_positions(alpaca: Alpaca) -> None:
    begun = dt.date(2026, 1, 1)
    alpaca.accounts["large"].positions = [
        position(f"SPY{begun + dt.timedelta(days=number // 100):%y%m%d}P{(number % 100 + 1) * 1000:08d}", "1")
        for number in range(10_000)
    ]
    assert len(set(known(alpaca).positions)) == 10_000


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sandbox", "broker_url is 'sandbox' (-x broker_url): write paper, live, or a URL"),
        ("http://example.org", "http would send the keys unencrypted"),
        ("https://me:HIDDEN@example.org", "broker_url is 'https://***@example.org'"),
    ],
)
def test_where_alpaca_cannot_be(alpaca: Alpaca, url: str, words: str) -> None:
    with pytest.raises(SettingError) as caught:
        open_broker(settings(alpaca, broker_url=url))
    assert words in caught.value.message
    assert "HIDDEN" not in caught.value.message


def test_paper_is_the_default_and_live_must_be_named(alpaca: Alpaca) -> None:
    urls = [
        AlpacaBroker(settings(alpaca, broker_url=name))._url
        for name in ("paper", "live", alpaca.url + "/v2/")
    ]
    assert urls == ["https://paper-api.alpaca.markets", "https://api.alpaca.markets", alpaca.url]
    assert book_settings().broker_url == "paper"


def test_without_the_client_one_line_says_what_to_install(
    alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "alpaca.trading.client", None)
    with pytest.raises(DatafixError) as caught:
        open_broker(settings(alpaca))
    assert "the broker is alpaca, but its client is not installed" in caught.value.message
    assert caught.value.hint == "pip install 'datafixes[broker]'"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["symbol", "qty", "side", "legs", "id", "status", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@hypothesis_settings(max_examples=50)
@given(JSON)
def test_no_json_makes_the_reader_stumble(value: Any) -> None:
    for read in (read_account, read_positions, lambda answer: read_orders(rows_of(answer, "orders"))):
        with suppress(NoAnswer):
            read(value)
        with suppress(NoAnswer):
            read([value])


def test_no_contradiction_in_an_account_without_positions() -> None:
    assert contradiction(read_account(accounts()["tiny"].shown()), []) == ""
