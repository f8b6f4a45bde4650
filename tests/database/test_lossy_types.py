"""A value whose text does not tell every bit: left as it is beside a fix, else kept in its own type or not changed (A11)."""

from pathlib import Path
from typing import Any

import pytest

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql
from datafixes.errors import Refused
from tests.cli.commands import answer, datafixes
from tests.fixes import apply, create_audit_table, record, revert
from tests.projects import new_project
from tests.servers import Database
from tests.tampering import tamper

# Eight bytes, of which the text shows four: as lossy as seg, unit, tdigest and box2d, and in every server.
LOSSY = (
    "CREATE SCHEMA app",
    "CREATE TYPE app.lossy",
    "CREATE FUNCTION app.lossy_in(cstring) RETURNS app.lossy LANGUAGE internal IMMUTABLE STRICT AS 'int8in'",
    "CREATE FUNCTION app.lossy_out(app.lossy) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out'",
    "CREATE TYPE app.lossy (INPUT = app.lossy_in, OUTPUT = app.lossy_out, INTERNALLENGTH = 8, PASSEDBYVALUE,"
    " ALIGNMENT = double)",
    "CREATE FUNCTION app.eq(app.lossy, app.lossy) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8eq'",
    "CREATE FUNCTION app.lt(app.lossy, app.lossy) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8lt'",
    "CREATE FUNCTION app.le(app.lossy, app.lossy) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8le'",
    "CREATE FUNCTION app.ge(app.lossy, app.lossy) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8ge'",
    "CREATE FUNCTION app.gt(app.lossy, app.lossy) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int8gt'",
    "CREATE FUNCTION app.cmp(app.lossy, app.lossy) RETURNS integer LANGUAGE internal IMMUTABLE STRICT AS 'btint8cmp'",
    *(
        f"CREATE OPERATOR app.{name} (LEFTARG = app.lossy, RIGHTARG = app.lossy, FUNCTION = app.{function})"
        for name, function in {"=": "eq", "<": "lt", "<=": "le", ">=": "ge", ">": "gt"}.items()
    ),
    "CREATE OPERATOR CLASS app.lossy_ops DEFAULT FOR TYPE app.lossy USING btree AS OPERATOR 1 app.<, OPERATOR 2 app.<=,"
    " OPERATOR 3 app.=, OPERATOR 4 app.>=, OPERATOR 5 app.>, FUNCTION 1 app.cmp(app.lossy, app.lossy)",
    "CREATE DOMAIN app.lossy_too AS app.lossy",
)
MORE = 4294967296
"""What the text does not tell."""

TYPES = {"type": "app.lossy", "domain": "app.lossy_too", "array": "app.lossy[]"}


def value(type_: str, number: int) -> str:
    return f"'{{{number}}}'" if type_.endswith("[]") else f"'{number}'"


def lay_out(database: Database, type_: str = "app.lossy", *, own: bool = False) -> None:
    database.execute(
        *LOSSY,
        f"CREATE TABLE item (id integer PRIMARY KEY, measured {type_}, note text)",
        f"INSERT INTO item VALUES (1, {value(type_, 5)}, 'a'), (2, {value(type_, MORE + 5)}, 'a')",
        "CREATE TABLE was AS TABLE item",
    )
    create_audit_table(database, "item", "item_audit", own_types=["measured"] if own else [])


def is_back(database: Database) -> bool:
    return bool(
        database.value(
            "SELECT count(w) = count(*) FROM item AS i LEFT JOIN was AS w ON record_image_eq(i, w)"
            " HAVING count(*) = (SELECT count(*) FROM was)"
        )
    )


def fix(change: Update | Delete, *keys: int) -> DataFix:
    return DataFix(
        name="one",
        reason="A test.",
        change=change,
        rows=Rows(key="id", expect=list(keys)),
        audit="item_audit",
    )


def recorded(**kinds: Any) -> RecordedFix:
    return RecordedFix(name="one", reason="A test.", tables=[Table("item", "item_audit", **kinds)])


NOTE = Update("item", set={"note": "b"})


def inexact(database: Database) -> object:
    return database.value("SELECT shape -> 'inexact' FROM datafix_run_table ORDER BY run_id DESC LIMIT 1")


@pytest.mark.parametrize("type_", TYPES.values(), ids=TYPES)
def test_a_fix_of_another_column_leaves_it_as_it_is(type_: str, database: Database) -> None:
    lay_out(database, type_)
    for _ in range(2):
        apply(database, fix(NOTE, 1, 2))
        assert database.rows("SELECT note FROM item") == [("b",), ("b",)]
        assert inexact(database) == ["measured"]
        revert(database, fix(NOTE, 1, 2))
        assert is_back(database)
    apply(database, fix(NOTE, 1))
    assert inexact(database) is None


def test_somebody_s_later_value_of_it_stays(database: Database) -> None:
    lay_out(database)
    apply(database, fix(NOTE, 1, 2))
    database.execute(f"UPDATE item SET measured = '{MORE + MORE + 5}' WHERE id = 2")
    revert(database, fix(NOTE, 1, 2))
    assert database.rows("SELECT note FROM item") == [("a",), ("a",)]
    assert database.value(f"SELECT measured OPERATOR(app.=) '{MORE + MORE + 5}' FROM item WHERE id = 2")


def test_a_recorded_fix_of_another_column_leaves_it_as_it_is(database: Database) -> None:
    lay_out(database)
    # The row that is deleted has a value that its text tells.
    statements = ["UPDATE item SET note = note || 'b'", "UPDATE item SET note = note || 'c' WHERE id = 2", "DELETE FROM item WHERE id = 1"]  # fmt: skip
    for _ in range(2):
        record(database, recorded(updated=1, deleted=1), *statements)
        assert inexact(database) == ["measured"]
        revert(database, recorded(updated=1, deleted=1))
        assert is_back(database)


def test_a_trigger_that_writes_it_is_found(database: Database) -> None:
    lay_out(database)
    database.execute(
        "CREATE FUNCTION measure() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN NEW.measured := ''{MORE + MORE + 5}''; RETURN NEW; END'",
        "CREATE TRIGGER measures BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION measure()",
    )
    for key in (1, 2):
        with pytest.raises(Refused, match=f"does not yield the same value: {key}: measured"):
            apply(database, fix(NOTE, key))
    assert is_back(database)


REFUSED = {
    "deleted": lambda database: apply(database, fix(Delete("item"), 1, 2)),
    "changed": lambda database: apply(database, fix(Update("item", set={"measured": sql("'7'")}), 2)),
    "written": lambda database: apply(database, fix(Update("item", set={"measured": sql(f"'{MORE}'")}), 1)),
    "inserted": lambda database: apply(
        database,
        DataFix(
            name="one", reason="A test.", rows=Rows(key="id", expect=1), audit="item_audit",
            change=Insert("item", rows=[{"id": 3, "measured": sql(f"'{MORE}'"), "note": "c"}]),
        ),
    ),
    "recorded, deleted": lambda database: record(database, recorded(deleted=1), "DELETE FROM item WHERE id = 2"),
    "recorded, changed": lambda database: record(
        database, recorded(updated=1), "UPDATE item SET measured = '7' WHERE id = 2"
    ),
    "recorded, written": lambda database: record(
        database, recorded(updated=1), f"UPDATE item SET measured = '{MORE}' WHERE id = 1"
    ),
    "recorded, inserted": lambda database: record(
        database, recorded(inserted=1), f"INSERT INTO item VALUES (3, '{MORE}', 'c')"
    ),
    "recorded, under another key": lambda database: record(
        database, recorded(inserted=1, deleted=1), "UPDATE item SET id = 3 WHERE id = 2"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_its_text_could_not_give_back_is_not_changed(what: str, database: Database) -> None:
    lay_out(database)
    with pytest.raises(
        Refused, match=r"its text form does not yield the same value: \d: measured"
    ) as refused:
        REFUSED[what](database)
    assert "op.create_audit_table('item', name=..., own_types=['measured'])" in refused.value.one_line()
    assert is_back(database)


@pytest.mark.parametrize("type_", TYPES.values(), ids=TYPES)
def test_in_its_own_type_every_bit_is_kept(type_: str, database: Database) -> None:
    lay_out(database, type_, own=True)
    new = sql(value(type_, MORE + 7))
    for change in (Delete("item"), Update("item", set={"measured": new}), NOTE):
        for _ in range(2):
            apply(database, fix(change, 1, 2))
            assert inexact(database) is None
            revert(database, fix(change, 1, 2))
            assert is_back(database)
    statements = [
        f"UPDATE item SET measured = {value(type_, MORE)} WHERE id = 1",
        "DELETE FROM item WHERE id = 2",
        f"INSERT INTO item VALUES (3, {value(type_, MORE)}, 'c')",
    ]
    every = recorded(inserted=1, updated=1, deleted=1)
    record(database, every, *statements)
    # a later value that differs in bits that the text does not tell
    database.execute(f"UPDATE item SET measured = {value(type_, MORE + MORE)} WHERE id = 1")
    with pytest.raises(Refused, match="changed since"):
        revert(database, every)
    database.execute(f"UPDATE item SET measured = {value(type_, MORE)} WHERE id = 1")
    revert(database, every)
    assert is_back(database)


def test_a_later_value_that_its_text_does_not_tell_is_not_lost(database: Database) -> None:
    lay_out(database)
    change = Update("item", set={"measured": sql("'7'")})
    apply(database, fix(change, 1))
    database.execute(f"UPDATE item SET measured = '{MORE + 7}' WHERE id = 1")
    with pytest.raises(Refused, match="1: measured"):
        revert(database, fix(change, 1))
    assert database.value(f"SELECT measured OPERATOR(app.=) '{MORE + 7}' FROM item WHERE id = 1")
    database.execute("UPDATE item SET measured = '7' WHERE id = 1")
    revert(database, fix(change, 1))
    assert is_back(database)


def test_a_run_by_version_0_1_that_wrote_such_a_value_is_reverted_and_that_is_the_end(
    database: Database,
) -> None:
    lay_out(database)
    change = fix(Update("item", set={"measured": sql("'7'")}), 1)
    apply(database, change)
    # as that version left it
    tamper(
        database,
        f"UPDATE item SET measured = '{MORE + 7}' WHERE id = 1",
        "UPDATE datafix_run_table SET shape = shape - 'exact'",
    )
    revert(database, change)
    assert is_back(database)
    again = "SELECT shape -> 'lost' FROM datafix_run_table ORDER BY run_id DESC LIMIT 1"
    assert database.value(again) == ["measured"]


@pytest.mark.parametrize("own", [False, True], ids=["text", "own type"])
def test_a_key_whose_text_does_not_tell_every_bit(own: bool, database: Database) -> None:
    database.execute(
        *LOSSY,
        "CREATE TABLE item (k app.lossy PRIMARY KEY, note text)",
        f"INSERT INTO item VALUES ('5', 'a'), ('{MORE + 5}', 'a')",
        "CREATE TABLE was AS TABLE item",
    )
    create_audit_table(database, "item", "item_audit", own_types=["k"] if own else [])
    for change in (NOTE, Delete("item")):
        one = DataFix(
            name="one", reason="A test.", change=change, rows=Rows(key="k", expect=[str(MORE + 5)]), audit="item_audit",
        )  # fmt: skip
        if own:
            apply(database, one)
            assert database.value("SELECT count(*) FROM item WHERE note = 'a'") == 1
            revert(database, one)
        else:
            with pytest.raises(Refused, match=r"its text form does not yield the same value: 5"):
                apply(database, one)
        assert is_back(database)
    every = DataFix(
        name="every", reason="A test.", change=Update("item", set={"note": "b"}, where="true"), rows=Rows(key="k", expect=2),
        audit="item_audit",
    )  # fmt: skip
    if own:
        apply(database, every)
        revert(database, every)
    else:
        with pytest.raises(Refused, match=r"its text form does not yield the same value: 5"):
            apply(database, every)
    assert is_back(database)
    if own:
        record(database, recorded(updated=2), "UPDATE item SET note = 'b'")
        revert(database, recorded(updated=2))
    else:
        with pytest.raises(Refused, match="its text form does not yield the same value: 5: k"):
            record(database, recorded(updated=2), "UPDATE item SET note = 'b'")
    assert is_back(database)


def test_without_a_key_every_row_is_inserted_again(database: Database) -> None:
    lay_out(database)
    database.execute("ALTER TABLE item DROP CONSTRAINT item_pkey")
    with pytest.raises(Refused, match=r"\(no key\): measured"):
        record(database, recorded(inserted=1, deleted=1), "UPDATE item SET note = 'b' WHERE id = 2")
    record(database, recorded(inserted=1, deleted=1), "UPDATE item SET note = 'b' WHERE id = 1")
    revert(database, recorded(inserted=1, deleted=1))
    assert is_back(database)


@pytest.mark.parametrize(
    ("column", "type_"),
    [("note", "text"), ("label", "app.label"), ("gone", "")],
    ids=["built-in", "enum", "missing"],
)
def test_only_types_of_extensions_are_kept_as_their_own(column: str, type_: str, database: Database) -> None:
    database.execute(
        *LOSSY,
        "CREATE TYPE app.label AS ENUM ('a')",
        "CREATE TABLE item (id integer PRIMARY KEY, note text, label app.label)",
    )
    with pytest.raises(Refused, match=f"not for {column}" + (rf" \({type_}\)" if type_ else "")):
        create_audit_table(database, "item", "item_audit", own_types=[column])
    assert database.value("SELECT to_regclass('item_audit')") is None


def test_the_plan_says_so(tmp_path: Path, database: Database) -> None:
    lay_out(database)
    project = new_project(tmp_path, database)
    project.revision("a", None, "pass")
    declared = """
fix = DataFix(name="note", reason="A test.", change=Update("item", set={"note": "b"}, where="true"),
              rows=Rows(key="id", expect=2), audit="item_audit")
"""
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=declared)
    [table] = answer(project, "plan")["steps"][1]["runs"][0]["changes"]
    assert table["inexact"] == ["measured"]
    told = " ".join(datafixes(project, "plan").out.split())
    assert "Kept as text measured of public.item, without every bit: the fix leaves" in told
    assert project.alembic("upgrade", "head").code == 0
    assert answer(project, "show", "1")["changes"][0]["inexact"] == ["measured"]
    assert project.alembic("downgrade", "base").code == 0
    assert is_back(database)


def test_a_migration_names_the_columns_to_keep_in_their_own_type(tmp_path: Path, database: Database) -> None:
    lay_out(database)
    project = new_project(tmp_path, database)
    project.revision(
        "a",
        None,
        'op.create_audit_table("item", name="item_copies", own_types=["measured"])\n'
        'op.execute("ALTER TABLE item ADD COLUMN more app.lossy, ADD COLUMN less app.lossy")\n'
        'op.update_audit_table("item", name="item_copies", own_types="more")',
        'op.drop_audit_table("item_copies")',
    )
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'item_copies'::regclass"
        " AND attname IN ('measured', 'more', 'less') ORDER BY attnum"
    ) == [("measured", "app.lossy"), ("more", "app.lossy"), ("less", "text")]
    assert project.alembic("downgrade", "base").code == 0
