"""What was found by attacking the comparison: doubt that became "no positions", and rows that were not the ones seen."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from datafixes.book.broker.alpaca_answers import read_positions
from datafixes.book.broker.file_broker import FileBroker
from datafixes.book.broker.protocol import NoAnswer
from datafixes.book.positions.position import BookPosition, BrokerPosition, Known, Unknown
from datafixes.book.positions.symbols import parse_symbol
from datafixes.errors import SettingError
from tests.book.books import Trader, new_row, trader
from tests.book.broker.alpaca_server import position
from tests.book.compare.both import compare
from tests.book.settings import book_settings
from tests.servers import Database


@pytest.fixture
def book(tmp_path: Path, database: Database) -> Trader:
    return trader(tmp_path, database)


def test_a_position_of_zero_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="QCOM with a quantity of zero"):
        read_positions([position("QCOM", "0", market_value="740")])


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", '{"positions": [{"account": "large", "symbol": "SPY", "quantity": "2"}], "positions": []}', "'positions' occurs twice"),
        ("b.csv", "account,symbol,quantity\nlarge,,\nlarge,SPY,2\n", "lists large both as empty and with positions"),
        ("c.csv", "account,symbol,quantity\nlarge,SPY,2", "ends in the middle of a line"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_or_was_cut_says_nothing(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    (tmp_path / name).write_text(text)
    answer = FileBroker(tmp_path / name).positions("large", since=dt.datetime.now(dt.UTC))
    assert isinstance(answer, Unknown)
    assert why in answer.why


@pytest.mark.parametrize(
    ("quantities", "broker", "kind"),
    [((3, 4, 1), 4, "quantity"), ((4, 1), 4, "duplicate"), ((4, 4), 4, "duplicate"), ((3, 1), 4, None)],
)
def test_a_duplicate_is_not_guessed(quantities: tuple[int, ...], broker: int, kind: str | None) -> None:
    symbol = parse_symbol("GE")
    rows = [BookPosition(n, "large", symbol, Decimal(q)) for n, q in enumerate(quantities)]
    now = dt.datetime.now(dt.UTC)
    found = compare(
        rows, {"large": Known([BrokerPosition(symbol, Decimal(broker))])}, now=now, grace=dt.timedelta()
    )
    assert [one.kind for one in found.differences] == ([] if kind is None else [kind])


@pytest.mark.parametrize("change", ["side = 'short'", "entry_price = 100"])
def test_a_row_of_another_side_or_price_stops_the_upgrade(book: Trader, change: str) -> None:
    assert book.run("propose", "--phantoms").code == 0
    book.database.execute(f"UPDATE active_positions SET {change} WHERE id = 16")
    refused = book.project.alembic("upgrade", "head")
    assert refused.code == 255
    assert "16" in refused.last_line
    assert book.rows("status", "id = 16") == [("open",)]


def test_the_row_to_keep_is_still_of_that_side(book: Trader) -> None:
    book.database.execute(new_row(id=71, ticker="GE", quantity=4), new_row(id=72, ticker="GE", quantity=4))
    book.hold([{"account": "large", "symbol": "GE", "quantity": "4", "entry_price": "10"}])
    assert book.run("propose", "--duplicates").code == 0
    book.database.execute("UPDATE active_positions SET side = 'short' WHERE id = 71")
    assert book.project.alembic("upgrade", "head").code == 255
    assert book.rows("status", "id = 72") == [("open",)]


@pytest.mark.parametrize("secret", ['{"api_key": "AK", "secret_key": "HIDDEN"}', "AK:HIDDEN"])
def test_keys_in_the_place_of_their_name_are_not_shown(secret: str) -> None:
    with pytest.raises(SettingError) as refused:
        book_settings(broker_accounts=f"large={secret}")
    assert "HIDDEN" not in str(refused.value)
