"""A shop in which customers were made twice: four tables that refer to each other, and fixes that are recorded."""

from collections.abc import Sequence
from typing import Any

from datafixes import RecordedFix, Table
from tests import fixes
from tests.servers import Database

TABLES = """
CREATE TABLE customer (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, email text UNIQUE,
                       updated_at timestamptz NOT NULL DEFAULT '2026-01-01 00:00+00', referrer integer REFERENCES customer);
CREATE TABLE invoice (id integer PRIMARY KEY, customer integer NOT NULL REFERENCES customer, total numeric(12,2),
                      gross numeric GENERATED ALWAYS AS (total * 1.19) STORED);
CREATE TABLE line (invoice integer REFERENCES invoice ON DELETE CASCADE, place integer, item text, PRIMARY KEY (invoice, place));
CREATE TABLE note (customer integer REFERENCES customer ON DELETE SET NULL, words text);
CREATE TABLE log (at timestamptz DEFAULT now(), words text);
INSERT INTO customer (name, email, referrer) VALUES
    ('ACME', 'a@example.org', NULL), ('Acme Inc', 'acme@example.org', 1), ('Bolt', 'b@example.org', 1), ('Coil', NULL, 3);
INSERT INTO invoice VALUES (10, 1, 100), (11, 2, 20.50), (12, 2, 7), (13, 3, 1);
INSERT INTO line SELECT invoice, place, 'item ' || place FROM generate_series(10, 13) AS invoice, generate_series(1, 3) AS place;
INSERT INTO note VALUES (2, 'calls often'), (2, 'calls often'), (3, 'pays late'), (NULL, 'nobody');
"""
NAMES = ("customer", "invoice", "line", "note")


def lay(database: Database, *more: str) -> dict[str, list[str]]:
    """Make the shop and its audit tables; `more` is run in between. Returns the contents."""
    database.execute(TABLES, *more)
    for name in NAMES:
        fixes.create_audit_table(database, name, f"{name}_audit")
    return contents(database)


def contents(database: Database) -> dict[str, list[str]]:
    """What is in the shop."""
    return {
        name: rows
        for name, rows in database.dump().items()
        if name.removeprefix("public.") in (*NAMES, "log")
    }


def table(name: str, **expected: Any) -> Table:
    """One of the shop's tables."""
    return Table(name, f"{name}_audit", **expected)


def fix(*tables: Table, name: str = "repair", **more: Any) -> RecordedFix:
    """A recorded fix of these tables."""
    return RecordedFix(name=name, reason="Made twice by the import.", tables=tables, **more)


MERGE: Sequence[str] = (
    "CREATE TEMP TABLE twin ON COMMIT DROP AS SELECT 2 AS lost, 1 AS kept",
    "UPDATE invoice SET customer = kept FROM twin WHERE customer = lost",
    "UPDATE note SET customer = kept FROM twin WHERE customer = lost",
    "DELETE FROM customer USING twin WHERE id = lost",
)
"""Customer 2 becomes customer 1."""


def merged(**more: Any) -> RecordedFix:
    """The fix that these statements are."""
    return fix(
        table("customer", key="id", deleted={2: "Acme Inc"}, identity={"name": "name"}),
        table("invoice", updated=2),
        table("note", deleted=2, inserted=2),
        **more,
    )
