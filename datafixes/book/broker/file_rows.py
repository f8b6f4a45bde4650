"""Reads the rows of a file of positions, CSV or JSON, each with its place; values are not checked yet."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from datafixes.book.broker.protocol import NoAnswer
from datafixes.book.positions.symbols import Option, Symbol

_COLUMNS = ("account", "symbol", "quantity")
"""Required columns of a CSV file. Others: entry_price; and for fills filled_at, price, order_id."""
_TURNS = ("side", "direction", "position_side")
"""Columns that would change the sign of a quantity."""
_CLASSES = frozenset({
    "assetclass", "assettype", "assetcategory", "sectype", "securitytype", "instrumenttype", "instrumentclass",
    "producttype", "type", "class", "kind", "category",
})  # fmt: skip
_CURRENCIES = frozenset({"currency", "ccy"})
"""Columns for the kind of instrument, without punctuation. Unknown columns are ignored."""
# The values of Alpaca, Interactive Brokers, Schwab, tastytrade and the book, in their exact spelling.
_STOCKS = frozenset({"us_equity", "stock", "STK", "EQUITY", "Equity", "STOCK"})
_OPTIONS = frozenset({"us_option", "option", "OPT", "OPTION", "Equity Option", "CALL", "PUT"})


def rows_in(text: str, *, is_json: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row with its place.

    Raises:
        NoAnswer: the file is not a file of positions, or is truncated.
    """
    return _json_rows(text) if is_json else _csv_rows(text)


def foreign_in(row: Mapping[str, str], symbol: Symbol | None) -> str:
    """Why the columns of a row contradict its symbol; empty if they do not.

    Args:
        row: the row.
        symbol: its parsed symbol, or None.
    """
    for name, value in row.items():
        known = _OPTIONS if isinstance(symbol, Option) else _STOCKS
        if _plain(name) in _CLASSES and value not in _STOCKS | _OPTIONS:
            return f"which is {value[:20] or 'nothing'} ({name}): neither a stock nor an option"
        if _plain(name) in _CLASSES and symbol is not None and value not in known:
            return f"which is {value!r} ({name})"
        if _plain(name) in _CURRENCIES and value != "USD":
            return f"in {value[:20] or 'no currency'} ({name}), but the book is in USD"
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _csv_rows(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    if text and not text.endswith(("\n", "\r")):
        raise NoAnswer("ends in the middle of a line")  # a truncated number would be another number
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            plain = [cell.strip() for cell in cells]
            if not any(plain):
                continue
            place = f"line {reader.line_num}"
            if not columns:
                columns = _header(plain)
            elif len(plain) > len(columns) or (len(plain) < len(columns) and not _is_empty(columns, plain)):
                raise NoAnswer(f"{place}: {len(plain)} values for {len(columns)} columns")
            else:
                yield place, dict(zip_longest(columns, plain, fillvalue=""))
    except csv.Error as error:
        raise NoAnswer(f"line {reader.line_num}: {error}") from None
    if not columns:
        raise NoAnswer("line 1: is empty; the first line names the columns")


def _is_empty(columns: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether a short row marks an account as empty; a longer one may be truncated."""
    return [column for column, cell in zip(columns, cells, strict=False) if cell] == ["account"]


def _header(cells: Sequence[str]) -> list[str]:
    columns = [cell.lower() for cell in cells]
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise NoAnswer(f"line 1: no column {' and no column '.join(missing)}")
    if turned := [name for name in columns if name in _TURNS]:
        raise NoAnswer(f"line 1: {_no_side(turned[0])}")
    twice = {name for name in columns if name and columns.count(name) > 1}
    if twice:
        raise NoAnswer(f"line 1: the column {min(twice)} occurs twice")
    return columns


def _no_side(name: str) -> str:
    return f"the column {name!r} is not supported: a short position has a negative quantity"


def _json_rows(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        # As text: a float would not be exact.
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise NoAnswer(f"line {error.lineno}: is not JSON: {error.msg}") from None
    except RecursionError:
        raise NoAnswer("line 1: is nested too deeply") from None
    if not isinstance(value, dict) or not set(value) <= {"positions", "fills", "empty"}:
        raise NoAnswer('line 1: is not {"positions": [...], "fills": [...], "empty": [...]}')
    rows: list[tuple[str, dict[str, str]]] = []
    for name, parts in value.items():
        if not isinstance(parts, list):
            raise NoAnswer(f"{name}: is not a list")
        for index, part in enumerate(parts):
            place = f"{name}[{index}]"
            rows.append((place, _json_row(name, {"account": part} if name == "empty" else part, place)))
    # A row without a column of other rows has an empty value there.
    said = dict.fromkeys(
        (name for _, row in rows for name in row if _plain(name) in _CLASSES | _CURRENCIES), ""
    )
    yield from ((place, {**said, **row}) for place, row in rows)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a repeated name is an error, because it is ambiguous."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise NoAnswer(
            f"line 1: the name {next(name for name in names if names.count(name) > 1)!r} occurs twice"
        )
    return found


def _json_row(name: str, part: Any, place: str) -> dict[str, str]:
    if not isinstance(part, dict) or not all(isinstance(value, str | None) for value in part.values()):
        raise NoAnswer(f"{place}: is not an object with plain values")
    if turned := [key for key in part if key.lower() in _TURNS]:
        raise NoAnswer(f"{place}: {_no_side(turned[0])}")
    row = {key: (value or "").strip() for key, value in part.items()}
    if name != "empty" and not row.get("symbol"):
        raise NoAnswer(f"{place}: no symbol")
    if (name == "fills") is not bool(row.get("filled_at")):
        raise NoAnswer(f"{place}: {'no filled_at' if name == 'fills' else 'a position has no filled_at'}")
    return row
