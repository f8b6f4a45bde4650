"""``history``, ``show``, ``row``, ``open``: what the auditor asks; the views of the same names say the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datafixes import DataFix, Rows, Update, sql
from tests.cli.commands import answer, datafixes
from tests.fixes import apply, create_audit_table
from tests.projects import Project, new_project, project_with_fix
from tests.servers import Database
from tests.small_book import session


def applied(directory: Path, database: Database) -> Project:
    project = project_with_fix(directory, database)
    assert project.alembic("-x", "application=build 7", "upgrade", "head").code == 0
    return project


def test_history_is_newest_first_and_knows_what_was_taken_back(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    project.alembic("downgrade", "a")
    project.alembic("upgrade", "head")
    database.execute("UPDATE item SET status = 'x'")
    project.alembic("downgrade", "a")
    runs = answer(project, "history")["runs"]
    assert [(r["run_id"], r["direction"], r["outcome"], r["reverted_by_run"]) for r in runs] == [
        (5, "revert", "failed", None),
        (3, "apply", "applied", None),
        (2, "revert", "reverted", None),
        (1, "apply", "applied", 2),
    ]
    assert [r["run_id"] for r in answer(project, "history", "--limit", "2")["runs"]] == [5, 3]
    assert runs[-1]["application"] == "build 7"
    assert [r["run_id"] for r in runs] == [n for (n,) in database.rows("SELECT run_id FROM datafix_history")]
    text = datafixes(project, "history").out
    assert "close_items" in text
    assert "reverted by 2" in text


def test_show_and_row_say_what_the_views_say(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    project.alembic("downgrade", "a")
    shown = answer(project, "show", "2")
    assert {
        (row["key"], row["kind"], c["name"], c["before"]["text"], c["after"]["text"])
        for row in shown["changes"][0]["rows"]
        for c in row["columns"]
    } == set(
        database.rows("SELECT key, change, column_name, before, after FROM datafix_show WHERE run_id = 2")
    )
    for name in ("item", "public.item"):
        changes = answer(project, "row", name, "1")["changes"]
        assert [(c["run_id"], c["column_name"], c["before"], c["after"]) for c in changes] == database.rows(
            "SELECT run_id, column_name, before, after FROM datafix_row WHERE target_table = 'public.item' AND key = '1'"
            " ORDER BY run_id DESC, audit_id"
        )
        assert {c["run_id"] for c in changes} == {1, 2}


def test_open_compares_each_fix_and_says_why_not(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    for arguments, tried in (((), False), (("--try",), True)):
        [fix] = answer(project, "open", *arguments)["fixes"]
        assert (fix["fix"], fix["can_be_reverted"], fix["tried"], fix["why"]) == (
            "close_items",
            True,
            tried,
            "",
        )
    before = database.dump()
    database.execute("DELETE FROM item WHERE id = 2")
    for arguments in ((), ("--try",)):
        [fix] = answer(project, "open", *arguments, code=3)["fixes"]
        assert not fix["can_be_reverted"]
        assert "2 gone" in fix["why"]
    assert database.value("SELECT count(*) FROM datafix_run") == 1
    assert {name: rows for name, rows in database.dump().items() if name != "public.item"} == {
        name: rows for name, rows in before.items() if name != "public.item"
    }
    [fix] = answer(project, "open", "--no-try")["fixes"]
    assert fix["can_be_reverted"] is None
    (project.directory / "migrations/versions/b.py").unlink()
    (project.directory / "migrations/versions/a.py").unlink()
    for arguments in ((), ("--try",)):
        [fix] = answer(project, "open", *arguments, code=3)["fixes"]
        assert "2 gone" in fix["why"]  # the ledger keeps what is needed


def test_open_waits_for_no_row_and_locks_none(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    with session(database, "SELECT * FROM item FOR UPDATE"):
        [fix] = answer(project, "open")["fixes"]
        assert fix["can_be_reverted"]
        [fix] = answer(project, "-x", "lock_timeout=100ms", "open", "--try", code=3)["fixes"]
        assert "lock" in fix["why"]


def test_many_rows_are_read_as_they_are_written(tmp_path: Path, database: Database) -> None:
    """Ten thousand rows take no more memory than a hundred: what a process holds at most, in MiB."""
    database.psql("CREATE TABLE big AS SELECT g AS id, repeat('x', 300) AS a, repeat('y', 300) AS b FROM generate_series(1, 10000) g;"
                  "ALTER TABLE big ADD PRIMARY KEY (id)")  # fmt: skip
    create_audit_table(database, "big", "big_audit")
    fix = DataFix(name="f", reason="r", change=Update("big", set={"a": sql("a || b"), "b": ""}, where="true"), rows=Rows(key="id", expect=10000),
                  audit="big_audit")  # fmt: skip
    apply(database, fix)
    program = (
        "import resource, sys; from datafixes.cli.main import run; code = run(sys.argv[1:]);"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    for command, ends in (("report", "</html>"), ("show", "}")):
        peak = {}
        for rows in (100, 10000):
            out = tmp_path / f"{command}-{rows}"
            arguments = ["-x", f"url={database.url}", command, "1", "--rows", str(rows), "--output", str(out)]
            arguments += ["--format", "json"] if command == "show" else []
            # from a small process: a child counts what its parent held when it was started
            ran = subprocess.run(
                ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True
            )  # fmt: skip
            code, peak[rows] = map(int, ran.stdout.split())
            assert code == 0
        assert out.stat().st_size > 10_000_000
        assert out.read_text().rstrip().endswith(ends)
        assert peak[10000] < peak[100] + 15, peak


def test_a_change_deep_inside_of_a_long_text_is_shown(tmp_path: Path, database: Database) -> None:
    """The part around the first difference is read, in every format; not two equal beginnings."""
    database.psql(
        "CREATE TABLE letter (id int PRIMARY KEY, code text, body text, data jsonb);"
        "INSERT INTO letter SELECT 1, 'A-17', repeat('the order was imported without tax; ', 30000) || 'net 19 % '"
        " || repeat('and nobody saw it; ', 30000), jsonb_build_object('pad', repeat('é', 12000), 'rate', 0.1900)"
    )
    create_audit_table(database, "letter", "letter_audit")
    change = Update(
        "letter",
        set={
            "body": sql("replace(body, 'net 19 %', 'net 7 %')"),
            "data": sql("jsonb_set(data, '{rate}', '0.07')"),
        },
        where="code = 'A-17'",
    )
    identity = {"code": "upper(letter.code) -- as on paper"}
    fix = DataFix(name="f", reason="See https://tickets.example/7.", change=change, audit="letter_audit",
                  rows=Rows(key="id", identity=identity, expect={1: "A-17"}))  # fmt: skip
    apply(database, fix)
    project = new_project(tmp_path, database)
    [shown] = answer(project, "show", "1")["changes"][0]["rows"]
    assert (shown["key"], shown["name"]) == ("1", "A-17")
    body = shown["columns"][0]
    assert body["before"]["characters"] == 30000 * 36 + 9 + 30000 * 19
    assert body["before"]["start"] == body["after"]["start"] == 30000 * 36 + 4 - 200
    assert body["before"]["text"][200:210] == "19 % and n"
    assert body["after"]["text"][200:209] == "7 % and n"
    whole = "without tax; net [-19-]{+7+} % and nobody saw it;"
    text = datafixes(project, "show", "1").out
    assert "Database  " in text
    assert "~ 1 A-17  updated" in text
    assert whole in " ".join(text.split())
    assert "[-0.1900-]{+0.07+}" in text
    assert whole in " ".join(datafixes(project, "row", "letter", "1").out.split())
    page = datafixes(project, "report", "1").out
    assert "net <mark>19</mark> %" in page
    assert 'href="https://tickets.example/7"' in page
    assert "A-17" not in datafixes(project, "show", "1", "--mask", "code", "--format", "json").out
    database.psql("CREATE ROLE writer_of_ledger; GRANT INSERT ON datafix_run TO writer_of_ledger")
    [shown] = answer(project, "show", "1")["changes"][0]["rows"]
    assert "name" not in shown  # it would be SQL of somebody else's
    database.psql("REVOKE ALL ON datafix_run FROM writer_of_ledger; DROP ROLE writer_of_ledger")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["history", "--fix", "close_itms"],
            "The ledger has no run of a fix close_itms. Did you mean close_items?",
        ),
        (["show", "7"], "The ledger public.datafix_run has no run 7. The nearest are 1."),
        (["row", "itm", "1"], "No run has changed a table itm. Did you mean item"),
        (["row", "item", "11"], "No run has changed row 11 of public.item. Did you mean 1?"),
        (["history", "--schema", "pubic"], "The schema pubic has no ledger. Did you mean public?"),
    ],
)
def test_what_is_not_there_is_one_line_with_the_nearest(
    tmp_path: Path, database: Database, arguments: list[str], words: str
) -> None:
    ran = datafixes(applied(tmp_path, database), *arguments)
    assert ran.code == 1
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_number_that_is_none_is_a_matter_of_usage(tmp_path: Path, database: Database) -> None:
    assert datafixes(applied(tmp_path, database), "show", "last").code == 2


def test_without_a_ledger_it_says_where_to_look(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.alembic("downgrade", "base")
    ran = datafixes(project, "history")
    assert (ran.code, "This database has no ledger (datafix_run)" in ran.err) == (1, True)


def test_a_role_that_may_not_read_the_copies_is_told_so(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    role = f"reader_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN")
    try:
        for command in (("history",), ("show", "1"), ("open",)):
            ran = datafixes(None, "-x", f"url={database.url_for(role)}", *command)
            assert ran.code == 1
            assert "This role lacks the right to read: permission denied for" in ran.err
            assert len(ran.err.splitlines()) == 1
        database.execute(f"GRANT SELECT ON datafix_history TO {role}")
        assert datafixes(None, "-x", f"url={database.url_for(role)}", "history").code == 0
    finally:
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert project.versions == {"b"}


def test_ledgers_in_several_schemas_are_told_apart(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    database.psql("CREATE SCHEMA ops; CREATE TABLE ops.book (id integer PRIMARY KEY);")
    project.revision(
        "c", "b", 'op.create_audit_table("book", name="book_audit", schema="ops")', "pass", top="# Copies."
    )
    assert project.alembic("upgrade", "head").code == 0
    ran = datafixes(project, "history")
    assert (
        ran.code,
        "Several schemas have a ledger: ops, public. Choose one: --schema ops" in ran.err,
    ) == (1, True)
    assert len(answer(project, "history", "--schema", "public")["runs"]) == 1
    assert answer(project, "history", "--schema", "ops")["runs"] == []


def test_the_views_of_a_schema_follow_its_audit_tables(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    database.psql("CREATE TABLE more (id text PRIMARY KEY, v integer); INSERT INTO more VALUES ('k', 1);")
    project.revision(
        "c",
        "b",
        'op.create_audit_table("more", name="more_audit")',
        'op.drop_audit_table("more_audit", discard=True)',
        top="# Copies.",
    )
    fix = 'fix = DataFix(name="m", reason="r", change=Delete("more"), rows=Rows(key="id", expect=["k"]), audit="more_audit")'
    project.revision("d", "c", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=fix)
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows(
        "SELECT target_table, key, change, column_name, before FROM datafix_show WHERE run_id = 2 ORDER BY 4"
    ) == [
        ("public.more", "k", "deleted", "id", "k"),
        ("public.more", "k", "deleted", "v", "1"),
    ]
    assert project.alembic("downgrade", "b").code == 0
    assert database.value("SELECT count(*) FROM datafix_show") == 4
    assert project.alembic("downgrade", "a").code == 0
    assert project.alembic("-x", "discard=item_audit", "downgrade", "base").code == 0
    assert database.rows("SELECT relname FROM pg_class WHERE relname LIKE 'datafix%'") == []


def test_a_key_is_found_however_it_is_written(tmp_path: Path, database: Database) -> None:
    """A key is a value of its column's type, and may begin with a hyphen."""
    project = new_project(tmp_path, database)
    database.execute(
        "CREATE TABLE by_text (code text PRIMARY KEY, v text)",
        "CREATE TABLE by_number (n numeric(20,8) PRIMARY KEY, v text)",
        "CREATE TABLE by_two (u uuid, d date, v text, PRIMARY KEY (u, d))",
        "INSERT INTO by_text VALUES ('-1', 'x'), ('--help', 'x')",
        "INSERT INTO by_number VALUES (0.1, 'x')",
        "INSERT INTO by_two VALUES ('aaaaaaaa-0000-0000-0000-000000000001', '2026-01-05', 'x')",
    )
    for table in ("by_text", "by_number", "by_two"):
        ran = datafixes(
            project,
            "new",
            f"fix {table}",
            "--table",
            table,
            "--where",
            "true",
            "--set",
            "v=y",
            "--reason",
            "A test.",
        )
        assert ran.code == 0, ran.err
    assert project.alembic("upgrade", "head").code == 0
    for table, given, kept in (
        ("by_text", ("-1",), "-1"),
        ("by_text", ("--", "--help"), "--help"),
        ("by_number", ("0.1",), "0.10000000"),
        ("by_number", ("1e-1",), "0.10000000"),
        (
            "by_two",
            ("AAAAAAAA-0000-0000-0000-000000000001/Jan 5, 2026",),
            "aaaaaaaa-0000-0000-0000-000000000001/2026-01-05",
        ),
    ):
        ran = datafixes(project, "row", "--format", "json", table, *given)
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["key"] == kept
        assert len(json.loads(ran.out)["changes"]) == 1
    for other in ("nothing", "0.2"):
        ran = datafixes(project, "row", "by_number", other)
        assert (ran.code, ran.out) == (1, "")
        assert f"No run has changed row {other} of public.by_number." in ran.last_line
