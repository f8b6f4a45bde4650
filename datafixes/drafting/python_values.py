"""Converts values of columns from PostgreSQL's text form to Python."""

import datetime as dt
import decimal
import math
from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["bool", "int", "numeric", "float", "date", "timestamp", "timestamptz", "time", "text", "other"]
"""The Python type of a column's values; ``other`` is text that is not readable."""

_KINDS: dict[str, Kind] = {
    "bool": "bool", "int2": "int", "int4": "int", "int8": "int", "numeric": "numeric", "float4": "float",
    "float8": "float", "date": "date", "timestamp": "timestamp", "timestamptz": "timestamptz", "time": "time",
}  # fmt: skip


def kind_of(type_: str, category: str) -> Kind:
    """The Python type of a type's values.

    Args:
        type_: its name in the catalog, without domains: ``int4``.
        category: its category there: ``S`` for strings, ``E`` for enumerations.
    """
    return _KINDS.get(type_) or ("text" if category in ("S", "E") else "other")


def value_of(kind: Kind, text: str | None) -> Any:
    """An exact value; text if Python has no such value, for example ``infinity``.

    Args:
        kind: the Python type of the column's values.
        text: PostgreSQL's text form with datestyle ISO and in UTC; None is NULL.
    """
    if text is None:
        return None
    try:
        value = _READ.get(kind, str)(text)
    except (ValueError, decimal.InvalidOperation):
        return text
    if isinstance(value, float | decimal.Decimal) and not math.isfinite(value):
        return text
    return value


def _number(text: str) -> int | decimal.Decimal:
    return int(text) if text.removeprefix("-").isdecimal() else decimal.Decimal(text)


_READ: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text in ("t", "true"),
    "int": int,
    "numeric": _number,
    "float": float,
    "date": dt.date.fromisoformat,
    "timestamp": dt.datetime.fromisoformat,
    "timestamptz": dt.datetime.fromisoformat,
    "time": dt.time.fromisoformat,
}
