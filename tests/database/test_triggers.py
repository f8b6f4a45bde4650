"""Triggers: they fire, and what they do is copied, refused or left to them as the fix says; housekeeping columns; triggers off."""

from dataclasses import replace
from typing import Any

import pytest

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql
from datafixes.errors import ChangeNotAsWanted, Conflicts, NotRestorable, OthersWouldChange, Refused
from tests import fixes
from tests.servers import LEDGER, Database

TABLE = """
CREATE TABLE item (id integer PRIMARY KEY, v integer, updated_at timestamptz NOT NULL DEFAULT '2026-01-01 00:00+00', version integer NOT NULL DEFAULT 1);
INSERT INTO item SELECT n, n FROM generate_series(1, 6) AS n;
CREATE TABLE log (what text);
"""
TOUCH = (
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN NEW.updated_at := clock_timestamp(); NEW.version := NEW.version + 1; RETURN NEW; END'",
    "CREATE TRIGGER touch BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch()",
)


def after_each(body: str, event: str = "UPDATE") -> tuple[str, ...]:
    """A trigger that does something after each changed row, unless a trigger did that change."""
    return (
        f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF pg_trigger_depth() = 1 THEN {body}; END IF; RETURN NULL; END $$",
        f"CREATE TRIGGER act AFTER {event} ON item FOR EACH ROW EXECUTE FUNCTION act()",
    )


def lay(database: Database, *more: str) -> dict[str, list[str]]:
    database.execute(TABLE, *more)
    fixes.create_audit_table(database, "item", "item_audit")
    return contents(database)


def contents(database: Database) -> dict[str, list[str]]:
    return database.dump("public.item_audit", *LEDGER)


def declared(change: Update | Delete | Insert | None = None, **more: Any) -> DataFix:
    given = change or Update("item", set={"v": sql("v + 10")}, where="id <= 2")
    return DataFix(
        name="fix", reason="Test.", change=given, rows=Rows(key="id", expect=1 if isinstance(given, Insert) else 2), audit="item_audit", **more
    )  # fmt: skip


def recorded(**more: Any) -> RecordedFix:
    given: dict[str, Any] = {"updated": 2}
    given |= {key: more.pop(key) for key in ("housekeeping", "updated", "inserted", "deleted") if key in more}
    return RecordedFix(name="fix", reason="Test.", tables=[Table("item", "item_audit", **given)], **more)


def apply(database: Database, fix: DataFix | RecordedFix) -> None:
    if isinstance(fix, DataFix):
        fixes.apply(database, fix)
    else:
        fixes.record(database, fix, "UPDATE item SET v = v + 10 WHERE id <= 2")


both = pytest.mark.parametrize("make", [declared, recorded])


@both
def test_c1_a_column_that_a_trigger_keeps_up_to_date_refuses_the_revert_by_name(
    database: Database, make: Any
) -> None:
    lay(database, *TOUCH)
    apply(database, make())
    assert database.value("SELECT count(*) FROM item_audit WHERE audit_image = 'after' AND version = 2") == 2
    now = contents(database)
    with pytest.raises(
        NotRestorable,
        match=r"a trigger of public\.item prevents values from being restored: 1: updated_at is .*version is 2, not 1",
    ):
        fixes.revert(database, make())
    assert contents(database) == now


@both
def test_c1_housekeeping_columns_are_copied_never_a_conflict_and_not_given_back(
    database: Database, make: Any
) -> None:
    lay(database, *TOUCH)
    fix = make(housekeeping=["updated_at", "version"])
    apply(database, fix)
    database.execute("UPDATE item SET updated_at = now() WHERE id = 1")
    fixes.revert(database, fix)
    assert database.rows("SELECT id, v, version FROM item ORDER BY id LIMIT 3") == [
        (1, 1, 4),
        (2, 2, 3),
        (3, 3, 1),
    ]
    assert (
        database.value(
            "SELECT version FROM item_audit WHERE audit_image = 'before' AND id = 1 AND audit_run_id = 1"
        )
        == 1
    )
    apply(database, fix)
    database.execute("UPDATE item SET v = 0 WHERE id = 1")
    with pytest.raises(Conflicts, match="1 changed since"):
        fixes.revert(database, fix)


@both
def test_c1_with_triggers_off_everything_comes_back_to_the_bit(database: Database, make: Any) -> None:
    before = lay(
        database, *TOUCH,
        "CREATE TRIGGER always BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch()", "ALTER TABLE item ENABLE ALWAYS TRIGGER always",
        "CREATE TRIGGER never BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch()", "ALTER TABLE item DISABLE TRIGGER never",
        "CREATE TRIGGER there BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch()", "ALTER TABLE item ENABLE REPLICA TRIGGER there",
    )  # fmt: skip
    states = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'item'::regclass ORDER BY 1"
    enabled = database.rows(states)
    fix = make(fire_triggers=False)
    apply(database, fix)
    assert database.value("SELECT max(version) FROM item") == 1
    assert (
        database.rows(states) == enabled == [("always", "A"), ("never", "D"), ("there", "R"), ("touch", "O")]
    )
    fixes.revert(database, fix)
    assert contents(database) == before
    assert database.rows(states) == enabled


def test_c1_housekeeping_of_rows_that_come_back_or_go(database: Database) -> None:
    before = lay(database, *TOUCH)
    removed = declared(Delete("item", where="id <= 2"), housekeeping=["updated_at", "version"])
    fixes.apply(database, removed)
    fixes.revert(database, removed)
    assert contents(database) == before
    added = replace(
        declared(Insert("item", rows=[{"id": 9, "v": 9}]), housekeeping=["updated_at", "version"]),
        name="added",
    )
    fixes.apply(database, added)
    database.execute("UPDATE item SET updated_at = now() WHERE id = 9")
    fixes.revert(database, added)
    assert contents(database) == before


@both
def test_c3_what_a_trigger_writes_elsewhere_is_refused_or_said_to_differ(
    database: Database, make: Any
) -> None:
    before = lay(database, *after_each("INSERT INTO log VALUES (NEW.id)"))
    with pytest.raises(
        OthersWouldChange,
        match=r"rows of 1 other table changed too, without a copy: public\.log \(2 inserted\)",
    ):
        apply(database, make())
    assert contents(database) == before
    fix = make(may_differ=["log"])
    apply(database, fix)
    fixes.revert(database, fix)
    assert database.value("SELECT count(*) FROM log") == 4


def test_c3_what_a_revert_makes_a_trigger_write_elsewhere_is_refused(database: Database) -> None:
    lay(database)
    fixes.apply(database, declared())
    database.execute(*after_each("INSERT INTO log VALUES (NEW.id)"))
    now = contents(database)
    with pytest.raises(OthersWouldChange, match=r"public\.log \(2 inserted\)"):
        fixes.revert(database, declared())
    assert contents(database) == now


@pytest.mark.parametrize(
    ("body", "others"),
    [
        ("UPDATE item SET v = 0 WHERE id = NEW.id + 3", "2 other rows of public.item changed too, without a copy: 4, ..."),
        ("DELETE FROM item WHERE id = 6", "1 other row of public.item changed too"),
        ("INSERT INTO item (id, v) VALUES (NEW.id + 100, 0)", "2 other rows of public.item changed too, without a copy: 101, ..."),
        ("DELETE FROM item WHERE id = NEW.id + 2; INSERT INTO item (id, v) VALUES (NEW.id + 2, 9)", "other rows of public.item changed too"),
    ],
)  # fmt: skip
def test_other_rows_of_the_table_that_a_trigger_changes_are_found(
    database: Database, body: str, others: str
) -> None:
    before = lay(database, *after_each(body))
    with pytest.raises(ChangeNotAsWanted) as caught:
        fixes.apply(database, declared())
    assert others in str(caught.value)
    assert contents(database) == before
    with pytest.raises(Refused, match="row counts are not as expected"):
        fixes.record(database, recorded(), "UPDATE item SET v = v + 10 WHERE id <= 2")
    assert contents(database) == before


def test_other_rows_that_a_trigger_changes_are_found_behind_earlier_writes_of_the_transaction(
    database: Database,
) -> None:
    """Rows that the migration itself wrote before the fix are not the fix's doing."""
    lay(database, *after_each("UPDATE item SET v = v WHERE id = NEW.id"))
    script = fixes.apply_script(declared(), fixes.Context(), fixes.LIMITS)
    database.psql(
        f"BEGIN; UPDATE item SET v = v + 100 WHERE id > 4; SAVEPOINT x; UPDATE item SET v = 7 WHERE id = 4; RELEASE x;\n{script.text}COMMIT;",
        "-v",
        "ON_ERROR_STOP=1",
    )
    assert database.rows("SELECT id, v FROM item ORDER BY id") == [
        (1, 11),
        (2, 12),
        (3, 3),
        (4, 7),
        (5, 105),
        (6, 106),
    ]


def test_other_rows_that_a_revert_makes_a_trigger_change_are_found(database: Database) -> None:
    lay(database)
    fixes.apply(database, declared())
    database.execute(*after_each("UPDATE item SET v = 0 WHERE id = NEW.id + 3"))
    now = contents(database)
    with pytest.raises(ChangeNotAsWanted, match=r"2 other rows of public\.item changed too"):
        fixes.revert(database, declared())
    assert contents(database) == now


def test_recorded_what_triggers_change_in_other_rows_is_copied_and_given_back(database: Database) -> None:
    before = lay(database, *after_each("UPDATE item SET v = v * 2 WHERE id IN (NEW.id, NEW.id + 3)"))
    fix = recorded(updated=4)
    fixes.record(database, fix, "UPDATE item SET v = v + 10 WHERE id <= 2")
    assert database.rows("SELECT id, v FROM item ORDER BY id") == [
        (1, 22),
        (2, 24),
        (3, 3),
        (4, 8),
        (5, 10),
        (6, 6),
    ]
    assert database.rows("SELECT id, v FROM item_audit WHERE audit_image = 'before' ORDER BY id") == [
        (1, 1),
        (2, 2),
        (4, 4),
        (5, 5),
    ]
    database.execute("DROP TRIGGER act ON item")
    fixes.revert(database, fix)
    assert contents(database) == before


def test_recorded_a_trigger_that_puts_a_new_row_in_the_place_of_an_old_one(database: Database) -> None:
    """The inner statement ends before the outer one, and is noted first."""
    before = lay(
        database,
        "CREATE FUNCTION make_room() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM item WHERE id = NEW.id; RETURN NEW; END'",
        "CREATE TRIGGER make_room BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION make_room()",
    )
    fix = recorded(updated=1, inserted=1)
    fixes.record(database, fix, "INSERT INTO item (id, v) VALUES (3, 30), (30, 3)")
    assert database.rows("SELECT audit_image, id, v FROM item_audit ORDER BY audit_id") == [
        ("before", 3, 3),
        ("after", 3, 30),
        ("after", 30, 3),
    ]
    database.execute("DROP TRIGGER make_room ON item")
    fixes.revert(database, fix)
    assert contents(database) == before


def test_recorded_a_function_of_another_role_is_recorded_too(database: Database) -> None:
    before = lay(database)
    role = f"clerk_{database.name}"
    database.execute(
        f"CREATE ROLE {role}", f"GRANT ALL ON item TO {role}", f"GRANT CREATE ON SCHEMA public TO {role}",
        "CREATE FUNCTION raise_all() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'UPDATE item SET v = v + 1 WHERE id <= 2'",
        f"ALTER FUNCTION raise_all() OWNER TO {role}",
    )  # fmt: skip
    try:
        fixes.record(database, recorded(), "SELECT raise_all()")
        fixes.revert(database, recorded())
        assert contents(database) == before
    finally:
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@both
def test_c25_a_fix_goes_together_with_ddl_in_one_transaction(database: Database, make: Any) -> None:
    """Deferred constraints and constraint triggers have done their work before the fix ends."""
    lay(
        database,
        "CREATE TABLE child (id integer PRIMARY KEY, item integer REFERENCES item DEFERRABLE INITIALLY DEFERRED)", "INSERT INTO child VALUES (1, 1)",
        "CREATE FUNCTION check_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 FROM log; RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_it()",
    )  # fmt: skip
    fix = make()
    script = (
        fixes.apply_script(fix, fixes.Context(), fixes.LIMITS) if isinstance(fix, DataFix)
        else fixes.recorded_script(fix, ["UPDATE item SET v = v + 10 WHERE id <= 2"], fixes.Context(), fixes.LIMITS)
    )  # fmt: skip
    database.psql(
        f"BEGIN;\n{script.text}ALTER TABLE item ADD CHECK (v < 100);\nCOMMIT;", "-v", "ON_ERROR_STOP=1"
    )
    assert database.value("SELECT count(*) FROM item WHERE v > 10") == 2
    fixes.revert(database, fix)


def test_c25_a_deferred_trigger_that_writes_is_part_of_the_recording(database: Database) -> None:
    before = lay(
        database,
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF pg_trigger_depth() = 1 THEN UPDATE item SET v = -1 WHERE id = 6; END IF; RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id < 6) EXECUTE FUNCTION late()",
    )
    fix = recorded(updated=3)
    apply(database, fix)
    database.execute("DROP TRIGGER late ON item")
    fixes.revert(database, fix)
    assert contents(database) == before


def test_c43_sequences_are_not_turned_back(database: Database) -> None:
    lay(database, "CREATE SEQUENCE numbers", "ALTER TABLE item ALTER id SET DEFAULT nextval('numbers') + 100")
    fix = recorded(updated=0, inserted=1)
    for expected in (101, 102):
        fixes.record(database, fix, "INSERT INTO item (v) VALUES (0)")
        assert database.value("SELECT max(id) FROM item") == expected
        fixes.revert(database, fix)


def test_c39_writers_of_other_columns_do_not_stand_in_the_way(database: Database) -> None:
    lay(database, "ALTER TABLE item ADD checked integer DEFAULT 0")
    fix = recorded()
    apply(database, fix)
    database.execute("UPDATE item SET checked = checked + 1")
    fixes.revert(database, fix)
    assert database.rows("SELECT v, checked FROM item WHERE id <= 2 ORDER BY id") == [(1, 1), (2, 1)]


def test_a_refused_revert_names_the_triggers_of_all_its_tables(database: Database) -> None:
    """The trigger of one table writes to the other: the fix recorded it, and the revert would fire it again."""
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, n integer)",
        "CREATE TABLE item_log (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, what text)",
        "INSERT INTO item VALUES (1, 1)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO item_log (what) VALUES (TG_OP); RETURN NEW; END'",
        "CREATE TRIGGER note BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION note()",
    )
    for table in ("item", "item_log"):
        fixes.create_audit_table(database, table, f"{table}_audit")
    both = RecordedFix(
        name="both",
        reason="Test.",
        tables=[Table("item", "item_audit", updated=1), Table("item_log", "item_log_audit", inserted=1)],
    )
    fixes.record(database, both, "UPDATE item SET n = 5")
    with pytest.raises(Refused) as refused:
        fixes.revert(database, both)
    assert "Disable the trigger that did it for this downgrade" in refused.value.one_line()
    assert "Triggers: note on public.item." in refused.value.one_line()
    assert "RecordedFix" not in refused.value.one_line()
    database.execute("ALTER TABLE item DISABLE TRIGGER note")
    fixes.revert(database, both)
    assert database.rows("TABLE item") == [(1, 1)]
    assert database.rows("TABLE item_log") == []


PARENT_AND_CHILD = (
    "CREATE TABLE parent (id integer PRIMARY KEY, v integer)",
    "CREATE TABLE child (id integer PRIMARY KEY, parent integer CONSTRAINT child_parent REFERENCES parent {} {})",
    "INSERT INTO parent VALUES (1, 1), (2, 2)",
    "INSERT INTO child VALUES (1, 1)",
)
LEFT_ALONE = {
    "switched off": ("", "ALTER TABLE parent DISABLE TRIGGER ALL"),
    "for replicas only": (
        "",
        "DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'parent'::regclass"
        " LOOP EXECUTE format('ALTER TABLE parent ENABLE REPLICA TRIGGER %I', t.tgname); END LOOP; END $$",
    ),
    "not enforced": ("NOT ENFORCED", "SELECT"),
}
"""Ways in which a foreign key does nothing, and how it is made to."""


@pytest.mark.parametrize("way", LEFT_ALONE)
@pytest.mark.parametrize("action", ["ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE RESTRICT"])
def test_a_foreign_key_that_does_nothing_stops_no_fix(database: Database, action: str, way: str) -> None:
    words, statement = LEFT_ALONE[way]
    if words and database.server_version < 18:
        pytest.skip("PostgreSQL 18 was the first to know NOT ENFORCED")
    database.execute(*(line.format(action, words) for line in PARENT_AND_CHILD), statement)
    fixes.create_audit_table(database, "parent", "parent_audit")
    gone = DataFix(
        name="gone", reason="Test.", change=Delete("parent", where="id = 1"), rows=Rows(key="id", expect=[1]),
        audit="parent_audit",
    )  # fmt: skip
    fixes.apply(database, gone)
    assert database.rows("TABLE child") == [(1, 1)]
    fixes.revert(database, gone)
    assert database.rows("TABLE parent ORDER BY id") == [(1, 1), (2, 2)]


@pytest.mark.parametrize("words", ["", "NOT VALID"])
def test_a_foreign_key_that_acts_stops_the_fix(database: Database, words: str) -> None:
    """Also one that was never validated: it acts all the same."""
    database.execute(
        "CREATE TABLE parent (id integer PRIMARY KEY, v integer)",
        "CREATE TABLE child (id integer PRIMARY KEY, parent integer)",
        f"ALTER TABLE child ADD CONSTRAINT child_parent FOREIGN KEY (parent) REFERENCES parent ON DELETE CASCADE {words}",
        "INSERT INTO parent VALUES (1, 1)",
        "INSERT INTO child VALUES (1, 1)",
    )
    fixes.create_audit_table(database, "parent", "parent_audit")
    gone = DataFix(
        name="gone", reason="Test.", change=Delete("parent", where="id = 1"), rows=Rows(key="id", expect=[1]),
        audit="parent_audit",
    )  # fmt: skip
    with pytest.raises(OthersWouldChange, match="child_parent"):
        fixes.apply(database, gone)
