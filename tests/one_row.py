"""One table with one row that a fix changes: the least that shows what a copy keeps."""

from datafixes import DataFix, Rows, Update, sql
from datafixes.declaration.expressions import Value
from tests.fixes import create_audit_table
from tests.servers import Database


def fix_of(value: Value | sql, column: str = "v") -> DataFix:
    """Sets one column of row 1."""
    return DataFix(
        name="one_column",
        reason="A test.",
        change=Update("things", set={column: value}),
        rows=Rows(key="id", expect=[1]),
        audit="things_audit",
    )


def one_row(database: Database, type_: str, was: str, *before: str) -> None:
    """Row 1 of `things`, and of `was` as proof, with a column `v` of a type."""
    database.execute(
        *before,
        f"CREATE TABLE things (id integer PRIMARY KEY, v {type_}, other text DEFAULT 'other')",
        f"INSERT INTO things (id, v) VALUES (1, {was})",
        "CREATE TABLE was AS TABLE things",
    )
    create_audit_table(database, "things", "things_audit")


def is_back(database: Database) -> bool:
    return bool(database.value("SELECT record_image_eq(t, w) FROM things AS t, was AS w"))
