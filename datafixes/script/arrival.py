"""Finds plain values of a fix that a column's type may round, cut or strip of their zone."""

import datetime as dt
import decimal
import json
import re
from collections.abc import Iterable, Mapping

from datafixes.script import literal

# Up to here, float4 represents every integer exactly.
_EXACT_IN_EVERY_TYPE = 2**24


def check(relation: str, rows: Iterable[Mapping[str, object]]) -> list[str]:
    """The lines of a block that compare such values with the stored ones; empty if nothing can be lost.

    Args:
        relation: the SQL name of a table with the columns.
        rows: column -> value, for each row.
    """
    given = {(name, _written(value)) for row in rows for name, value in row.items() if _can_be_lost(value)}
    if not given:
        return []
    lines = literal.body(json.dumps([list(line) for line in sorted(given)]), "given")
    return [
        "    -- Values that a column may round or cut: they are stored exactly as written here, or nothing is changed.",
        f"    PERFORM pg_temp.datafix_check_arrival(fix, {literal.text(relation)}, {lines});",
    ]


def _can_be_lost(value: object) -> bool:
    match value:
        case bool():
            return False
        case int():
            return abs(value) > _EXACT_IN_EVERY_TYPE
        case str():
            return value.endswith(" ") or re.search(r"\d[.:]\d", value) is not None
        case _:
            return isinstance(value, float | decimal.Decimal | dt.datetime | dt.time | dt.timedelta)


def _written(value: object) -> str:
    if isinstance(value, dt.timedelta):
        return f"{value.days} days {value.seconds}.{value.microseconds:06d} seconds"
    return str(value)
