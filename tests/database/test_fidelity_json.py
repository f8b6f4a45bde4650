"""What a round trip through to_json or jsonb loses of json documents, and of rows that hold some (A3, A4)."""

from dataclasses import dataclass

import pytest

from datafixes import DataFix, Rows, Update, sql
from datafixes.errors import Conflicts
from tests.fixes import apply, create_audit_table, revert
from tests.one_row import is_back
from tests.servers import Database

# Each is another document, or none, after a round trip; the first ones are errors in it.
DOCUMENTS = {
    "lone_surrogate": '"\\ud83d"',
    "nul": '"a\\u0000b"',
    "white_space": '  {"a" : 1 }\n\t',
    "null": "null",
    "surrogate_pair": '"\\ud83d\\ude00"',
    "escaped_slash": '"\\/"',
    "order": '{"b":1,"a":2,"b":3}',
    "exponent": '{"a":1.50,"b":1e2}',
    "text_that_looks_like_an_object": '"{\\"a\\": 1}"',
    "text_that_looks_like_null": '"null"',
}
# Both read it: what jsonb refuses or writes anew is left to the type that keeps the text.
BINARY = {"null": "null", "text_that_looks_like_an_object": '"{\\"a\\": 1}"', "digits": '{"a":1.50}'}


@dataclass(frozen=True)
class Column:
    """A column of one row: its type, and the SQL of what stands in it and of what the fix sets."""

    type_: str
    was: str
    becomes: str


COLUMNS = {
    **{f"json_{name}": Column("json", f"'{text}'", "'[]'") for name, text in DOCUMENTS.items()},
    **{f"jsonb_{name}": Column("jsonb", f"'{text}'", "'[]'") for name, text in BINARY.items()},
    "json_nothing": Column("json", "NULL", "'null'"),
    "jsonb_nothing": Column("jsonb", "NULL", "'null'"),
    "many": Column("json[]", "ARRAY[' null'::json, NULL, '\"\\/\"']", "'{}'"),
    "domain": Column("document", "'\"{}\"'", "'{}'"),
    "inside_a_row": Column("note", "ROW('x', '\"null\"', ' \"\\/\"')", "ROW('y', 'null', NULL)"),
}
TYPES = (
    "CREATE DOMAIN document AS jsonb CHECK (VALUE IS NOT NULL)",
    "CREATE TYPE note AS (name text, body jsonb, source json)",
)


@pytest.fixture
def documents(database: Database) -> DataFix:
    """One row with all of them, and a fix that sets each to something else."""
    database.execute(
        *TYPES,
        f"CREATE TABLE things (id integer PRIMARY KEY, {', '.join(f'{n} {c.type_}' for n, c in COLUMNS.items())})",
        f"INSERT INTO things VALUES (1, {', '.join(column.was for column in COLUMNS.values())})",
        "CREATE TABLE was AS TABLE things",
    )
    create_audit_table(database, "things", "things_audit")
    return DataFix(
        name="documents",
        reason="A test.",
        change=Update("things", set={n: sql(f"{c.becomes}::{c.type_}") for n, c in COLUMNS.items()}),
        rows=Rows(key="id", expect=[1]),
        audit="things_audit",
    )


def changed(database: Database) -> list[str]:
    """The columns that are not, bit for bit, what they were."""
    [found] = database.rows(
        "SELECT " + ", ".join(f"record_image_ne(ROW(t.{n}), ROW(w.{n}))" for n in COLUMNS) + " FROM things AS t, was AS w"
    )  # fmt: skip
    return [name for name, differs in zip(COLUMNS, found, strict=True) if differs]


def test_a3_a4_documents_come_back_as_they_were_written(database: Database, documents: DataFix) -> None:
    apply(database, documents)
    assert changed(database) == list(COLUMNS)
    revert(database, documents)
    assert is_back(database)
    # Back and forth again: the images of a revert are true as well.
    apply(database, documents)
    revert(database, documents)
    assert is_back(database)


def test_a3_the_copy_shows_the_document_as_it_was_written(database: Database, documents: DataFix) -> None:
    apply(database, documents)
    [kept] = database.rows(
        f"SELECT {', '.join(f'json_{name}::text' for name in DOCUMENTS)} FROM things_audit WHERE audit_image = 'before'"
    )
    assert dict(zip(DOCUMENTS, kept, strict=True)) == DOCUMENTS


@pytest.mark.parametrize("column", ["json_nothing", "jsonb_nothing"])
def test_a3_nothing_is_given_back_as_nothing_where_somebody_did_that_already(
    column: str, database: Database, documents: DataFix
) -> None:
    # The fix left the document null there, which is another thing.
    apply(database, documents)
    database.execute(f"UPDATE things SET {column} = NULL")
    revert(database, documents)
    assert is_back(database)


@pytest.mark.parametrize(
    ("column", "now"),
    [
        ("json_order", "'[ ]'"),
        ("json_nothing", "' null'"),
        ("jsonb_null", "NULL"),
        ("inside_a_row", "ROW('y', 'null', 'null')::note"),
    ],
)
def test_a3_a4_a_document_that_differs_only_in_writing_or_in_null_is_a_change(
    column: str, now: str, database: Database, documents: DataFix
) -> None:
    apply(database, documents)
    database.execute(f"UPDATE things SET {column} = {now}")
    with pytest.raises(Conflicts, match="1 changed since") as refused:
        revert(database, documents)
    assert [line.split()[3] for line in refused.value.detail.splitlines() if "changed since" in line] == [
        column
    ]
    assert column in changed(database)
