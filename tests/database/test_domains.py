"""Domains: of rows that a domain does not allow any more, and of keys that are domains over what PostgreSQL compares by kind."""

import pytest

from datafixes import DataFix, Delete, Rows, Update
from datafixes.declaration.expressions import Value
from datafixes.errors import Refused
from tests.fixes import apply, create_audit_table, revert
from tests.one_row import fix_of, is_back, one_row
from tests.servers import Database
from tests.tampering import tamper


def a_row_from_before_the_check(database: Database) -> None:
    one_row(database, "price", "-1", "CREATE DOMAIN price AS numeric")
    database.execute("DROP TABLE was", "ALTER DOMAIN price ADD CHECK (VALUE > 0) NOT VALID")
    database.execute("CREATE TABLE was AS SELECT id, v::numeric, other FROM things")


@pytest.mark.parametrize(("column", "value"), [("v", 1), ("other", "another")])
def test_c26_a_row_that_its_domain_does_not_allow_any_more_can_be_repaired(
    database: Database, column: str, value: Value
) -> None:
    a_row_from_before_the_check(database)
    fix = fix_of(value, column)
    apply(database, fix)
    assert database.value(f"SELECT {column}::text FROM things") == str(value)
    assert database.value("SELECT v FROM things_audit WHERE audit_image = 'before'") == -1
    if column == "v":
        # PostgreSQL lets nobody put it back.
        with pytest.raises(Refused, match="violates check constraint"):
            revert(database, fix)
    else:
        revert(database, fix)
        assert database.value("SELECT other FROM things") == "other"


@pytest.mark.parametrize(
    "base",
    [
        "mood",
        "feeling",
        "integer[]",
        "span",
        "place",
    ],
)
def test_a11_keys_and_unique_values_can_be_domains(database: Database, base: str) -> None:
    # Enums, arrays, ranges and composites are compared by one operator for all of a kind, which may not take a domain.
    value = {"integer[]": "'{1,NULL}'", "span": "'[1,2)'", "place": "'(a,b)'"}.get(base, "'glad'")
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE DOMAIN feeling AS mood",
        "CREATE TYPE span AS RANGE (subtype = float8)",
        "CREATE TYPE place AS (a text, b text)",
        f"CREATE DOMAIN part AS {base}",
        "CREATE TABLE things (id part PRIMARY KEY, v part UNIQUE, other text)",
        f"INSERT INTO things VALUES ({value}, {value}, 'other')",
        "CREATE TABLE was AS TABLE things",
    )
    create_audit_table(database, "things", "things_audit")
    rows = Rows(key="id", expect=1)
    for change in (Update("things", set={"v": None}, where="true"), Delete("things", where="true")):
        fix = DataFix(name="fix", reason="A test.", change=change, rows=rows, audit="things_audit")
        apply(database, fix)
        assert database.value("SELECT count(*) FROM things WHERE v IS NOT NULL") == 0
        revert(database, fix)
        assert is_back(database)
        tamper(database, "TRUNCATE datafix_run, things_audit CASCADE")
