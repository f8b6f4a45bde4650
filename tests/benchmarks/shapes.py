"""The tables that the benchmarks change, and the change itself."""

from dataclasses import dataclass

Change = dict[str, str | int | dict[str, str]]
"""The columns that a change sets, with plain values or SQL: JSON, so that it can be given to another process."""

_INCIDENT = """
CREATE TABLE {name} (
    id bigint PRIMARY KEY, ticker text, kind text, strategy text, quantity numeric(12,4), entry_price numeric(12,4),
    exit_price numeric(12,4), entered_at timestamp, checked_at timestamp, created_at timestamptz, checks integer,
    priority integer, accepted boolean, features jsonb, status varchar(20), close_reason varchar(50), expires_on date,
    score float8, order_id uuid, note text);
INSERT INTO {name}
SELECT g, 'T' || g % 100, 'STOCK', 'swing_trade', g * 1.1, g * 1.2, NULL,
       timestamp '2026-02-03 16:00' + g * interval '1 s', timestamp '2026-02-03 17:00',
       timestamptz '2026-02-03 16:00+00', g % 1000, g % 10, true, '{{"a": 1, "b": "xyz"}}', 'open', NULL,
       date '2026-02-20', g * 0.1, md5(g::text)::uuid, 'note ' || g
  FROM generate_series(1, {rows}) AS g;
"""
_SET: Change = {
    "status": "closed",
    "close_reason": "manual",
    "exit_price": {"sql": "entry_price"},
    "checked_at": {"sql": "now() AT TIME ZONE 'UTC'"},
    "score": 0,
}
_WIDE = """
CREATE TABLE {name} (
    id bigint PRIMARY KEY, status varchar(20), amount numeric(12,4), noted_at timestamptz,
    document text);
ALTER TABLE {name} ALTER COLUMN document SET STORAGE EXTERNAL;
INSERT INTO {name}
SELECT g, 'open', g * 1.1, timestamptz '2026-02-03 16:00+00', (
       SELECT string_agg(md5((g * 128 + n)::text), '') FROM generate_series(1, 128) AS n)
  FROM generate_series(1, {rows}) AS g;
"""
_TEXTS = """
CREATE TABLE {name} (
    id bigint PRIMARY KEY, status text, a jsonb, b jsonb, c jsonb, d jsonb, e text, f text, g text, h text, i text);
INSERT INTO {name}
SELECT g, 'open', j, j, j, j, t, t, t, t, t
  FROM generate_series(1, {rows}) AS g
 CROSS JOIN LATERAL (SELECT jsonb_build_object('number', g, 'words', md5(g::text), 'list', ARRAY[g, g + 1]),
                            md5(g::text) || ' ' || md5((g + 1)::text)) AS _ (j, t);
"""


def assignments(change: Change) -> str:
    """The SET list of an UPDATE."""
    return ", ".join(
        f"{name} = {value['sql'] if isinstance(value, dict) else repr(value)}"
        for name, value in change.items()
    )


@dataclass(frozen=True)
class Shape:
    """A kind of table.

    Attributes:
        name: what it is called in the results.
        table: the statements that create and fill a table.
        indexes: the columns with an index of their own, beside the primary key.
        set: what the change sets.
        share: the part of the asked number of rows that such a table gets: wide rows are fewer.
    """

    name: str
    table: str
    indexes: tuple[str, ...]
    set: Change
    share: float = 1.0

    @property
    def assignments(self) -> str:
        """The SET list of an UPDATE."""
        return assignments(self.set)

    def rows(self, asked: int) -> int:
        """The rows of a table, if so many are asked for."""
        return int(asked * self.share)


SHAPES = {
    "pk": Shape("PK alone", _INCIDENT, (), _SET),
    "indexes": Shape("4 indexes", _INCIDENT, ("status", "ticker", "checks", "entered_at"), _SET),
    "toast": Shape(
        "wide row with TOAST", _WIDE, ("status",), {"status": "closed", "amount": {"sql": "amount + 1"}}, 0.05
    ),
    "texts": Shape(
        "10 columns of jsonb/text", _TEXTS, ("status",), {"status": "closed", "e": {"sql": "f"}}, 0.5
    ),
}
