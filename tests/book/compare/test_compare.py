"""The comparison: whatever is wrong is found, whatever is right is left alone, and nothing depends on an order."""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafixes.book.compare.comparing import parts_of
from datafixes.book.positions.position import (
    Answer,
    BookPosition,
    BrokerPosition,
    Comparison,
    Difference,
    Kind,
    Known,
    Unknown,
    Unsettled,
)
from datafixes.book.positions.symbols import Stock, Symbol, parse_symbol
from tests.book.compare.both import compare

NOW = dt.datetime(2026, 2, 13, 15, tzinfo=dt.UTC)
GRACE = dt.timedelta(minutes=5)
SPY, QQQ, PUT = parse_symbol("SPY"), parse_symbol("QQQ"), parse_symbol("CRM260227P00200000")


def row(
    id: int, symbol: Symbol, quantity: str, account: str = "large", minutes_ago: int = 99
) -> BookPosition:
    return BookPosition(id, account, symbol, Decimal(quantity), NOW - dt.timedelta(minutes=minutes_ago))


def holds(**quantities: str) -> Known:
    return Known([BrokerPosition(parse_symbol(name), Decimal(many)) for name, many in quantities.items()])


def look(book: Sequence[BookPosition], **broker: Answer) -> Comparison:
    return compare(book, broker, now=NOW, grace=GRACE)


def kinds(found: Comparison) -> list[tuple[Kind, str, str, tuple[int, ...]]]:
    return [(one.kind, one.account, str(one.symbol), one.rows) for one in found.differences]


def test_the_incident() -> None:
    """Seven phantoms in two accounts; three positions are real."""
    phantoms = {16: "QCOM", 24: "CRM260227P00200000", 13: "NOW", 21: "ORCL260213C00155000"}
    tiny = {19: "SPY", 32: "NOW260220P00110000", 33: "QCOM260220P00145000"}
    real = {1: "QCOM260227P00140000", 2: "SPY", 3: "NOW260227P00100000"}
    book = [row(id, parse_symbol(name), "1") for id, name in {**phantoms, **real}.items()]
    book += [row(id, parse_symbol(name), "1", "tiny") for id, name in tiny.items()]
    found = look(book, large=holds(**dict.fromkeys(real.values(), "1")), tiny=holds())
    assert {one.rows for one in found.differences} == {(id,) for id in {**phantoms, **tiny}}
    assert {one.kind for one in found.differences} == {"phantom"}
    assert found.equal == 3


@pytest.mark.parametrize(
    ("quantities", "broker", "kind"),
    [
        (["5"], "5", None),
        (["5", "5"], "10", None),
        (["7", "-2"], "5", None),
        (["5.000"], "5", None),
        (["0.1", "0.2"], "0.3", None),
        (["-5"], "-5", None),
        ([], "0", None),
        (["5"], "0", "phantom"),
        (["-5"], "0", "phantom"),
        (["0"], "0", "phantom"),
        (["5", "-5"], "0", "phantom"),
        ([], "5", "missing"),
        ([], "-0.0001", "missing"),
        (["5"], "5.000000001", "quantity"),
        (["5"], "10", "quantity"),
        (["0"], "5", "quantity"),
        (["2", "4"], "5", "quantity"),
        (["3", "3"], "5", "quantity"),
        (["5"], "-5", "side"),
        (["-1", "-1"], "1", "side"),
        (["5", "5"], "5", "duplicate"),
        (["-5", "-5"], "-5", "duplicate"),
        (["5", "5", "5"], "10", "duplicate"),
        (["5", "3"], "5", "duplicate"),
        (["0.000000001", "0.000000001"], "100000000000000000000", "quantity"),
    ],
)
def test_one_position(quantities: list[str], broker: str, kind: Kind | None) -> None:
    book = [row(id, SPY, many) for id, many in enumerate(quantities, start=1)]
    found = look(book, large=holds(SPY=broker))
    if kind is None:
        assert found.differences == ()
        assert found.equal == (1 if book or Decimal(broker) else 0)
    else:
        book_has = sum((one.quantity for one in book), Decimal(0))
        ids = tuple(range(1, len(book) + 1))
        assert found.differences == (Difference(kind, "large", SPY, ids, book_has, Decimal(broker)),)
        assert found.equal == 0


def test_a_duplicate_names_all_of_its_rows_oldest_first() -> None:
    book = [row(id, SPY, "5") for id in (39, 16, 34)]
    assert kinds(look(book, large=holds(SPY="5"))) == [("duplicate", "large", "SPY", (16, 34, 39))]


def test_a_position_in_the_other_account() -> None:
    found = look([row(1, SPY, "5")], large=holds(), tiny=holds(SPY="5"))
    assert found.differences == (
        Difference("account", "large", SPY, (1,), Decimal(5), Decimal(5), elsewhere="tiny"),
    )


def test_another_quantity_in_the_other_account_is_another_position() -> None:
    found = look([row(1, SPY, "5")], large=holds(), tiny=holds(SPY="6"))
    assert kinds(found) == [("phantom", "large", "SPY", (1,)), ("missing", "tiny", "SPY", ())]


def test_a_position_that_is_in_two_other_accounts_was_not_moved() -> None:
    found = look([row(1, SPY, "5")], large=holds(), tiny=holds(SPY="5"), third=holds(SPY="5"))
    assert kinds(found) == [
        ("phantom", "large", "SPY", (1,)),
        ("missing", "third", "SPY", ()),
        ("missing", "tiny", "SPY", ()),
    ]


def test_two_accounts_swapped() -> None:
    book = [row(1, SPY, "5"), row(2, PUT, "-1"), row(3, QQQ, "2", "tiny")]
    found = look(book, large=holds(QQQ="2"), tiny=holds(SPY="5", CRM260227P00200000="-1"))
    assert {(one.kind, one.account, one.rows, one.elsewhere) for one in found.differences} == {
        ("account", "large", (1,), "tiny"),
        ("account", "large", (2,), "tiny"),
        ("account", "tiny", (3,), "large"),
    }


def test_nothing_is_said_about_an_unknown_account() -> None:
    book = [row(1, SPY, "5"), row(2, QQQ, "5", "tiny"), row(3, QQQ, "5", "huge")]
    found = look(book, large=Unknown("HTTP 500"), tiny=holds(SPY="5"), empty=Unknown("HTTP 401"))
    assert kinds(found) == [("phantom", "tiny", "QQQ", (2,)), ("missing", "tiny", "SPY", ())]
    assert found.unknown == {
        "large": "HTTP 500",
        "empty": "HTTP 401",
        "huge": "the settings have no such account",
    }
    assert list(found.unknown) == sorted(found.unknown)


@pytest.mark.parametrize(
    ("answer", "minutes_ago", "why"),
    [
        (Known([], in_flight=frozenset([SPY])), 99, "an order is in flight"),
        (Known([], closed_lately=frozenset([SPY])), 99, "something was filled within the grace period"),
        (Known([]), 4, "opened within the grace period"),
        (Known([]), 5, ""),
    ],
)
def test_a_position_that_is_just_being_opened_or_closed(answer: Known, minutes_ago: int, why: str) -> None:
    book = [row(1, SPY, "5"), row(2, SPY, "5", minutes_ago=minutes_ago), row(3, QQQ, "1")]
    found = look(book, large=answer)
    # The row that stands there longer is a phantom whatever was opened since; an order or a fill may be about either.
    rows = (2,) if why.startswith("opened") else (1, 2)
    assert found.unsettled == ((Unsettled("large", SPY, rows, why),) if why else ())
    certain = {"": (1, 2), "opened within the grace period": (1,)}.get(why)
    assert kinds(found) == [("phantom", "large", "QQQ", (3,))] + (
        [("phantom", "large", "SPY", certain)] if certain else []
    )


@pytest.mark.parametrize(
    ("quantities", "broker", "kind"),
    [
        ((3, 2, 3, 2), 5, "duplicate"),
        ((5, 3, 5), 8, "duplicate"),
        ((-3, -2, -3), -5, "duplicate"),
        ((3, 2, 3), 6, "duplicate"),
        ((1, 1, 1, 2), 3, "quantity"),  # one of 1 and one of 2, or three of 1
        ((2, 2, 1, 1, 3), 6, "quantity"),
        ((5, 5, -5), 5, None),
        ((5, 5, 5, -5), 5, "quantity"),
        ((3, 2), 4, "quantity"),
    ],
)
def test_rows_of_several_sizes_that_say_a_position_again(
    quantities: tuple[int, ...], broker: int, kind: str | None
) -> None:
    book = [row(number, SPY, str(many)) for number, many in enumerate(quantities)]
    found = look(book, large=holds(SPY=str(broker))).differences
    assert [one.kind for one in found] == ([] if kind is None else [kind])
    assert all(one.rows == tuple(range(len(quantities))) for one in found)


def test_rows_of_very_many_sizes_are_not_looked_at_for_ever() -> None:
    sizes = [Decimal(2**number) for number in range(60)]
    assert parts_of(sizes[:10], Decimal(5)) == Counter({Decimal(1): 1, Decimal(4): 1})
    assert parts_of(sizes, sum(sizes[::2], Decimal(0))) is None  # there is one, among a quintillion
    book = [row(number, SPY, str(many)) for number, many in enumerate(sizes)]
    assert [one.kind for one in look(book, large=holds(SPY=str(sum(sizes[::2])))).differences] == ["quantity"]


@pytest.mark.parametrize(
    ("old", "young", "broker", "certain", "waiting"),
    [
        ((5, 5), (5,), 0, ("phantom", (0, 1), 10), (2,)),  # a book that makes its phantoms anew
        ((5,), (5,), 0, ("phantom", (0,), 5), (1,)),
        ((5, 5), (5,), 5, ("duplicate", (0, 1), 10), (2,)),
        ((5,), (5,), 5, None, (0, 1)),
        ((5,), (5,), 8, None, (0, 1)),  # being opened in parts
        ((-5,), (5,), -2, None, (0, 1)),  # being closed
        ((-5,), (-1,), 3, ("side", (0,), -5), (1,)),
        ((), (5,), 3, None, (0,)),
    ],
)
def test_a_young_row_does_not_excuse_what_is_wrong_without_it(
    old: tuple[int, ...], young: tuple[int, ...], broker: int, certain: Any, waiting: tuple[int, ...]
) -> None:
    book = [row(number, SPY, str(many)) for number, many in enumerate(old)]
    book += [row(len(old) + number, SPY, str(many), minutes_ago=1) for number, many in enumerate(young)]
    found = look(book, large=holds(**({"SPY": str(broker)} if broker else {})))
    assert [(one.kind, one.rows, one.book) for one in found.differences] == ([certain] if certain else [])
    assert [one.rows for one in found.unsettled] == [waiting]


def test_what_is_equal_is_settled_whatever_goes_on_in_it() -> None:
    answer = replace(holds(SPY="5"), in_flight=frozenset([SPY]), closed_lately=frozenset([SPY]))
    found = look([row(1, SPY, "5", minutes_ago=0)], large=answer)
    assert (found.equal, found.unsettled, found.differences) == (1, (), ())


def test_an_order_in_flight_for_a_position_that_the_book_has_not() -> None:
    answer = replace(holds(SPY="5", QQQ="1"), in_flight=frozenset([SPY]))
    found = look([], large=answer)
    assert found.unsettled == (Unsettled("large", SPY, (), "an order is in flight"),)
    assert kinds(found) == [("missing", "large", "QQQ", ())]


def test_the_broker_may_say_one_position_in_parts() -> None:
    assert (
        look([row(1, SPY, "5")], large=Known([BrokerPosition(SPY, Decimal(many)) for many in (2, 3)])).equal
        == 1
    )


def test_a_thousand_positions_per_account_and_one_phantom() -> None:
    names = [
        "".join(letters) for letters in itertools.islice(itertools.product("ABCDEFGHIJ", repeat=4), 1000)
    ]
    book = [
        row(id, Stock(name), "7", account) for account in ("large", "tiny") for id, name in enumerate(names)
    ]
    held = holds(**dict.fromkeys(names, "7"))
    found = look([*book, row(5000, QQQ, "1", "tiny")], large=held, tiny=held)
    assert kinds(found) == [("phantom", "tiny", "QQQ", (5000,))]
    assert found.equal == 2000


# A made-up world: each position has a symbol of its own, so that no two faults can be taken for one another.


@dataclass(frozen=True)
class World:
    """What is held, in how many rows, and what is wrong with it."""

    account: str
    symbol: Symbol
    quantities: tuple[Decimal, ...]
    fault: Kind | None


quantity = st.integers(1, 10**9).map(lambda many: Decimal(many).scaleb(-4))
SYMBOLS = [
    parse_symbol(f"{chr(65 + n % 26)}{chr(65 + n // 26)}{tail}")
    for n in range(12)
    for tail in ("", "260227P00200000")
]
faults: st.SearchStrategy[Kind] = st.sampled_from(
    ["phantom", "missing", "quantity", "side", "duplicate", "account"]
)


@st.composite
def worlds(draw: st.DrawFn) -> list[World]:
    symbols = draw(st.lists(st.sampled_from(SYMBOLS), unique=True, max_size=8))
    found = []
    for symbol in symbols:
        sign = draw(st.sampled_from([1, -1]))
        quantities = draw(st.lists(quantity, min_size=1, max_size=3))
        fault = draw(st.none() | faults)
        found.append(
            World(
                draw(st.sampled_from(["large", "tiny"])),
                symbol,
                tuple(sign * many for many in quantities),
                fault,
            )
        )
    return found


ODD = Decimal("0.00007")
"""No sum of quantities ends like this."""


def build(
    positions: Sequence[World],
) -> tuple[list[BookPosition], dict[str, Answer], list[Difference]]:
    """Book and broker with these faults, and what must be found."""
    ids = itertools.count(1)
    book: list[BookPosition] = []
    broker: dict[str, list[BrokerPosition]] = {"large": [], "tiny": []}
    expected: list[Difference] = []
    for one in positions:
        other = "tiny" if one.account == "large" else "large"
        quantities = one.quantities
        holder, held = one.account, sum(quantities, Decimal(0))
        if one.fault == "missing":
            quantities = ()
        elif one.fault == "phantom":
            held = Decimal(0)
        elif one.fault == "quantity":
            held += ODD
        elif one.fault == "side":
            held = -held
        elif one.fault == "duplicate":
            quantities = held, held
        elif one.fault == "account":
            holder = other
        rows = [BookPosition(next(ids), one.account, one.symbol, many) for many in quantities]
        book += rows
        broker[holder].append(BrokerPosition(one.symbol, held))
        if one.fault:
            expected.append(
                Difference(
                    one.fault,
                    one.account,
                    one.symbol,
                    tuple(row.id for row in rows),
                    sum(quantities, Decimal(0)),
                    held,
                    other if one.fault == "account" else "",
                )
            )
    return book, {account: Known(held) for account, held in broker.items()}, expected


@given(worlds())
def test_equal_book_and_broker(positions: list[World]) -> None:
    book, broker, _ = build([replace(one, fault=None) for one in positions])
    assert look(book, **broker) == Comparison((), equal=len(positions))


@settings(max_examples=200)
@given(worlds())
def test_every_fault_is_found_and_nothing_else(positions: list[World]) -> None:
    book, broker, expected = build(positions)
    found = look(book, **broker)
    assert list(found.differences) == sorted(expected, key=lambda one: (one.account, str(one.symbol)))
    assert found.equal == sum(one.fault is None for one in positions)
    assert (found.unknown, found.unsettled) == ({}, ())


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_read_decides_nothing(positions: list[World], random: Random) -> None:
    book, broker, _ = build(positions)
    shuffled = random.sample(book, len(book))
    turned: Mapping[str, Answer] = {
        account: Known(random.sample(answer.positions, len(answer.positions)))
        for account, answer in reversed(broker.items())
        if isinstance(answer, Known)
    }
    assert look(shuffled, **turned) == look(book, **broker)


@given(worlds())
def test_an_unknown_account_says_nothing_and_changes_nothing_in_the_other(positions: list[World]) -> None:
    book, broker, _ = build([one for one in positions if one.fault != "account"])
    whole = look(book, **broker)
    found = look(book, large=Unknown("HTTP 500"), tiny=broker["tiny"])
    assert found.differences == tuple(one for one in whole.differences if one.account == "tiny")
    assert found.unknown == {"large": "HTTP 500"}
