"""The contents of a database, exactly, as text; and the differences of two databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

from datafixes.audit.history import IS_AUDIT_TABLE
from datafixes.audit.images import PINNED
from datafixes.audit.wording import counted
from datafixes.script.literal import name as quoted
from datafixes.script.literal import text
from datafixes.script.parameters import verbatim
from datafixes.script.tables import RECORDS
from datafixes.testing.databases import Database

Line = tuple[str | None, ...]
"""A row, each value as text."""

_SHOWN_ROWS, _SHOWN_VALUE = 5, 60

_OWN = f"(c.relname IN ({', '.join(map(text, RECORDS))}) OR {IS_AUDIT_TABLE})"
_TABLES = f"""
SELECT n.nspname || '.' || c.relname,
       CASE c.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END || pg_catalog.format('%I.%I', n.nspname, c.relname),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND NOT {_OWN}
 ORDER BY 1
"""
# Those of audit tables and ledgers are excluded: their numbers are never reused.
_SEQUENCES = f"""
SELECT pg_catalog.format('%I.%I', n.nspname, s.relname)
  FROM pg_catalog.pg_class AS s JOIN pg_catalog.pg_namespace AS n ON n.oid = s.relnamespace
 WHERE s.relkind = 'S' AND s.relpersistence <> 't'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_class AS c ON c.oid = d.refobjid
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = s.oid
                      AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i') AND {_OWN})
 ORDER BY 1
"""


@dataclass(frozen=True)
class TableContents:
    """The rows of a table, unordered, with their counts."""

    columns: tuple[str, ...]
    rows: Counter[Line]


Contents = Mapping[str, TableContents]
"""Every table with rows, by name with schema, except audit tables and ledgers."""


@dataclass(frozen=True)
class Varying:
    """Values that differ between two equal runs, such as those of ``now()``.

    Attributes:
        columns: by table, the columns.
        rows: by table, the rows concerned, from the first of the two runs.
    """

    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rows: Mapping[str, Counter[Line]] = field(default_factory=dict)

    def words(self) -> str:
        """``public.orders.closed_at (7 rows)``."""
        return ", ".join(
            f"{table}.{column} ({counted(sum(self.rows[table].values()), 'row')})"
            for table, columns in sorted(self.columns.items())
            for column in sorted(columns)
        )


def contents_of(database: Database) -> Contents:
    """Read every table."""
    with database.connect() as connection:
        for setting in (*PINNED, "SET LOCAL lc_monetary = 'C'"):
            connection.exec_driver_sql(setting)
        found = {}
        for table, source, columns in _all(connection, _TABLES):
            values = ", ".join(f"t.{quoted(column)}::text" for column in columns)
            rows = Counter(_all(connection, f"SELECT {values} FROM {source} AS t")) if columns else None
            # A table without rows is treated as missing, because only contents are compared.
            if rows:
                found[table] = TableContents(tuple(columns), rows)
    return found


def _all(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(verbatim(connection, query)).all()]


def sequences_of(database: Database) -> dict[str, tuple[int, bool]]:
    """The state of each sequence."""
    with database.connect() as connection:
        names = [name for (name,) in _all(connection, _SEQUENCES)]
        stand: dict[str, tuple[int, bool]] = {}
        for name in names:
            [(value, called)] = _all(connection, f"SELECT last_value, is_called FROM {name}")
            stand[name] = (value, called)
        return stand


def set_sequences(database: Database, sequences: Mapping[str, tuple[int, bool]]) -> None:
    """Reset sequences, so that a second run gets the same numbers as the first."""
    there = sequences_of(database)
    with database.connect() as connection:
        for name in sequences.keys() & there.keys():
            value, called = sequences[name]
            statement = f"SELECT pg_catalog.setval({text(name)}, {value}, {called})"
            connection.exec_driver_sql(verbatim(connection, statement))


def varying(one: Contents, other: Contents) -> Varying:
    """The differences between two runs from the same start."""
    columns: dict[str, frozenset[str]] = {}
    rows: dict[str, Counter[Line]] = {}
    for table in one.keys() & other.keys():
        here, there = one[table], other[table]
        if here.columns != there.columns:
            continue
        mine, theirs = here.rows - there.rows, there.rows - here.rows
        names = frozenset(
            name for place, name in enumerate(here.columns) if _values(mine, place) != _values(theirs, place)
        )
        if names:
            columns[table], rows[table] = names, mine
    return Varying(columns, rows)


def _values(rows: Counter[Line], place: int) -> Counter[str | None]:
    values: Counter[str | None] = Counter()
    for row, count in rows.items():
        values[row[place]] += count
    return values


def differences(one: Contents, other: Contents, varies: Varying | None = None) -> list[str]:
    """The differences of two databases, as lines for people; empty if they are equal.

    Args:
        one: the expected contents.
        other: the actual contents.
        varies: columns that may differ, in certain rows.
    """
    varies = varies or Varying()
    lines: list[str] = []
    for table in sorted(one.keys() | other.keys()):
        here, there = one.get(table), other.get(table)
        if here is None or there is None or here.columns != there.columns:
            lines.append(f"{table}: {_shape(here)} expected, {_shape(there)} found")
            continue
        mine, theirs = here.rows - there.rows, there.rows - here.rows
        _forgive(mine, theirs, here.columns, varies, table)
        if mine or theirs:
            lines.append(f"{table}: {_counts(mine, theirs)}")
            lines += [f"    {line}" for line in _lines(here.columns, mine, theirs)]
    return lines


def _shape(table: TableContents | None) -> str:
    if table is None:
        return "no rows"
    return f"{counted(sum(table.rows.values()), 'row')} with the columns {', '.join(table.columns)}"


def _counts(mine: Counter[Line], theirs: Counter[Line]) -> str:
    missing, more = sum(mine.values()), sum(theirs.values())
    if missing == more:
        return f"{counted(missing, 'row')} {'differs' if missing == 1 else 'differ'}"
    return f"{counted(missing, 'row')} missing or different, {more} found instead"


def _forgive(mine: Counter[Line], theirs: Counter[Line], columns: Line, varies: Varying, table: str) -> None:
    """Remove pairs of rows that differ only in columns that vary."""
    hidden = varies.columns.get(table, frozenset())
    kept = [place for place, name in enumerate(columns) if name not in hidden]
    allowed = Counter(varies.rows.get(table, Counter()))
    for row in list((mine & allowed).elements()):
        seen = [row[place] for place in kept]
        twin = next((other for other in theirs if [other[place] for place in kept] == seen), None)
        if twin is not None:
            for rows, gone in ((mine, row), (theirs, twin)):
                rows[gone] -= 1
                if not rows[gone]:
                    del rows[gone]


def _lines(columns: tuple[str, ...], mine: Counter[Line], theirs: Counter[Line]) -> Iterator[str]:
    """Rows paired by their first column, which usually is the key; unpaired rows are shown whole."""
    expected, found = list(mine.elements()), list(theirs.elements())
    by_key = {row[0]: row for row in found}
    keys = [row[0] for row in expected]
    shown = 0
    for row in sorted(expected, key=str):
        twin = by_key.get(row[0]) if keys.count(row[0]) == 1 else None
        if twin is not None:
            found.remove(twin)
        shown += 1
        if shown <= _SHOWN_ROWS:
            yield _pair(columns, row, twin) if twin else f"missing: {_whole(columns, row)}"
    for row in sorted(found, key=str):
        shown += 1
        if shown <= _SHOWN_ROWS:
            yield f"unexpected: {_whole(columns, row)}"
    if shown > _SHOWN_ROWS:
        yield f"... and {shown - _SHOWN_ROWS} more"


def _pair(columns: tuple[str, ...], row: Line, twin: Line) -> str:
    differs = (
        f"{name} {short(one)} expected, {short(other)} found"
        for name, one, other in zip(columns, row, twin, strict=True)
        if one != other
    )
    return f"{columns[0]} {short(row[0])}: {'; '.join(differs)}"


def _whole(columns: tuple[str, ...], row: Line) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in zip(columns, row, strict=True))


def short(value: str | None) -> str:
    """A value on one line."""
    if value is None:
        return "NULL"
    plain = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in value[: _SHOWN_VALUE + 1]
    )
    return f"{plain[:_SHOWN_VALUE]}…" if len(plain) > _SHOWN_VALUE else plain or "''"  # fmt: skip
