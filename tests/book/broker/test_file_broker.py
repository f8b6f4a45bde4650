"""The second broker: a file of positions."""

import datetime as dt
import os
import time
from decimal import Decimal
from pathlib import Path

import pytest

from datafixes.book.broker.credentials import NoKeys, read_keys
from datafixes.book.compare.reconciling import open_broker
from datafixes.book.positions.position import Answer, BrokerPosition, Fill, Known, Unknown
from datafixes.book.positions.symbols import parse_symbol
from tests.book.settings import book_settings

SPY, PUT = parse_symbol("SPY"), parse_symbol("CRM260227P00200000")
SINCE = dt.datetime(2026, 2, 13, 15, tzinfo=dt.UTC)

CSV = """\
account,symbol,quantity,entry_price,filled_at,price,order_id,note
large,SPY,12.5,690.1234,,,,
large, crm260227p00200000 ,-2,,,,,a short one

tiny,,,,,,,
large,QCOM,-7,,2026-02-13T15:04:05Z,148.25,order-1,
large,QCOM,-7,,2026-02-12T15:04:05,148,order-0,
"""

JSON = """\
{
  "positions": [
    {"account": "large", "symbol": "SPY", "quantity": 12.5, "entry_price": "690.1234"},
    {"account": "large", "symbol": "CRM   260227P00200000", "quantity": -2, "entry_price": null}
  ],
  "fills": [
    {"account": "large", "symbol": "QCOM", "quantity": -7, "filled_at": "2026-02-13T15:04:05Z", "price": 148.25,
     "order_id": "order-1"},
    {"account": "large", "symbol": "QCOM", "quantity": -7, "filled_at": "2026-02-12T15:04:05", "price": 148,
     "order_id": "order-0"}
  ],
  "empty": ["tiny"]
}
"""


def ask(path: Path, content: str | bytes, account: str = "large") -> Answer:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_broker(book_settings(broker=f"file:{path}")).positions(account, since=SINCE)


def why(path: Path, content: str | bytes, account: str = "large") -> str:
    answer = ask(path, content, account)
    assert isinstance(answer, Unknown), answer
    assert "\n" not in answer.why
    assert answer.why.startswith(f"{path} ")
    return answer.why.removeprefix(f"{path} ")


@pytest.mark.parametrize(
    ("name", "content"), [("held.csv", CSV), ("held.json", JSON), ("bom.csv", "\ufeff" + CSV)]
)
def test_positions_and_fills(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    answer = ask(path, content)
    os.utime(path, (1_770_000_000, 1_770_000_000))
    broker = open_broker(book_settings(broker=f"file:{path}", broker_file_age="0"))
    answer = broker.positions("large", since=SINCE)
    qcom = parse_symbol("QCOM")
    assert answer == Known(
        [
            BrokerPosition(SPY, Decimal("12.5"), Decimal("690.1234")),
            BrokerPosition(PUT, Decimal(-2)),
        ],
        closed_lately=frozenset([qcom]),
        read_at=dt.datetime.fromtimestamp(1_770_000_000, dt.UTC),
        source=f"file {path}",
    )
    one, two = (
        Fill(qcom, Decimal(-7), Decimal(148), dt.datetime(2026, 2, 12, 15, 4, 5, tzinfo=dt.UTC), "order-0"),
        Fill(
            qcom, Decimal(-7), Decimal("148.25"), dt.datetime(2026, 2, 13, 15, 4, 5, tzinfo=dt.UTC), "order-1"
        ),
    )
    assert broker.fills("large", [qcom], after=SINCE - dt.timedelta(days=9)) == [one, two]
    assert broker.fills("large", [qcom], after=SINCE) == [two]
    assert broker.fills("large", [SPY], after=SINCE) == broker.fills("tiny", [qcom], after=SINCE) == []


@pytest.mark.parametrize(("name", "content"), [("held.csv", CSV), ("held.json", JSON)])
def test_only_an_account_that_is_said_to_hold_nothing_holds_nothing(
    tmp_path: Path, name: str, content: str
) -> None:
    answer = ask(tmp_path / name, content, "tiny")
    assert isinstance(answer, Known)
    assert answer.positions == []
    assert "does not list this account" in why(tmp_path / name, content, "huge")


def test_fills_alone_do_not_say_that_nothing_is_held(tmp_path: Path) -> None:
    content = "account,symbol,quantity,filled_at,price,order_id\nlarge,SPY,1,2026-02-13T15:04:05Z,1,a\n"
    assert "does not list this account" in why(tmp_path / "fills.csv", content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1: is empty; the first line names the columns"),
        ("large,SPY,5\n", "line 1: no column account and no column symbol and no column quantity"),
        ("account,symbol,qty\n", "line 1: no column quantity"),
        ("account,symbol,quantity,symbol\n", "line 1: the column symbol occurs twice"),
        ("account,symbol,quantity\nlarge,SPY\n", "line 2: 2 values for 3 columns"),
        ("account,symbol,quantity\nlarge,SPY,5\nlarge,QQQ,1,5\n", "line 3: 4 values for 3 columns"),
        ("account,symbol,quantity\n,SPY,5\n", "line 2: no account"),
        ("account,symbol,quantity\nlarge,SPY,\n", "line 2: quantity is '': not a number"),
        ("account,symbol,quantity\nlarge,SPY,five\n", "line 2: quantity is 'five': not a number"),
        ("account,symbol,quantity\nlarge,SPY,NaN\n", "line 2: quantity is 'NaN': not a number"),
        ("account,symbol,quantity\nlarge,SPY,1_0\n", "line 2: quantity is '1_0': not a number"),
        ("account,symbol,quantity\nlarge,,5\n", "line 2: '' is neither a ticker nor"),
        ("account,symbol,quantity\nlarge,S P Y,many\n", "line 2: 'S P Y' is neither a ticker nor"),
        ("account,symbol,quantity\nlarge,S P Y,5\n", "line 2: holds S P Y: 'S P Y' is neither a ticker nor"),
        ('account,symbol,quantity\nlarge,"SPY\n', "line 2: unexpected end of data"),
        (
            "account,symbol,quantity\nlarge,SPY,5\n\nlarge,spy,5\n",
            "line 4: SPY of large is already on line 2",
        ),
        (
            "account,symbol,quantity,filled_at\nlarge,SPY,5,yesterday\n",
            "line 2: price is None: not a number",
        ),
        (
            "account,symbol,quantity,filled_at,price\nlarge,SPY,5,yesterday,1\n",
            "line 2: filled_at is 'yesterday': not a date and time",
        ),
        (
            "account,symbol,quantity,filled_at,price\nlarge,SPY,5,2026-02-13,1\n",
            "line 2: a fill needs its order_id",
        ),
        (b"account,symbol,quantity\nlarge,SPY\xff,5\n", "is not UTF-8 (byte 33)"),
    ],
)
def test_a_bad_line_is_named_and_nothing_follows_from_the_rest(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    assert words in why(tmp_path / "held.csv", content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1: is not JSON"),
        ('{\n"positions": [\n{]}', "line 3: is not JSON"),
        ("[]", 'line 1: is not {"positions": [...]'),
        ('{"position": []}', 'line 1: is not {"positions": [...]'),
        ('{"positions": {}}', "positions: is not a list"),
        ('{"positions": [5]}', "positions[0]: is not an object with plain values"),
        (
            '{"positions": [{"account": "large", "symbol": ["SPY"]}]}',
            "positions[0]: is not an object with plain",
        ),
        ('{"positions": [{"account": "large"}]}', "positions[0]: no symbol"),
        ('{"positions": [{"symbol": "SPY", "quantity": 5}]}', "positions[0]: no account"),
        ('{"positions": [{"account": "large", "symbol": "SPY", "quantity": NaN}]}', "quantity is 'NaN': not"),
        ('{"fills": [{"account": "large", "symbol": "SPY", "quantity": 5}]}', "fills[0]: no filled_at"),
        ('{"empty": [""]}', "empty[0]: no account"),
        ("[" * 100_000, "line 1: is n"),
    ],
)
def test_bad_json(tmp_path: Path, content: str, words: str) -> None:
    assert words in why(tmp_path / "held.json", content)


def test_no_file(tmp_path: Path) -> None:
    broker = open_broker(book_settings(broker=f"file:{tmp_path / 'none.csv'}"))
    assert broker.positions("large", since=SINCE) == Unknown(
        f"{tmp_path / 'none.csv'} cannot be read: No such file or directory"
    )
    assert broker.fills("large", [SPY], after=SINCE) == broker.positions("large", since=SINCE)


def test_accounts_need_no_secrets_where_a_file_is_the_broker() -> None:
    settings = book_settings(broker="file:x.csv", broker_accounts="main,second")
    assert dict(settings.broker_accounts) == {"main": "", "second": ""}
    with pytest.raises(NoKeys) as caught:
        read_keys(settings.engine, "")
    assert caught.value.message == "broker_accounts names no secret for it"


@pytest.mark.parametrize(
    ("limit", "minutes", "told"),
    [
        ("1d", 60 * 24 - 1, None),
        ("1d", 60 * 24 * 3 + 5, "was written 3 days ago, which is too old (broker_file_age)"),
        ("1d", 60 * 26, "was written 26 hours ago, which is too old (broker_file_age)"),
        ("10min", 12, "was written 12 minutes ago, which is too old (broker_file_age)"),
        ("0", 60 * 24 * 365, None),
        ("1d", -4, None),
        ("1d", -60, "was written in the future, 59 minutes from now"),
    ],
)
def test_an_old_file_says_nothing_about_now(
    tmp_path: Path, limit: str, minutes: int, told: str | None
) -> None:
    path = tmp_path / "held.csv"
    path.write_text(CSV, "utf-8")
    written = time.time() - minutes * 60
    os.utime(path, (written, written))
    broker = open_broker(book_settings(broker=f"file:{path}", broker_file_age=limit))
    answer = broker.positions("large", since=SINCE)
    assert getattr(answer, "why", None) == (told and f"{path} {told}")
