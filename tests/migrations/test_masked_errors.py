"""With columns masked, nothing that fails puts their values anywhere: not into the server's log, the ledger, or what is told.

Listed: each message of the engine that names rows, keys or values; PostgreSQL's own errors that do, in message, DETAIL,
HINT or CONTEXT; what triggers raise. Declared, recorded (online, one script), reverts, plans, commands. Values that a
revision itself holds stand in the text of its statements, which PostgreSQL logs: docs/limits.md says so.
"""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from datafixes.audit.changes import View
from datafixes.script.masking import pattern_of
from tests.cli.commands import datafixes
from tests.projects import Project, Ran, new_project
from tests.servers import Database

SECRET, NUMBER = "5EC2E7", "7531908642"
TOP = "from datafixes import RecordedFix, Table\n"
MASK = ("-x", "mask=mail, item.NOTE, public.item.s[!x]cret")
SETUP = f"""
CREATE TABLE item (id integer PRIMARY KEY, mail text UNIQUE, note text, secret text, status text, n integer);
INSERT INTO item VALUES (1, '{SECRET}-1', '{SECRET}-n1', '{NUMBER}', 'open', 1), (2, '{SECRET}-2', '{SECRET}-n2', '{NUMBER}', 'open', 2);
CREATE TABLE loose (note text, mail text);
INSERT INTO loose VALUES ('{SECRET}-l', 'm');
CREATE TABLE person (mail text PRIMARY KEY, status text);
INSERT INTO person VALUES ('{SECRET}-p', 'open'), ('{SECRET}-q', 'open');
"""
TRIGGER = (
    "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {} RETURN NEW; END $f$;"
    "CREATE TRIGGER act BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION act();"
)
AFTER = TRIGGER.replace("BEFORE INSERT OR UPDATE", "AFTER UPDATE")


@dataclass(frozen=True)
class Log:
    """What the server has logged since."""

    path: Path
    start: int = field(default=0)

    @classmethod
    def of(cls, database: Database) -> "Log":
        path = Path(database.value("SELECT current_setting('data_directory') || '/log'"))
        return cls(path, path.stat().st_size)

    def text(self) -> str:
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read().decode(errors="replace")


def laid(directory: Path, database: Database, up: str, top: str, setup: str = "") -> Project:
    project = new_project(directory, database)
    database.psql(SETUP + setup, "-v", "ON_ERROR_STOP=1")
    tables = ("item", "loose", "person")
    audits = "\n".join(f'op.create_audit_table("{name}", name="{name}_audit")' for name in tables)
    project.revision("a", None, audits, top=TOP)
    project.revision("b", "a", up, "op.revert_datafix(fix)", top=TOP + top)
    ran = project.alembic("upgrade", "a")
    assert ran.code == 0, ran.err
    return project


def is_silent(database: Database, log: Log, ran: Ran, said: str) -> None:
    """It failed, says what is expected of it, and no value; so do the log and the ledger."""
    told = " ".join((ran.out + ran.err).split())
    assert ran.code != 0
    assert said in told
    ledger = str(database.rows("SELECT r.*, t.* FROM datafix_run r FULL JOIN datafix_run_table t ON false"))
    logged = log.text()
    assert "ERROR:" in logged
    for value in (SECRET, NUMBER):
        assert value not in told
        assert value not in ledger
        assert value not in logged, next(line for line in logged.splitlines() if value in line)


def update(values: str, rows: str = 'Rows(key="id", expect=2)', **more: Any) -> str:
    table, more = more.pop("table", "item"), {"where": "true", **more}
    return (
        f"fix = DataFix(name='f', reason='r', change=Update('{table}', set={values}, where={more['where']!r}),"
        f" rows={rows}, audit='{table}_audit')"
    )


# What fails: the fix, what the database has besides, what is said.
DECLARED: dict[str, tuple[str, str, str]] = {
    "another identity": (
        update('{"status": "x"}', 'Rows(key="id", identity={"who": "lower(mail)"}, expect={1: "declared"})'), "",
        "1 who is (masked)",
    ),
    "another identity of a masked name": (
        update('{"status": "x"}', 'Rows(key="id", identity={"mail": "status || mail"}, expect={1: "declared"})'), "", "1 mail is (masked)",
    ),
    "a masked key, other rows found": (
        update('{"status": "x"}', 'Rows(key="mail", expect=7)', table="person"), "", "Found: (masked), (masked).",
    ),
    "a masked key, other rows changed": (
        update('{"status": "x"}', 'Rows(key="mail", expect=1)', table="person", where="mail LIKE '%p'"),
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN UPDATE person SET status = 'y' WHERE status = 'open'; RETURN NULL; END $f$;"
        "CREATE TRIGGER act AFTER UPDATE ON person FOR EACH ROW EXECUTE FUNCTION act();",
        "1 other row of public.person changed too, without a copy: (masked)",
    ),
    "a trigger writes something else": (
        update('{"note": "declared"}'), TRIGGER.format(f"NEW.note := '{SECRET}';"), "wrote other values than the fix: 1: note is (masked)",
    ),
    "duplicate": (
        update('{"note": sql("left(note, 3)")}'), "CREATE UNIQUE INDEX ON item (note, status);",
        "duplicate key value violates unique constraint \"item_note_status_idx\" (Key (note, status)=(masked) already exists.)",
    ),
    "duplicate expression": (
        update('{"note": sql("left(note, 3)")}'), "CREATE UNIQUE INDEX ON item (lower(note));", "(Key (lower(note))=(masked) already exists.)",
    ),
    "excluded": (
        update('{"note": sql("left(note, 3)")}'), "ALTER TABLE item ADD EXCLUDE USING btree (note WITH =);", "violates exclusion constraint",
    ),
    "check": (update('{"n": 50}'), "ALTER TABLE item ADD CHECK (n < 9);", 'violates check constraint "item_n_check" [SQLSTATE 23514]'),
    "not null": (update('{"status": None}'), "ALTER TABLE item ALTER status SET NOT NULL;", '"status" of relation "item" violates not-null'),
    "foreign key": (
        update('{"status": sql("note")}'), "CREATE TABLE state (note text PRIMARY KEY); INSERT INTO state VALUES ('open');"
        "ALTER TABLE item ADD FOREIGN KEY (status) REFERENCES state;", '"item_status_fkey" (Key (status)=(masked) is not present in table "state".)',
    ),
    "deferred foreign key": (
        update('{"mail": sql("note")}'), f"CREATE TABLE state (note text PRIMARY KEY); INSERT INTO state VALUES ('{SECRET}-1'), ('{SECRET}-2');"
        "ALTER TABLE item ADD FOREIGN KEY (mail) REFERENCES state DEFERRABLE INITIALLY DEFERRED;", 'Key (mail)=(masked) is not present in table "state".',
    ),
    "cast": (update('{"n": sql("note::integer")}'), "", 'invalid input syntax for type integer: "(masked)" [SQLSTATE 22P02]'),
    "cast of a number": (update('{"n": sql("secret::integer")}'), "", 'value "(masked)" is out of range for type integer'),
    "cast with quotes": (
        update('{"n": sql("""concat(\'a" b "\', note)::integer""")}'), "", 'invalid input syntax for type integer: "(masked)"',
    ),
    "date": (update('{"status": sql("note::date::text")}'), "", 'invalid input syntax for type date: "(masked)"'),
    "json": (update('{"status": sql("note::json::text")}'), "", "invalid input syntax for type json"),
    "enum": (update('{"status": sql("note::mood::text")}'), "CREATE TYPE mood AS ENUM ('a');", 'invalid input value for enum mood: "(masked)"'),
    "bytes": (update('''{"status": sql("convert_from(decode('ff', 'hex') || note::bytea, 'UTF8')")}'''), "", "[SQLSTATE 22021]"),
    "condition": (update('{"status": "x"}', where="note::integer = 1"), "", 'invalid input syntax for type integer: "(masked)"'),
    "post-condition": (
        update('{"status": "x"}', 'Rows(key="id", expect=2, ensure="note::integer = 1")'), "", 'invalid input syntax for type integer: "(masked)"',
    ),
    "identity": (
        update('{"status": "x"}', 'Rows(key="id", expect={1: 1}, identity={"i": "note::integer"})'), "", 'for type integer: "(masked)"',
    ),
    "raised": (update('{"n": 5}'), TRIGGER.format("RAISE EXCEPTION 'not %', NEW.mail USING HINT = NEW.note;"), "at RAISE is left out: it may hold values"),
    "raised as something else": (
        update('{"n": 5}'), TRIGGER.format(
            "RAISE unique_violation USING MESSAGE = NEW.mail || ' is there', DETAIL = NEW.note, CONSTRAINT = 'c';"), "[SQLSTATE 23505]",
    ),
    "raised as the engine would": (
        update('{"n": 5}'), TRIGGER.format("RAISE EXCEPTION USING ERRCODE = 'DF009', MESSAGE = NEW.mail, DETAIL = NEW.note;"), "at RAISE is left out: it may hold values",
    ),
    "asserted": (update('{"n": 5}'), TRIGGER.format("ASSERT false, NEW.mail;"), "[SQLSTATE P0004]"),
    "in another statement": (
        update('{"n": 5}'), AFTER.format("EXECUTE format('INSERT INTO item (id, note) VALUES (1, %L)', NEW.note);"), "duplicate key",
    ),
    "a syntax error of theirs": (
        update('{"n": 5}'), TRIGGER.format("EXECUTE format('SELECT 1 + ''%s', NEW.note);"), "unterminated quoted string",
    ),
    "cancelled": (
        update('{"n": 5}'), TRIGGER.format("EXECUTE format('SELECT pg_sleep(5), %L', NEW.note);"), "statement timeout",
    ),
}  # fmt: skip
TIMEOUT = ("-x", "statement_timeout=600ms")


@pytest.mark.parametrize("case", DECLARED, ids=list(DECLARED))
def test_a_declared_fix_that_fails(tmp_path: Path, database: Database, case: str) -> None:
    top, setup, said = DECLARED[case]
    project = laid(tmp_path, database, "op.apply_datafix(fix)", top, setup)
    more = (*MASK, *TIMEOUT) if case == "cancelled" else MASK
    log = Log.of(database)
    is_silent(database, log, project.alembic(*more, "upgrade", "head"), said)
    ran = datafixes(project, *more, "plan")
    assert said in " ".join((ran.out + ran.err).split())
    script = database.psql(project.script("a:b", *more), "-v", "ON_ERROR_STOP=1", check=False)
    is_silent(database, log, Ran(script.returncode, script.stdout, script.stderr), "ERROR")
    assert SECRET not in ran.out + ran.err
    assert database.value("SELECT count(*) FROM item WHERE status = 'open' AND n < 3") == 2


RECORDED = """
fix = RecordedFix(name="f", reason="r", tables=[Table("item", "item_audit", {}), Table("person", "person_audit", key="mail"), Table("loose", "loose_audit")])
"""
BODIES: dict[str, tuple[str, str, str, str]] = {
    "duplicate": ("updated=2", "UPDATE item SET mail = '5EC'", "", 'unique constraint "item_mail_key" (Key (mail)=(masked) already'),
    "check": ("updated=2", "UPDATE item SET n = 50", "ALTER TABLE item ADD CHECK (n < 9);", 'check constraint "item_n_check" [SQLSTATE'),
    "cast": ("updated=2", "UPDATE item SET n = note::integer", "", 'for type integer: "(masked)"'),
    "raised": ("updated=2", "UPDATE item SET n = 5", TRIGGER.format("RAISE '%', NEW.mail;"), "at RAISE is left out: it may hold values"),
    "dynamic": ("updated=2", "DO $d$ DECLARE v text; BEGIN SELECT note INTO v FROM item; EXECUTE 'SELECT 1/0, ' || quote_literal(v); END $d$", "",
                "division by zero"),
    "another identity": ('key="id", identity={"who": "mail"}, updated={1: "declared"}', "UPDATE item SET n = 5 WHERE id = 1", "", "1 who is (masked)"),
    "post-condition": ('ensure="note::integer = 1", updated=2', "UPDATE item SET n = 5", "", 'for type integer: "(masked)"'),
    "deferred": ("updated=2", "UPDATE item SET mail = '5EC'", "ALTER TABLE item DROP CONSTRAINT item_mail_key,"
                 " ADD CONSTRAINT u UNIQUE (mail) DEFERRABLE INITIALLY DEFERRED;", 'constraint "u" (Key (mail)=(masked) already'),
}  # fmt: skip


@pytest.mark.parametrize("offline", [False, True], ids=["online", "one script"])
@pytest.mark.parametrize("case", BODIES, ids=list(BODIES))
def test_a_recorded_fix_that_fails(tmp_path: Path, database: Database, case: str, offline: bool) -> None:
    table, body, setup, said = BODIES[case]
    up = f"with op.record_datafix(fix) as body:\n    body.execute({body!r})"
    project = laid(tmp_path, database, up, RECORDED.format(table), setup)
    log = Log.of(database)
    if offline:
        done = database.psql(project.script("a:b", *MASK), "-v", "ON_ERROR_STOP=1", check=False)
        is_silent(
            database,
            log,
            Ran(done.returncode, done.stdout, done.stderr),
            said.split(" (Key")[0].split(" [")[0],
        )
    else:
        is_silent(database, log, project.alembic(*MASK, "upgrade", "head"), said)


def test_the_other_driver_is_told_the_same(tmp_path: Path, database: Database) -> None:
    table, body, setup, said = BODIES["duplicate"]
    up = f"with op.record_datafix(fix) as body:\n    body.execute({body!r})"
    project = laid(tmp_path, database, up, RECORDED.format(table), setup).on(database, "psycopg")
    log = Log.of(database)
    is_silent(database, log, project.alembic(*MASK, "upgrade", "head"), said)


def test_a_masked_key_of_a_recorded_fix(tmp_path: Path, database: Database) -> None:
    top = 'fix = RecordedFix(name="f", reason="r", tables=[Table("person", "person_audit", key="mail", updated=["declared"])])'
    up = "with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE person SET status = 'x'\")"
    project = laid(tmp_path, database, up, top)
    log = Log.of(database)
    is_silent(
        database, log, project.alembic(*MASK, "upgrade", "head"), "(masked) was updated, and is not named"
    )


@pytest.mark.parametrize("said", ["op.execute", "op.get_bind().exec_driver_sql"])
def test_statements_that_are_sent_by_themselves_say_no_values_to_people(
    tmp_path: Path, database: Database, said: str
) -> None:
    """The server has logged them by then: docs/limits.md says so."""
    up = f"with op.record_datafix(fix):\n    {said}(\"UPDATE item SET mail = '5EC'\")"
    project = laid(tmp_path, database, up, RECORDED.format("updated=2"))
    database.execute("UPDATE item SET mail = '5EC' WHERE id = 1")
    database.execute("ALTER TABLE item ADD CHECK (mail <> '5EC') NOT VALID")
    for ran in (project.alembic(*MASK, "upgrade", "head"), datafixes(project, *MASK, "plan")):
        assert "CheckViolation of item_mail_check of item" in " ".join((ran.out + ran.err).split())
        assert SECRET not in ran.out + ran.err
    assert SECRET not in str(database.rows("TABLE datafix_run"))


# What stands in the way of a revert: the statements after the fix, what is said.
LATER: dict[str, tuple[str, str]] = {
    "changed since": (f"UPDATE item SET note = '{SECRET}-later' WHERE id = 1", "1 changed since note (masked) (masked) (masked)"),
    "another row": (f"UPDATE item SET mail = '{SECRET}-other' WHERE id = 1", "1 taken"),
    "kept by a trigger": (TRIGGER.format(f"NEW.note := '{SECRET}-kept';"), "prevents values from being restored: 1: note is (masked)"),
    "raised": (TRIGGER.format("RAISE '%', NEW.note;"), "at RAISE is left out: it may hold values"),
    "check": ("ALTER TABLE item ADD CHECK (note ~ '^declared') NOT VALID", 'check constraint "item_note_check" [SQLSTATE 23514]'),
    "cannot be compared": (f"UPDATE item SET secret = '{SECRET}' WHERE id = 1", 'for type bigint: "(masked)"'),
}  # fmt: skip


@pytest.mark.parametrize("case", LATER, ids=list(LATER))
def test_a_revert_that_is_refused(tmp_path: Path, database: Database, case: str) -> None:
    identity = '{"who": "mail", "which": "secret::bigint"}'
    top = update(
        '{"note": "declared"}', f"Rows(key='id', identity={identity}, expect={{1: ('declared', 1), 2: ('declared', 1)}})"
    )  # fmt: skip
    setup = "UPDATE item SET mail = 'declared', secret = '1'; "
    project = laid(
        tmp_path,
        database,
        "op.apply_datafix(fix)",
        top,
        "ALTER TABLE item DROP CONSTRAINT item_mail_key; " + setup,
    )
    ran = project.alembic(*MASK, "upgrade", "head")
    assert ran.code == 0, ran.err
    database.execute(LATER[case][0])
    hidden = ("--mask", "mail", "--mask", "note", "--mask", "secret")
    for tool, arguments in (
        (Project.alembic, (*MASK, "downgrade", "a")),
        (datafixes, (*MASK, "revert", "f")),
        (datafixes, ("plan", "--downgrade", "a", *hidden)),
    ):
        log = Log.of(database)
        is_silent(database, log, tool(project, *arguments), LATER[case][1])


def test_rows_without_a_key(tmp_path: Path, database: Database) -> None:
    top = 'fix = RecordedFix(name="f", reason="r", tables=[Table("loose", "loose_audit", inserted=1, deleted=1)])'
    up = "with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE loose SET mail = mail || 'x'\")"
    project = laid(tmp_path, database, up, top)
    masks = ("-x", "mask=loose.note")
    assert project.alembic(*masks, "upgrade", "head").code == 0
    database.execute("UPDATE loose SET mail = 'other'")
    log = Log.of(database)
    is_silent(database, log, project.alembic(*masks, "downgrade", "a"), '("(masked)",mx) gone')
    database.execute(
        "UPDATE loose SET mail = 'mx'",
        f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN NEW.note := '{SECRET}-kept'; RETURN NEW; END $f$",
        "CREATE TRIGGER act BEFORE INSERT ON loose FOR EACH ROW EXECUTE FUNCTION act()",
    )
    log = Log.of(database)
    ran = project.alembic(*masks, "downgrade", "a")
    is_silent(database, log, ran, 'prevents values from being restored: ("(masked)",m)')


def test_a_rounded_value_is_not_told(tmp_path: Path, database: Database) -> None:
    """It stands in the revision, and so in the text of the statement that PostgreSQL logs; nowhere else."""
    top = update(f'{{"note": "{SECRET} too long"}}')
    project = laid(
        tmp_path,
        database,
        "op.apply_datafix(fix)",
        top,
        "UPDATE item SET note = 'x'; ALTER TABLE item ALTER note TYPE char(9);",
    )
    ran = project.alembic(*MASK, "upgrade", "head")
    assert ran.code != 0
    assert SECRET not in ran.out + ran.err + str(database.rows("SELECT error FROM datafix_run"))


def test_rows_that_are_as_wanted_already_are_not_told_by_a_masked_key(
    tmp_path: Path, database: Database
) -> None:
    rows = f'Rows(key="mail", expect=["{SECRET}-p", "{SECRET}-q"], already="status = \'done\'", already_at_most=1)'
    project = laid(tmp_path, database, "op.apply_datafix(fix)", update('{"status": "done"}', rows, table="person", where="status = 'open'"),
                   f"UPDATE person SET status = 'done' WHERE mail = '{SECRET}-p';")  # fmt: skip
    ran = project.alembic(*MASK, "upgrade", "head")
    assert ran.code == 0, ran.err
    assert "1 already as wanted" in ran.err
    assert SECRET not in ran.out + ran.err + str(database.rows("TABLE datafix_run"))


def test_statements_that_are_tried_say_no_values(tmp_path: Path, database: Database) -> None:
    project = laid(tmp_path, database, "pass", update('{"n": 5}'))
    project.alembic("upgrade", "head")
    (tmp_path / "x.sql").write_text("UPDATE item SET mail = '5EC'")
    ran = datafixes(project, *MASK, "new", "x", "--sql", str(tmp_path / "x.sql"), "--reason", "r")
    assert ran.code != 0
    assert "UniqueViolation of item_mail_key of item" in ran.err
    assert SECRET not in ran.out + ran.err


def test_locks_are_tried_for_again_as_ever(tmp_path: Path, database: Database) -> None:
    project = laid(tmp_path, database, "op.apply_datafix(fix)", update('{"n": 5}'))
    other = database.connect()
    try:
        other.cursor().execute("SELECT FROM item FOR UPDATE")
        told = ("-x", "lock_timeout=200ms", "-x", "lock_attempts=2", "-x", "lock_pause=100ms")
        ran = project.alembic(*MASK, *told, "upgrade", "head")
    finally:
        other.close()
    assert "canceling statement due to lock timeout (attempt 1 of 2)" in ran.err
    assert "blocked by: pid" in ran.err
    assert ran.code != 0


def test_without_masks_everything_is_told(tmp_path: Path, database: Database) -> None:
    top, setup, _ = DECLARED["duplicate"]
    project = laid(tmp_path, database, "op.apply_datafix(fix)", top, setup)
    assert "Key (note, status)=(5EC, open) already exists." in project.alembic("upgrade", "head").out


@pytest.mark.parametrize(
    "mask",
    ["mail", "MAIL", "item.*", "public.item.m*", "*", "m?il", "[lm]ail", "[!lm]ail", "[!^m]ail", "[]m]ail", "[m-]ail", "m[ail", "x", "m.il",
     "ma*", "(mail|x)", "a\\ma*l", "i$em", "\u00c9*", "odd.na*", "odd na*", "it*.mail", "item.it*.mail", "{2}", "***:mail", "^mail", "m[\\w]il"],
)  # fmt: skip
def test_the_server_masks_what_plans_mask(database: Database, mask: str) -> None:
    columns = ["mail", "Mail", "lail", "m[ail", "]ail", "^ail", "a\\mail", "i$em", "\u00c9t\u00e9", "odd.name", "odd name", "m.il", "-ail",
               "***:mail", "x", "(mail|x)", "{2}"]  # fmt: skip
    for table in ("item", "It.em"):
        wanted = [column for column in columns if View(masks=(mask,)).hides(f"public.{table}", column)]
        asked = "SELECT c FROM unnest(%s) AS c WHERE lower(concat_ws('.', 'public', %s, c)) ~ %s"
        with closing(database.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(asked, (columns, table, pattern_of((mask,))))
            assert [column for (column,) in cursor.fetchall()] == wanted
