"""Reads a table for the author of a fix: its columns, its keys and its rows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.history import ask
from datafixes.declaration.project_fixes import nearest
from datafixes.drafting.python_values import Kind, kind_of
from datafixes.errors import DatafixError, diagnosis_of
from datafixes.script.literal import qualified

# Names of columns that identify a row to people, the best first.
_HUMAN = (
    "symbol", "ticker", "isin", "sku", "number", "code", "username", "login", "slug", "name", "title", "label",
    "reference", "email",
)  # fmt: skip
_NEVER = ("password", "passwd", "token", "secret", "hash", "salt", "key")
_LONGEST_IDENTITY = 100


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its name in the catalog.
        sql: its name in SQL.
        type: its type in SQL, with length or scale.
        base: the base type without domains, length and scale: ``pg_catalog."numeric"``.
        kind: the Python type of its values.
        not_null: whether it is NOT NULL.
        made: whether the database always generates its values.
    """

    name: str
    sql: str
    type: str
    base: str
    kind: Kind
    not_null: bool
    made: bool


@dataclass(frozen=True)
class TableSeen:
    """A table from the catalog.

    Attributes:
        schema: its schema.
        name: its name.
        oid: its OID.
        columns: its columns, in order.
        keys: its unique keys that are never null, the primary key first.
        unique: columns with a unique index of their own.
    """

    schema: str
    name: str
    oid: int
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...]
    unique: frozenset[str]

    @property
    def sql(self) -> str:
        """Its name in SQL."""
        return qualified(self.schema, self.name)

    def column(self, name: str) -> Column:
        """The column with a name.

        Raises:
            DatafixError: there is none; the message names the nearest.
        """
        for column in self.columns:
            if column.name == name:
                return column
        known = [column.name for column in self.columns]
        raise DatafixError(f"{self.schema}.{self.name} has no column {name}.{nearest(name, known)}")


@dataclass(frozen=True)
class RowsSeen:
    """The rows that a condition finds.

    Attributes:
        count: the number of rows.
        keys: their keys as text; empty if there are more than requested.
        identities: the readable name for each key; None is NULL.
        identity: the column of these names, if there is one.
    """

    count: int
    keys: tuple[tuple[str, ...], ...] = ()
    identities: tuple[str | None, ...] = ()
    identity: Column | None = None


_TABLES = """
SELECT n.nspname, c.relname, c.oid::bigint, c.relkind::text
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY n.nspname, c.relname
"""

_COLUMNS = """
WITH RECURSIVE below AS (
    SELECT a.attnum, a.atttypid AS type FROM pg_catalog.pg_attribute AS a
     WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.typbasetype FROM below AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT a.attname, pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod),
       pg_catalog.format('%I.%I', n.nspname, t.typname), t.typname, t.typcategory::text, a.attnotnull,
       a.attgenerated <> '' OR a.attidentity = 'a'
  FROM pg_catalog.pg_attribute AS a JOIN below AS b ON b.attnum = a.attnum
  JOIN pg_catalog.pg_type AS t ON t.oid = b.type AND t.typtype <> 'd'
  JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
 WHERE a.attrelid = {oid} ORDER BY a.attnum
"""

# The same definition of a key as in datafix_unique_keys.
_KEYS = """
SELECT ARRAY(SELECT a.attname::text FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS n
               JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n] ORDER BY n),
       NOT EXISTS (SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS n
                     JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n]
                    WHERE NOT a.attnotnull
                       -- NOT VALID: older nulls may remain
                       OR EXISTS (SELECT FROM pg_catalog.pg_constraint AS c
                                   WHERE c.conrelid = i.indrelid AND c.contype = 'n' AND c.conkey[1] = a.attnum
                                     AND NOT c.convalidated))
  FROM pg_catalog.pg_index AS i
 WHERE i.indrelid = {oid} AND i.indisunique AND NOT i.indisexclusion AND i.indisvalid
   AND i.indpred IS NULL AND i.indexprs IS NULL
 ORDER BY i.indisprimary DESC, i.indexrelid
"""


def see_as_a_run(connection: Connection) -> None:
    """Give a read-only transaction the session's own ``search_path`` and time zone, as in a run."""
    for setting in ("search_path", "timezone"):
        connection.exec_driver_sql(f"SET LOCAL {setting} TO DEFAULT")


def table_seen(connection: Connection, schema: str | None, name: str) -> TableSeen:
    """A table by its name, or by ``schema.name``.

    Args:
        connection: the table's database.
        schema: its schema; if None, the part before the dot, or ``public``.
        name: its name in the catalog.

    Raises:
        DatafixError: there is no such table, or it is a view; the message names the nearest.
    """
    known = ask(connection, _TABLES)
    wanted = [(schema or "public", name)]
    if schema is None and "." in name:
        before, _, after = name.partition(".")
        wanted.append((before, after))
    for found_schema, found_name, oid, kind in known:
        if (found_schema, found_name) in wanted:
            if kind not in ("r", "p"):
                what = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}[kind]
                raise DatafixError(f"{found_schema}.{found_name} is {what}; a fix needs a table.")
            return _described(connection, found_schema, found_name, oid)
    elsewhere = [one[0] for one in known if one[1] == name and one[3] in ("r", "p")]
    if elsewhere:
        raise DatafixError(
            f"Table {wanted[0][0]}.{name} does not exist; there is one in {', '.join(elsewhere)}.",
            hint=f"--schema {elsewhere[0]}",
        )
    near = nearest(name, [one[1] for one in known if one[3] in ("r", "p")])
    raise DatafixError(f"Table {wanted[0][0]}.{name} does not exist.{near}")


def _described(connection: Connection, schema: str, name: str, oid: int) -> TableSeen:
    columns = tuple(
        Column(row[0], row[1], row[2], row[3], kind_of(row[4], row[5]), row[6], row[7])
        for row in ask(connection, _COLUMNS.replace("{oid}", str(oid)))
    )
    indexes = [(tuple(row[0]), row[1]) for row in ask(connection, _KEYS.replace("{oid}", str(oid)))]
    return TableSeen(
        schema,
        name,
        oid,
        columns,
        tuple(dict.fromkeys(index for index, never_null in indexes if never_null)),
        frozenset(index[0] for index, _ in indexes if len(index) == 1),
    )


def key_of(table: TableSeen, wanted: Sequence[str], changed: Collection[str]) -> tuple[str, ...]:
    """The key by which a fix names rows: the given one, or the first that the fix does not change.

    Raises:
        DatafixError: there is none.
    """
    for column in wanted:
        table.column(column)
    usable = [key for key in table.keys if not set(key) & set(changed)]
    found = [key for key in usable if not wanted or set(key) == set(wanted)]
    if found:
        return found[0]
    there = "; ".join(", ".join(key) for key in table.keys) or "none"
    if wanted:
        why = (
            f"{', '.join(wanted)} is not a unique key of {table.schema}.{table.name}, never null and not set"
        )
    else:
        why = f"{table.schema}.{table.name} has no unique key that is never null and not set by the fix"
    raise DatafixError(
        f"{why}. Its keys: {there}.",
        hint="Without a key, record the statements instead: datafixes new MESSAGE --sql FILE",
    )


def identities_of(table: TableSeen, besides: Collection[str]) -> list[Column]:
    """The columns that identify a row to people, the best first.

    Args:
        table: the table.
        besides: excluded columns: the key, columns that the fix sets, masked columns.
    """
    ranked = []
    for column in table.columns:
        words = column.name.lower().split("_")
        if column.name in besides or any(word in _NEVER for word in words):
            continue
        place = next((n for n, word in enumerate(_HUMAN) if words[-1] == word), None)
        unique = column.name in table.unique
        if column.kind == "text" and (unique or place is not None):
            ranked.append((not unique, len(_HUMAN) if place is None else place, column))
    return [column for *_, column in sorted(ranked, key=lambda one: one[:2])]


def rows_seen(
    connection: Connection, table: TableSeen, key: Sequence[str], where: str, identities: Sequence[Column]
) -> RowsSeen:
    """The rows that a condition finds, named if there are few.

    Args:
        connection: in a read-only transaction.
        table: the table.
        key: the columns of the key.
        where: the condition.
        identities: columns that may identify a row to people, the best first.

    Raises:
        DatafixError: the condition is not valid for the table.
    """
    wanted = [table.column(name) for name in key]
    columns = ", ".join(f"CAST(t.{c.sql} AS text)" for c in wanted)
    tried = "".join(f", CAST(t.{c.sql} AS text)" for c in identities)
    order = ", ".join(f"t.{c.sql}" for c in wanted)
    # The condition uses the table's own name, as in the fix.
    found = f"(SELECT * FROM {table.sql} WHERE ({where}\n)) AS t"
    try:
        count = int(ask(connection, f"SELECT count(*) FROM {found}")[0][0])
        if count > MOST_NAMED:
            return RowsSeen(count)
        rows = ask(connection, f"SELECT {columns}{tried} FROM {found} ORDER BY {order}")
    except DBAPIError as error:
        raise _no_condition(where, error) from None
    keys = tuple(tuple(row[: len(wanted)]) for row in rows)
    for nulls in (False, True):
        for place, column in enumerate(identities, len(wanted)):
            values = tuple(row[place] for row in rows)
            if _tells(values, nulls=nulls):
                return RowsSeen(len(rows), keys, values, column)
    return RowsSeen(len(rows), keys)


MOST_NAMED = 50
"""If there are more rows, only their number is written."""


def _tells(values: Sequence[str | None], *, nulls: bool) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and (nulls or len(there) == len(values)) and max(map(len, there)) <= _LONGEST_IDENTITY


def _no_condition(where: str, error: DBAPIError) -> DatafixError:
    said = diagnosis_of(error).message
    return DatafixError(f"The condition {' '.join(where.split())!r} is not valid: {said}")
