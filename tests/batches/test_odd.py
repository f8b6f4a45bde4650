"""Odd keys, tables, sessions and roles: every row is changed once, or one line says before the first batch why not."""

from pathlib import Path

import pytest

from tests.batches.many import FIX, many_project
from tests.projects import Project
from tests.servers import Database

# name → columns of the key, its constraint, the key of row n, Rows(key=...)
KEYS = {
    "composite": ("a integer, b text", "PRIMARY KEY (b, a)", "n % 7, 'k' || n", '("b", "a")'),
    "text in C": ('k text COLLATE "C"', "PRIMARY KEY (k)", "chr(33 + n % 90) || n", '"k"'),
    "text with quotes": ("k text", "PRIMARY KEY (k)", "E'it''s\\\\ \\n' || n", '"k"'),
    "uuid": ("k uuid", "PRIMARY KEY (k)", "md5(n::text)::uuid", '"k"'),
    "numeric": ("k numeric", "PRIMARY KEY (k)", "n / 3.0", '"k"'),
    "timestamptz": ("k timestamptz", "PRIMARY KEY (k)", "'2024-03-31 00:00+00'::timestamptz + n * interval '7.3 min'", '"k"'),
    "bytea": ("k bytea", "PRIMARY KEY (k)", "decode(md5(n::text), 'hex')", '"k"'),
    "interval": ("k interval", "PRIMARY KEY (k)", "n * interval '-1.5 days'", '"k"'),
    "odd name": ('"K ""y%s{{" integer', 'PRIMARY KEY ("K ""y%s{{")', "n", "'K \"y%s{{'"),
}  # fmt: skip


def odd_table(columns: str, constraint: str, key: str, *, more: str = "") -> str:
    named = columns.replace("integer", "").replace("text", "")
    return (
        f"CREATE TABLE many ({columns}, v bigint NOT NULL, done boolean NOT NULL DEFAULT false, {constraint}) {more};\n"
        f"INSERT INTO many SELECT {key}, n, false FROM generate_series(1, 1000) AS n; -- {named}\n"
    )


def in_key(key: str, batches: str = "rows=40, workers=2") -> str:
    return FIX.format(batches=batches).replace('key="id"', f"key={key}")


def every_row_once(project: Project) -> None:
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (0, {"n"}), ran.out + ran.err
    [numbers] = project.database.rows(
        "SELECT count(*), count(*) FILTER (WHERE done), sum(v), (SELECT count(*) FROM many_audit) FROM many"
    )
    assert numbers == (1_000, 1_000, 1_000 * 1_001, 2_000)
    assert project.database.value("SELECT count(*) FROM datafix_run WHERE part_of IS NOT NULL") >= 25


@pytest.mark.parametrize("name", KEYS)
def test_any_key_that_has_an_order(name: str, tmp_path: Path, database: Database) -> None:
    columns, constraint, row, key = KEYS[name]
    project = many_project(tmp_path, database, table=odd_table(columns, constraint, row), top=in_key(key))
    every_row_once(project)


def test_a_descending_index(tmp_path: Path, database: Database) -> None:
    table = odd_table("k integer NOT NULL", "CHECK (true)", "n") + "CREATE UNIQUE INDEX ON many (k DESC);"
    every_row_once(many_project(tmp_path, database, table=table, top=in_key('"k"')))


def test_a_partitioned_table(tmp_path: Path, database: Database) -> None:
    table = odd_table("k integer", "PRIMARY KEY (k)", "n", more="PARTITION BY HASH (k)").replace(
        "INSERT", "".join(f"CREATE TABLE p{n} PARTITION OF many FOR VALUES WITH (MODULUS 3, REMAINDER {n});\n" for n in range(3)) + "INSERT"
    )  # fmt: skip
    every_row_once(many_project(tmp_path, database, table=table, top=in_key('"k"')))


SIMPLE = odd_table("k integer", "PRIMARY KEY (k)", "n")


@pytest.mark.parametrize(
    "setting",
    [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_isolation = 'repeatable read'",
        "search_path = other, public",
        "statement_timeout = '2s'",
        "lock_timeout = '100ms'",
        "idle_in_transaction_session_timeout = '500ms'",
        "DateStyle = 'SQL, DMY'",
        "default_transaction_deferrable = on",
        "client_min_messages = error",
    ],
)
def test_settings_of_the_database(setting: str, tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, table=SIMPLE, top=in_key('"k"'))
    database.execute(f"ALTER DATABASE {database.name} SET {setting}")
    every_row_once(project)


def test_a_read_only_default_is_one_line(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, table=SIMPLE, top=in_key('"k"'))
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 255
    assert "read-only transaction" in ran.last_line


@pytest.mark.parametrize("workers", [1, 2])
def test_triggers_that_do_not_fire(workers: int, tmp_path: Path, database: Database) -> None:
    trigger = (
        "CREATE FUNCTION nope() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fired''; END';\n"
        "CREATE TRIGGER nope BEFORE UPDATE ON many FOR EACH ROW EXECUTE FUNCTION nope();\n"
    )
    top = in_key('"k"', f"rows=40, workers={workers}").replace(
        'audit="many_audit"', 'audit="many_audit", fire_triggers=False'
    )
    every_row_once(many_project(tmp_path, database, table=SIMPLE + trigger, top=top))
    assert database.value("SELECT tgenabled FROM pg_trigger WHERE tgname = 'nope'") == "O"


@pytest.mark.parametrize("moment", ["ddl_command_start", "ddl_command_end", "sql_drop"])
def test_an_event_trigger_finds_its_names_in_batches(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """They are unqualified, as after any other statement of the session; a batch of another fix may have been left there, too."""
    top = in_key('"k"').replace('audit="many_audit"', 'audit="many_audit", may_differ=["seen"]')
    project = many_project(tmp_path, database, table=f"CREATE TABLE seen (tag text); {SIMPLE}", top=top)
    database.execute(
        "CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (tg_tag); END'",
        f"CREATE EVENT TRIGGER see ON {moment} EXECUTE FUNCTION see()",
    )
    every_row_once(project)
    assert database.value("SELECT count(*) FROM seen WHERE tag ~ 'TABLE'") > 0


REFUSED = {
    "mixed directions": (odd_table("a integer NOT NULL, b integer NOT NULL", "CHECK (true)", "n % 7, n")
                         + "CREATE UNIQUE INDEX ON many (a, b DESC);", '("a", "b")', "", "no index gives the rows"),
    "no index": (odd_table("k integer NOT NULL", "CHECK (true)", "n"), '"k"', "", "k"),
    "a unique column is written": (SIMPLE + "CREATE UNIQUE INDEX once ON many (v);", '"k"', "", "which the unique index public.once reads"),
    "an expression of it": (SIMPLE + "CREATE UNIQUE INDEX once ON many ((v + 1));", '"k"', "", "which the unique index public.once reads"),
    "a deferred constraint": (SIMPLE + "ALTER TABLE many ADD CONSTRAINT once UNIQUE (v) DEFERRABLE INITIALLY DEFERRED;", '"k"', "",
                              "which the unique index public.once reads"),
    "an exclusion": (SIMPLE + "ALTER TABLE many ADD CONSTRAINT once EXCLUDE USING btree (v WITH =);", '"k"', "", "index public.once reads"),
    "a deferred trigger": (SIMPLE + "CREATE FUNCTION whole() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
                           "CREATE CONSTRAINT TRIGGER whole AFTER UPDATE ON many DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
                           " EXECUTE FUNCTION whole();", '"k"', "", "deferred constraint trigger whole"),
    "a delete within a tree": (SIMPLE + "ALTER TABLE many ADD parent integer REFERENCES many;", '"k"',
                               'Delete("many", where="NOT done")', "rows of public.many refer to rows of the same table"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_batches_cannot_do_is_refused_before_the_first(
    name: str, tmp_path: Path, database: Database
) -> None:
    table, key, change, words = REFUSED[name]
    top = in_key(key)
    if change:
        top = top.replace('Update("many", set={"v": sql("v * 2"), "done": True}, where="NOT done")', change)
        top = top.replace(', ensure="done"', "")
    project = many_project(tmp_path, database, table=table, top=top)
    before = database.rows("SELECT * FROM many ORDER BY v")

    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (255, {"m"}), ran.out + ran.err
    assert words in ran.last_line, ran.last_line
    assert database.rows("SELECT * FROM many ORDER BY v") == before
    assert database.value("SELECT count(*) FROM many_audit") == 0
    assert database.value("SELECT count(*) FROM datafix_run WHERE outcome <> 'failed'") == 0


def test_a_transaction_of_the_caller_is_refused(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, table=SIMPLE, top=in_key('"k"'))
    project.env(
        "from alembic import context\nimport sqlalchemy as sa\nimport datafixes.operations\n"
        f"with sa.create_engine({project.url!r}).connect() as connection:\n"
        "    connection.execute(sa.text('SELECT 1'))\n"
        "    context.configure(connection=connection)\n"
        "    with context.begin_transaction():\n        context.run_migrations()\n"
    )
    ran = project.alembic("upgrade", "head")
    assert ran.code == 255, ran.out + ran.err
    assert "batches commit, but this transaction is the caller's" in ran.last_line
    assert database.value("SELECT count(*) FROM many WHERE done") == 0
