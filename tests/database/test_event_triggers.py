"""Event triggers that write down DDL: what the engine creates for itself is not the fix's doing; DDL of the fix is.

The kinds of it: each event (start, end, drop, rewrite), a log named with its schema or without, each kind of fix, its
revert, triggers that are switched off, audit tables made and dropped.
"""

from collections.abc import Callable
from typing import Any

import pytest

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update
from datafixes.errors import OthersWouldChange
from tests import fixes
from tests.servers import LEDGER, Database

Fixed = DataFix | RecordedFix

ITEMS = """
CREATE TABLE item (id integer PRIMARY KEY, v text);
INSERT INTO item VALUES (1, 'a'), (2, 'b'), (3, 'c');
CREATE TABLE ddl_log (tag text, path text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := NEW.v; RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch();
"""
EVENTS = ("ddl_command_start", "ddl_command_end", "sql_drop", "table_rewrite")


def laid(database: Database, log: str = "public.ddl_log") -> dict[str, list[str]]:
    database.execute(
        ITEMS,
        "CREATE FUNCTION write_down() RETURNS event_trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN INSERT INTO {log} VALUES (tg_tag, current_setting('search_path')); END $$",
        *(f"CREATE EVENT TRIGGER on_{event} ON {event} EXECUTE FUNCTION write_down()" for event in EVENTS),
    )
    fixes.create_audit_table(database, "item", "item_audit")
    return contents(database)


def contents(database: Database) -> dict[str, list[str]]:
    found = database.dump(*LEDGER, "public.ddl_log")
    return {name: rows for name, rows in found.items() if not name.endswith("_audit")}


def declared(change: Any, rows: Rows, **more: Any) -> DataFix:
    return DataFix(name="fix", reason="Test.", change=change, rows=rows, audit="item_audit", **more)


def apply(fix: DataFix) -> tuple[Fixed, Callable[[Database], None]]:
    return fix, lambda database: fixes.apply(database, fix)


def record(*statements: str, offline: bool = False, **more: Any) -> tuple[Fixed, Callable[[Database], None]]:
    table = Table("item", "item_audit", key="id", identity={"v": "v"}, updated={1: "a"})
    fix = RecordedFix(name="fix", reason="Test.", tables=[table], **more)
    return fix, lambda database: fixes.record(database, fix, *statements, offline=offline)


SET = Update("item", set={"v": "x"}, where="v <> 'x'")
CHANGE = "UPDATE item SET v = 'x' WHERE id = 1"
KINDS = {
    "named": apply(declared(SET, Rows(key="id", identity={"v": "v"}, expect={1: "a"}))),
    "counted": apply(declared(SET, Rows(key="id", expect=3))),
    "deleted": apply(declared(Delete("item", where="id = 1"), Rows(key="id", expect=[1]))),
    "inserted": apply(declared(Insert("item", rows=[{"id": 4, "v": "d"}]), Rows(key="id", expect=1))),
    "triggers off": apply(declared(SET, Rows(key="id", expect=[1]), fire_triggers=False)),
    "recorded": record(CHANGE),
    "recorded, one script": record(CHANGE, offline=True),
    "recorded, triggers off": record(CHANGE, fire_triggers=False),
    "changed twice": record(CHANGE, "UPDATE item SET v = 'y' WHERE id = 1"),
}


@pytest.mark.parametrize("log", ["public.ddl_log", "ddl_log"], ids=["with its schema", "without"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_what_the_engine_creates_is_not_what_the_fix_changes(
    database: Database, kind: tuple[Fixed, Callable[[Database], None]], log: str
) -> None:
    before = laid(database, log)
    fix, run = kind
    run(database)
    assert contents(database) != before
    fixes.revert(database, fix)
    assert contents(database) == before
    # They fired, and are as they were.
    assert database.value("SELECT count(*) FROM ddl_log WHERE tag = 'CREATE TABLE AS'") > 2
    assert database.value("SELECT count(*) FROM pg_event_trigger WHERE evtenabled = 'O'") == len(EVENTS)


@pytest.mark.parametrize("offline", [False, True], ids=["online", "one script"])
@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE other (a integer)",
        "COMMENT ON TABLE ddl_log IS 'x'",
        "DO 'BEGIN CREATE TEMP TABLE t (a integer); DROP TABLE t; END'",
    ],
)
def test_what_an_event_trigger_writes_about_the_fix_s_own_ddl_is_the_fix_s_doing(
    database: Database, ddl: str, offline: bool
) -> None:
    before = laid(database)
    _, run = record(CHANGE, ddl, offline=offline)
    with pytest.raises(OthersWouldChange, match=r"1 other table changed too.*: public\.ddl_log \([25] ins"):
        run(database)
    assert contents(database) == before
    excused, run = record(CHANGE, ddl, offline=offline, may_differ=["ddl_log"])
    run(database)
    fixes.revert(database, excused)
    assert database.rows("SELECT v FROM item ORDER BY id") == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize("kind", ["trigger", "function in the condition", "function in the identity"])
def test_what_else_runs_ddl_inside_a_fix_is_the_fix_s_doing(database: Database, kind: str) -> None:
    laid(database)
    database.execute(
        "CREATE FUNCTION ddl() RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN COMMENT ON TABLE public.ddl_log IS 'x'; RETURN true; END $$",
        "CREATE FUNCTION ddl_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM ddl(); RETURN NULL; END $$",
    )
    if kind == "trigger":
        database.execute("CREATE TRIGGER t AFTER UPDATE ON item EXECUTE FUNCTION ddl_trigger()")
    fix = declared(
        Update("item", set={"v": "x"}, where="ddl()" if "condition" in kind else "true"),
        Rows(key="id", expect={1: "true"}, identity={"is": "ddl()::text" if "identity" in kind else "'true'::text"}),
    )  # fmt: skip
    with pytest.raises(OthersWouldChange, match=r"public\.ddl_log \("):
        fixes.apply(database, fix)


def test_an_identity_that_writes_is_found_in_a_revert_too(database: Database) -> None:
    laid(database)
    database.execute(
        "CREATE TABLE asked (n integer)",
        "CREATE FUNCTION ask(n integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN n; END'",
    )
    fix = declared(SET, Rows(key="id", identity={"n": "public.ask(id)"}, expect={1: 1}))
    fixes.apply(database, fix)
    database.execute(
        "CREATE OR REPLACE FUNCTION ask(n integer) RETURNS integer LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.asked VALUES (n); RETURN n; END'"
    )
    with pytest.raises(OthersWouldChange, match=r"public\.asked \(2 inserted\)"):
        fixes.revert(database, fix)


def test_an_audit_table_is_made_and_dropped_where_ddl_is_written_down(database: Database) -> None:
    laid(database, "ddl_log")
    fixes.drop_audit_table(database, "item_audit")
    assert database.value("SELECT count(*) FROM ddl_log WHERE tag = 'DROP TABLE'") > 1
    # What the engine says means the same, whatever the caller's schemas hold.
    assert database.value(
        "SELECT bool_and(path ~ '^pg_catalog, pg_temp, |^\"\\$user\", public$') FROM ddl_log"
    )
