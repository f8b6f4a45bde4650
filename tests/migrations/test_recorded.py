"""`with op.record_datafix(fix):` in migrations: bodies in SQL and in Python, online and as a script, and bodies that are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.projects import ENV, STOCK_ENV, Project, project_with_fix
from tests.servers import LEDGER, Database
from tests.tampering import TRIGGERS

FIX = """
from datafixes import RecordedFix, Table

fix = RecordedFix(
    name="repair_items",
    reason="Entered twice.",
    tables=[Table("item", "item_audit", updated=1, deleted=1{table})],{more}
)
"""
MERGE = """
with op.record_datafix(fix) as body:
    body.execute("UPDATE item SET amount = amount + 20 WHERE id = 1")
    body.execute("DELETE FROM item WHERE id = 2")
"""


def recorded(
    directory: Path,
    database: Database,
    body: str = MERGE,
    *,
    table: str = "",
    more: str = "",
    env: str | None = None,
) -> Project:
    """A project whose revision `b` records a fix."""
    top = FIX.format(table=table, more=more)
    return project_with_fix(directory, database, **({"env": env} if env else {}), up=body, top=top)


def inside(*lines: str) -> str:
    """A body of these lines."""
    return "with op.record_datafix(fix) as body:\n" + "\n".join(f"    {line}" for line in lines)


def refused(project: Project, *words: str, script: bool = False) -> None:
    """The upgrade, or the script, fails with one clear line and changes nothing."""
    before = project.database.dump(*LEDGER)
    ran = project.alembic("upgrade", *(("a:b", "--sql") if script else ("head",)))
    assert ran.code not in (0, None)
    assert "Traceback" not in ran.out + ran.err
    [line] = [line for line in (ran.out + ran.err).splitlines() if line.startswith("FAILED: ")]
    assert [word for word in words if word not in line] == [], line
    assert project.database.dump(*LEDGER) == before
    assert project.versions == {"a"}
    assert not project.database.rows(
        f"SELECT tgname FROM pg_trigger WHERE tgname ~ '^datafix' AND tgname NOT IN {TRIGGERS}"
    )


def test_up_down_up_online_and_as_a_script(tmp_path: Path, database: Database) -> None:
    project = recorded(tmp_path, database)
    before = database.dump("public.item_audit", "public.alembic_version", *LEDGER)
    for way in ("online", "script", "online"):
        if way == "online":
            assert project.alembic("upgrade", "head").code == 0
        else:
            database.psql(project.script("a:b"), "-v", "ON_ERROR_STOP=1")
        assert database.rows("SELECT id, amount::int FROM item ORDER BY id") == [(1, 30), (3, 30)]
        assert project.versions == {"b"}
        assert project.alembic("downgrade", "a").code == 0
        assert database.dump("public.item_audit", "public.alembic_version", *LEDGER) == before
    assert project.outcomes == ["applied", "reverted"] * 3


def test_the_log_tells_what_the_statements_did(tmp_path: Path, database: Database) -> None:
    ran = recorded(tmp_path, database).alembic("upgrade", "head")
    assert "datafix repair_items: applied: 2 found, 2 changed (run 1)" in ran.err
    assert "1: amount 10.00 → 30.00" in ran.err


def test_values_computed_in_python_and_keys_that_later_statements_use(
    tmp_path: Path, database: Database
) -> None:
    body = inside(
        "bind = op.get_bind()",
        "rows = bind.execute(sa.text('SELECT id, amount FROM item WHERE id < :n ORDER BY id'), {'n': 3}).all()",
        "total = sum(amount for _, amount in rows)",
        "bind.execute(sa.text('UPDATE item SET amount = :t, note = :n WHERE id = 1'), {'t': total, 'n': \"100% 'sure' :x\"})",
        "op.execute('DELETE FROM item WHERE id = 2')",
    )
    project = recorded(tmp_path, database, body)
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows("SELECT id, amount::int, note FROM item ORDER BY id") == [
        (1, 30, "100% 'sure' :x"),
        (3, 30, None),
    ]
    assert project.alembic("downgrade", "a").code == 0
    assert database.rows("SELECT id, amount::int, note FROM item ORDER BY id") == [
        (1, 10, None),
        (2, 20, "x"),
        (3, 30, None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "rows = op.get_bind().execute(sa.text('SELECT id FROM item')).all()",
        "for row in op.get_bind().execute(sa.text('SELECT id FROM item')): pass",
        "sa.inspect(op.get_bind()).get_table_names()",
        "op.get_bind().scalar(sa.text('SELECT 1'))",
        "op.get_bind().execute(sa.text('UPDATE item SET amount = :a'), {'a': 1})",
        "[row.id for row in op.get_bind().exec_driver_sql('SELECT 1')]",
        "n = len(op.get_bind().execute(sa.text('SELECT 1')).fetchall()) + undefined_name",
        "op.execute('''UPDATE item SET note = '{\"a\":true}' ''')",
    ],
)
def test_b12_a_body_that_works_in_python_with_the_database_is_no_script(
    tmp_path: Path, database: Database, line: str
) -> None:
    project = recorded(tmp_path, database, inside(line))
    ran = project.alembic("upgrade", "a:b", "--sql")
    assert ran.code not in (0, None)
    assert "datafix repair_items: its body cannot become a script: " in ran.last_line
    assert "UPDATE" not in ran.out


def test_b9_b10_b11_the_text_of_a_body_is_the_same_online_and_in_a_script(
    tmp_path: Path, database: Database
) -> None:
    odd = 'tab\\there 100% %s %% $x$ {"a":1} back\\\\slash \\u00e9'
    body = inside(
        f"body.execute(\"UPDATE item SET note = '{odd.replace(chr(34), chr(92) + chr(34))}' WHERE id = 1; DELETE FROM item WHERE id = 2;\")",
    )
    project = recorded(tmp_path, database, body)
    assert project.alembic("upgrade", "head").code == 0
    online = database.value("SELECT note FROM item WHERE id = 1")
    project.alembic("downgrade", "a")
    database.psql(project.script("a:b"), "-v", "ON_ERROR_STOP=1")
    assert (
        database.value("SELECT note FROM item WHERE id = 1")
        == online
        == odd.encode().decode("unicode_escape")
    )
    project.alembic("downgrade", "a")
    operation = inside(
        "op.execute(\"UPDATE item SET note = 'tab\\there 100%' WHERE id = 1\")",
        "op.execute('DELETE FROM item WHERE id = 2')",
    )
    project.revision("b", "a", operation, "op.revert_datafix(fix)", top=FIX.format(table="", more=""))
    database.psql(project.script("a:b"), "-v", "ON_ERROR_STOP=1")
    assert database.value("SELECT note FROM item WHERE id = 1") == "tab\there 100%"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("op.get_bind().commit()", "commit()"),
        ("op.get_bind().rollback()", "rollback()"),
        ("op.execute('COMMIT')", "COMMIT"),
        ("body.execute('ROLLBACK')", "ROLLBACK"),
        ("body.execute('UPDATE item SET amount = 1; /* x */ COMMIT; DELETE FROM item')", "COMMIT"),
        ("body.execute('SELECT 1; rollback; DELETE FROM item')", "ROLLBACK"),
        ("op.get_context().autocommit_block().__enter__()", "commit()"),
    ],
)
def test_b24_a_body_that_ends_the_transaction_is_refused(
    tmp_path: Path, database: Database, line: str, words: str
) -> None:
    first = "body.execute('DELETE FROM item WHERE id = 2')"
    refused(recorded(tmp_path, database, inside(first, line)), f"its body runs {words}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SET search_path = pg_catalog", "search_path was"),
        ("SET LOCAL search_path = public, pg_temp", "search_path was"),
        ("SET ROLE other", "the current role was postgres and is other"),
        ("SET session_replication_role = replica", "session_replication_role"),
        ("SET session_replication_role = replica; UPDATE item SET amount = 0; SET session_replication_role = origin",
         "its statements set session_replication_role to replica"),
        ("ALTER TABLE item DISABLE TRIGGER ALL; UPDATE item SET amount = 0; ALTER TABLE item ENABLE TRIGGER ALL", "alter public.item"),
        ("ALTER TABLE item DISABLE TRIGGER datafix_update", "alter public.item"),
        ("DROP TRIGGER datafix_update ON item", "alter public.item"),
        ("ALTER TABLE item ADD COLUMN more integer", "alter public.item"),
        ("CREATE INDEX ON item (amount)", "alter public.item"),
        ("TRUNCATE item", "TRUNCATE of"),
        ("TRUNCATE other", "other (truncated, altered or dropped)"),
        ("DROP TABLE other", "other (truncated, altered or dropped)"),
        ("ALTER TABLE other DROP COLUMN v", "other (truncated, altered or dropped)"),
        ("CREATE TABLE copy AS TABLE item", "public.copy (3 inserted)"),
        ("INSERT INTO other VALUES (1)", "other (1 inserted)"),
        ("SELECT lo_from_bytea(0, 'x')", "pg_largeobject (1 inserted)"),
        ("DROP TABLE pg_temp.datafix_seen_1", "datafix_seen_1"),
        ("UPDATE item SET amount = 1 / 0", "division by zero"),
        ("UPDATE nothing SET x = 1", 'relation "nothing" does not exist'),
        ("SET track_counts = off", "track_counts was on and is off"),
    ],
)  # fmt: skip
def test_a_body_that_does_more_than_change_rows_is_refused(
    tmp_path: Path, database: Database, line: str, words: str
) -> None:
    project = recorded(tmp_path, database, inside(f"body.execute({line!r})"))
    database.execute(
        "CREATE TABLE other (v integer)",
        "INSERT INTO other VALUES (7)",
        "DROP ROLE IF EXISTS other",
        "CREATE ROLE other",
    )
    database.execute("GRANT ALL ON item TO other")
    try:
        refused(project, "datafix repair_items: ", words)
        assert project.outcomes == ["failed"]
    finally:
        database.execute("DROP OWNED BY other", "DROP ROLE other")


def test_a_fix_inside_a_fix_is_refused(tmp_path: Path, database: Database) -> None:
    top = FIX.format(table="", more="") + (
        "inner = DataFix(name='inner', reason='x', change=Update('item', set={'note': 'y'}),"
        " rows=Rows(key='id', expect=[1]), audit='item_audit')\n"
        "second = RecordedFix(name='second', reason='x', tables=[Table('item', 'item_audit', updated=1)])\n"
    )
    project = project_with_fix(tmp_path, database, up=inside("op.apply_datafix(inner)"), top=top)
    refused(project, "datafix inner: another fix is being recorded")
    project.revision("b", "a", inside("with op.record_datafix(second): pass"), top=top)
    refused(project, "datafix second: another fix is being recorded")
    refused(project, "datafix second: another fix is being recorded", script=True)
    project.revision("b", "a", "op.apply_datafix(fix)", top=top)
    refused(project, "datafix repair_items: it is a RecordedFix. Use with op.record_datafix(fix)")
    project.revision("b", "a", "with op.record_datafix(inner): pass", top=top)
    refused(project, "datafix inner: it is a DataFix. Use op.apply_datafix(fix)")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("UPDATE item SET amount = 0 WHERE id = 1", "public.item: 0 deleted, expected 1"),
        ("UPDATE item SET amount = 0; DELETE FROM item WHERE id = 2", "public.item: 2 updated, expected 1"),
        (
            "DELETE FROM item WHERE id IN (1, 2); INSERT INTO item VALUES (9, 'a', 'b')",
            "1 inserted, expected 0; public.item: 0 updated",
        ),
    ],
)
def test_other_rows_than_expected_are_refused(
    tmp_path: Path, database: Database, body: str, words: str
) -> None:
    refused(recorded(tmp_path, database, inside(f"body.execute({body!r})")), words)


def test_a_statement_that_changes_nothing_where_something_was_expected(
    tmp_path: Path, database: Database
) -> None:
    nothing = inside("body.execute('UPDATE item SET amount = amount WHERE id = 1')")
    refused(recorded(tmp_path / "required", database, nothing, more="required=True,"),
            "its statements changed nothing, and 2 rows were expected to change")  # fmt: skip


def test_rows_that_are_named_and_here_must_change(tmp_path: Path, database: Database) -> None:
    named = FIX.format(table="", more="").replace(
        "updated=1, deleted=1",
        "key='id', updated={1: 'QCOM'}, deleted={2: 'NOW'}, identity={'symbol': 'symbol'}",
    )
    project = project_with_fix(
        tmp_path, database, up=inside("body.execute('UPDATE item SET amount = 0 WHERE id = 7')"), top=named
    )
    refused(
        project, "its statements changed nothing, though 2 of the rows of public.item that it names exist"
    )
    for body, words in {
        "UPDATE item SET amount = 0 WHERE id IN (1, 2)": "2 was updated, not deleted",
        "UPDATE item SET amount = 0 WHERE id = 1; DELETE FROM item WHERE id = 3": "2 was not deleted; 3 was deleted, and is not named",
    }.items():
        project.revision("b", "a", inside(f"body.execute({body!r})"), "op.revert_datafix(fix)", top=named)
        refused(project, words)
    database.execute("UPDATE item SET symbol = 'AAPL' WHERE id = 2")
    project.revision("b", "a", MERGE, "op.revert_datafix(fix)", top=named)
    refused(project, "2 symbol is AAPL, not NOW")
    database.execute("DELETE FROM item")
    assert project.alembic("upgrade", "head").code == 0
    assert project.outcomes[-1] == "not_applicable"
    assert project.alembic("downgrade", "a").code == 0


def test_an_empty_database_is_not_applicable(tmp_path: Path, database: Database) -> None:
    project = recorded(tmp_path, database)
    database.execute("DELETE FROM item")
    database.psql(project.script("a:b"), "-v", "ON_ERROR_STOP=1")
    assert (project.versions, project.outcomes) == ({"b"}, ["not_applicable"])


@pytest.mark.parametrize("where", ["table", "fix"])
def test_post_conditions_of_a_table_and_of_the_fix(tmp_path: Path, database: Database, where: str) -> None:
    condition = ", ensure='amount > 100 -- much'" if where == "table" else ""
    whole = "ensure='NOT EXISTS (SELECT FROM item WHERE id = 3) -- gone'," if where == "fix" else ""
    refused(
        recorded(tmp_path, database, table=condition, more=whole),
        "1 of the changed rows of public.item do not meet the post-condition: amount > 100"
        if where == "table" else "after its statements, this condition does not hold: NOT EXISTS",
    )  # fmt: skip


def test_b3_psql_that_goes_on_after_errors_keeps_nothing_of_a_body_that_failed(
    tmp_path: Path, database: Database
) -> None:
    body = inside("body.execute('DELETE FROM item WHERE id = 2')", "body.execute('UPDATE item SET amount = 1 WHERE id = 1')",
                  "body.execute('SELECT 1 / 0')")  # fmt: skip
    project = recorded(tmp_path, database, body)
    before = database.dump(*LEDGER)
    for on in ("on", "off"):
        database.psql(f"\\set ON_ERROR_ROLLBACK {on}\n{project.script('a:b')}", check=False)
        assert database.dump(*LEDGER) == before
        assert project.versions == {"a"}


def test_a_body_that_raises_keeps_nothing_even_if_somebody_swallows_the_error(
    tmp_path: Path, database: Database
) -> None:
    raising = inside("body.execute('DELETE FROM item WHERE id = 2')", "raise KeyError('lost')")
    project = recorded(tmp_path, database, raising)
    before = database.dump(*LEDGER)
    ran = project.alembic("upgrade", "head")
    assert (ran.code, "KeyError" in ran.err) == (1, True)
    swallowed = (
        "try:\n" + "\n".join(f"    {line}" for line in raising.splitlines()) + "\nexcept KeyError:\n    pass"
    )
    project.revision("b", "a", swallowed, top=FIX.format(table="", more=""))
    ran = project.alembic("upgrade", "head")
    assert ran.code != 0
    assert "its body failed: KeyError: 'lost'" in ran.last_line
    assert database.dump(*LEDGER) == before
    assert project.outcomes == ["failed", "failed"]


def test_only_the_owner_can_record_a_table(tmp_path: Path, database: Database) -> None:
    project = recorded(tmp_path, database)
    database.execute(
        "CREATE ROLE guest LOGIN",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO guest",
        "GRANT CREATE ON SCHEMA public TO guest",
    )
    try:
        ran = project.alembic("-x", f"url={database.url_for('guest')}", "upgrade", "head")
        assert (
            "public.item belongs to postgres, and only its owner can record what happens to it"
            in ran.last_line
        )
        assert database.value("SELECT count(*) FROM item") == 3
    finally:
        database.execute("DROP OWNED BY guest", "DROP ROLE guest")


@pytest.mark.parametrize("env", [STOCK_ENV, ENV], ids=["one transaction for all", "one for each"])
def test_two_recorded_fixes_and_a_declared_one_after_each_other(
    tmp_path: Path, database: Database, env: str
) -> None:
    project = recorded(tmp_path, database, env=env)
    second = FIX.format(table="", more="").replace("repair_items", "second").replace(", deleted=1", "")
    project.revision(
        "c",
        "b",
        inside("body.execute('UPDATE item SET note = 1 WHERE id = 3')"),
        "op.revert_datafix(fix)",
        top=second,
    )
    third = "fix = DataFix(name='third', reason='x', change=Update('item', set={'note': 'y'}), rows=Rows(key='id', expect=[3]), audit='item_audit')"
    project.revision("d", "c", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=third)
    before = database.dump("public.item_audit", "public.alembic_version", *LEDGER)
    for _ in range(2):
        ran = project.alembic("upgrade", "head")
        assert ran.code == 0, ran.out
        assert database.rows("SELECT id, note FROM item ORDER BY id") == [(1, None), (3, "y")]
        assert project.alembic("downgrade", "a").code == 0
        assert database.dump("public.item_audit", "public.alembic_version", *LEDGER) == before
    database.psql(project.script("a:d"), "-v", "ON_ERROR_STOP=1")
    assert project.versions == {"d"}


def test_b16_a_recorded_fix_works_with_psycopg_3_too(tmp_path: Path, database: Database) -> None:
    project = replace(recorded(tmp_path, database), driver="psycopg")
    project.write_ini()
    assert project.alembic("upgrade", "head").code == 0
    assert project.alembic("downgrade", "a").code == 0
    assert project.outcomes == ["applied", "reverted"]
