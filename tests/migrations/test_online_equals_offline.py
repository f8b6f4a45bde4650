"""The same bytes (point 3 of the promises): a piped script leaves what an online run leaves, and is as safe."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.projects import FIX, TABLE, Project, new_project, our_project, project_with_fix, statements
from tests.servers import Database, Server

BOOK = Path(__file__).parents[1].joinpath("fixtures/book.sql").read_text(encoding="ascii")
STOP = ("-v", "ON_ERROR_STOP=1")
TIMES = ("started_at", "finished_at", "audit_recorded_at")
PHANTOMS = [13, 16, 19, 21, 24, 32, 33]

NASTY = (
    "100% %s %(name)s %%", "tab\there ", "back\\slash \\n \\", ":colon ::text :'id' :\"id\" [1:n]", "{braces} {0} {{}} {run}",
    "caf\u00e9 \u4e16\u754c \U0001f600 \u202e", "$$ $tag$ $sql$ $datafix$ $fix$ $engine$", "' '' \" ` E'", "line\nbreak\r\nand\rmore",
    "-- comment; /* */ ; COMMIT;", "\\set x \\! \\q \\.", "\x01\x1b\x7f\u2028\ufeff", "", " ", "NULL", "DEFAULT",
)  # fmt: skip
"""What some layer between Python and the table has been seen to change."""

ALL_KINDS = """
CREATE TABLE kind (id integer PRIMARY KEY, t text, b boolean, i bigint, n numeric, f float8, by bytea, u uuid, d date, ti time,
                   ts timestamp, tz timestamptz, iv interval, j jsonb, js json, a text[]);
INSERT INTO kind (id, t) VALUES (1, 'one'), (2, 'two');
CREATE TABLE nasty (id integer PRIMARY KEY, value text);
INSERT INTO nasty SELECT n, chr(160) || n FROM generate_series(1, 40) AS n;
"""
UPDATE_OF_ALL_KINDS = """
fix = DataFix(name="kinds", reason="100% of \\t them: \u00e9 :x {y} $$ 'quoted' \\\\.", audit="kind_audit",
    change=Update("kind", set={
        "t": "x", "b": True, "i": -2**63, "n": decimal.Decimal("-1E+40"), "f": -0.0, "by": b"\\x00\\xff%s:x\\\\",
        "u": uuid.UUID(int=5), "d": dt.date(9999, 12, 31), "ti": dt.time(23, 59, 59, 999999),
        "ts": dt.datetime(1, 1, 1, 0, 0, 0, 1), "tz": dt.datetime(2026, 2, 3, 16, 8, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
        "iv": dt.timedelta(days=-3, microseconds=1), "j": sql(\"\"\"'{"a":true,"n":1, "p": "100%\\\\t"}'::jsonb\"\"\"),
        "js": sql(\"\"\"'{"a":1, "a": 2 }'\"\"\"), "a": sql("(ARRAY['%s', ':x', E'\\\\t'])[1:2]")}),
    rows=Rows(key="id", expect=[1, 2]))
"""
CASES = {
    "update": (TABLE, "item", f"fix = {FIX.strip()}"),
    "update of all kinds": (ALL_KINDS, "kind", UPDATE_OF_ALL_KINDS),
    "update with nasty texts": (
        TABLE + f"ALTER TABLE item {', '.join(f'ADD t{n} text' for n in range(len(NASTY)))};", "item",
        'fix = DataFix(name="nasty", reason="r", audit="item_audit", rows=Rows(key="id", expect=[1, 2, 3]), change=Update("item", set='
        f"{ {f't{n}': text for n, text in enumerate(NASTY)}!a}, where={'note IS DISTINCT FROM ' + repr(NASTY[0])!a}))",
    ),
    "insert": (
        ALL_KINDS, "nasty",
        f'fix = DataFix(name="nasty", reason="r", audit="nasty_audit", rows=Rows(key="id", expect={len(NASTY)}), change=Insert("nasty", rows='
        f"{[{'id': 100 + n, 'value': text} for n, text in enumerate(NASTY)]!a}))",
    ),
    "delete": (
        ALL_KINDS + "".join(f"INSERT INTO nasty VALUES ({n}, E'{text}');" for n, text in
                            enumerate(("caf\\u00e9 100%", "a:b", "c\\td"), 200)), "nasty",
        'fix = DataFix(name="nasty", reason="r", audit="nasty_audit", change=Delete("nasty", where="value IS NOT NULL"), '
        'rows=Rows(key="id", identity={"value": "value"}, expect={200: "caf\\u00e9 100%", 201: "a:b", 202: "c\\td"}))',
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def book(server: Server) -> Iterator[Database]:
    """The book of the incident at revision 014, to be copied."""
    with server.database("book_at_014") as template:
        project = our_project(template)
        assert project.alembic("upgrade", "013").code == 0
        template.psql(BOOK, *STOP)
        assert project.alembic("upgrade", "014").code == 0
        yield template


@pytest.fixture
def phantoms(server: Server, book: Database) -> Iterator[Project]:
    """The ops-pipeline's migrations on a book of the test's own, at revision 014."""
    with server.database("book_of_a_test", book.name) as own:
        yield our_project(own)


def contents(database: Database, *hidden: str) -> dict[str, list[str]]:
    """Every row of every table as text, without the columns that tell times.

    Without the chain of seals: what a script ran is sealed when the next run starts.
    """
    found = database.rows(
        "SELECT c.relname, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        f" WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname NOT IN ('datafix_chain', 'datafix_key') AND a.attname <> ALL (ARRAY{[*TIMES, *hidden]})"
        " GROUP BY c.relname"
    )
    rows = 'SELECT row::text FROM (SELECT {}) AS row ORDER BY row::text COLLATE "C"'
    return {
        table: [text for (text,) in database.rows(rows.format(f"{columns} FROM public.{table}"))]
        for table, columns in found
    }


def state(project: Project) -> tuple[str, list[int]]:
    """Where the book is: the revision, and which positions the fix holds closed. Nothing in between may be seen."""
    rows = project.database.rows(
        "SELECT id FROM active_positions WHERE close_reason = 'manual_reconciliation' ORDER BY id"
    )
    return ", ".join(sorted(project.versions)), [number for (number,) in rows]


BEFORE: tuple[str, list[int]] = ("014", [])
AFTER = ("015", PHANTOMS)


# --- the same bytes


@pytest.mark.parametrize("case", CASES)
def test_a_script_leaves_the_same_database_as_online(case: str, server: Server, tmp_path: Path) -> None:
    table, target, top = CASES[case]
    with ExitStack() as stack:
        project = new_project(tmp_path, stack.enter_context(server.database("template_of_a_case")))
        project.revision("a", None, f'op.create_audit_table("{target}", name="{target}_audit")')
        project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top)
        project.database.psql(table, *STOP)
        assert project.alembic("upgrade", "a").code == 0
        start = contents(project.database)
        online, other, piped = (
            stack.enter_context(server.database(name, project.database.name))
            for name in ("online", "other", "piped")
        )
        for step in ("a:b", "b:a"):
            for ran in (project.on(online), project.on(other, "psycopg")):
                done = ran.alembic("upgrade" if step == "a:b" else "downgrade", step[-1])
                assert done.code == 0, done.err
            piped.psql(project.script(step), *STOP)
            assert contents(online) == contents(other) == contents(piped)
            if step == "a:b":
                assert contents(online) != start
        assert contents(piped)[target] == start[target]


def test_values_arrive_as_they_were_declared(database: Database, tmp_path: Path) -> None:
    table, _, top = CASES["insert"]
    project = new_project(tmp_path, database)
    project.revision("a", None, 'op.create_audit_table("nasty", name="nasty_audit")')
    project.revision("b", "a", "op.apply_datafix(fix)", top=top)
    database.psql(table, *STOP)
    assert project.alembic("upgrade", "a").code == 0
    database.psql(project.script("a:b"), *STOP)
    assert (
        tuple(value for (value,) in database.rows("SELECT value FROM nasty WHERE id >= 100 ORDER BY id"))
        == NASTY
    )


def test_the_phantom_cleanup_leaves_the_same_book_both_ways(
    server: Server, book: Database, phantoms: Project
) -> None:
    start = contents(book)
    moving = ("closed_at", "images_digest")  # the digest counts closed_at in
    with server.database("book_online", book.name) as online:
        for command, step in (("upgrade", "014:015"), ("downgrade", "015:014")):
            ran = phantoms.on(online).alembic(command, step[-3:])
            assert ran.code == 0, ran.err
            phantoms.database.psql(phantoms.script(step), *STOP)
            assert contents(online, *moving) == contents(phantoms.database, *moving)
            assert (
                state(phantoms.on(online)) == state(phantoms) == (AFTER if command == "upgrade" else BEFORE)
            )
        assert contents(online)["active_positions"] == start["active_positions"]
        assert contents(phantoms.database)["active_positions"] == start["active_positions"]


@pytest.mark.parametrize(
    "options",
    [
        "-c standard_conforming_strings=off -c backslash_quote=off -c escape_string_warning=off",
        "-c datestyle=German -c intervalstyle=sql_standard -c timezone=Asia/Kolkata -c bytea_output=escape -c extra_float_digits=-15",
        "-c search_path=pg_temp,public -c quote_all_identifiers=on -c transform_null_equals=on -c array_nulls=off",
        "-c plpgsql.extra_errors=all -c plpgsql.variable_conflict=use_column -c check_function_bodies=off",
    ],
)  # fmt: skip
def test_b39_session_settings_and_encodings_do_not_change_what_a_script_does(
    options: str, server: Server, tmp_path: Path
) -> None:
    table, target, top = CASES["update with nasty texts"]
    with server.database("template_of_a_case") as template, ExitStack() as stack:
        project = new_project(tmp_path, template)
        project.revision("a", None, f'op.create_audit_table("{target}", name="{target}_audit")')
        project.revision("b", "a", "op.apply_datafix(fix)", top=top)
        template.psql(table, *STOP)
        assert project.alembic("upgrade", "a").code == 0
        script = project.script("a:b")
        assert script.isascii()
        plain, odd = (stack.enter_context(server.database(name, template.name)) for name in ("plain", "odd"))
        plain.psql(script, *STOP)
        # Windows line ends and another encoding come with the same copy and paste.
        odd.psql(
            script.replace("\n", "\r\n"),
            *STOP,
            environment={"PGOPTIONS": options, "PGCLIENTENCODING": "LATIN1"},
        )
        assert contents(plain) == contents(odd)


# --- as safe

PSQL = {
    "by default": "",
    "stopping at errors": "\\set ON_ERROR_STOP on\n",
    "on_error_rollback": "\\set ON_ERROR_ROLLBACK on\n",
    "autocommit off": "\\set AUTOCOMMIT off\n",
    "one transaction": "",
}


def pipe(project: Project, script: str, how: str) -> subprocess.CompletedProcess[str]:
    """Feed a script to psql under one of the settings that people have in their .psqlrc."""
    return project.database.psql(
        PSQL[how] + script, *(["-1"] if how == "one transaction" else []), check=False
    )


@pytest.mark.parametrize("how", PSQL)
def test_b2_b3_b4_b5_b6_a_script_applies_once_under_every_psql_setting(how: str, phantoms: Project) -> None:
    up, down = phantoms.script("014:015"), phantoms.script("015:014")
    for script, reached in ((up, AFTER), (up, AFTER), (down, BEFORE), (down, BEFORE), (up, AFTER)):
        pipe(phantoms, script, how)
        assert state(phantoms) == reached
    assert phantoms.outcomes == ["applied", "reverted", "applied"]


@pytest.mark.parametrize("how", PSQL)
def test_b2_b3_b6_a_script_at_the_wrong_revision_changes_nothing(how: str, phantoms: Project) -> None:
    up, down = phantoms.script("014:015"), phantoms.script("015:014")
    phantoms.database.execute("UPDATE alembic_version SET version_num = '013'")
    before = phantoms.database.dump()
    for script in (up, down):
        pipe(phantoms, script, how)
        assert phantoms.database.dump() == before
    # Where the version is right and the rows are not, the version stays too.
    phantoms.database.execute(
        "UPDATE alembic_version SET version_num = '014'",
        "UPDATE active_positions SET ticker = 'AAPL' WHERE id = 16",
    )
    before = phantoms.database.dump()
    done = pipe(phantoms, up, how)
    assert "16 symbol is AAPL, not QCOM" in done.stderr
    assert phantoms.database.dump() == before


@pytest.mark.parametrize("how", PSQL)
def test_b7_a_script_cut_off_after_any_statement_changes_nothing(how: str, phantoms: Project) -> None:
    for step, now in (("014:015", AFTER), ("015:014", BEFORE)):
        parts = statements(phantoms.script(step))
        assert parts[0].endswith("BEGIN ISOLATION LEVEL READ COMMITTED;")
        assert parts[-1].endswith("COMMIT;")
        before = phantoms.database.dump()
        # psql -1 commits what came. Up to Alembic's UPDATE that must fail, and from there on it is everything.
        short, whole = cuts(parts)
        for cut in short if how == "one transaction" else [*short, *whole]:
            pipe(phantoms, cut, how)
            assert phantoms.database.dump() == before, cut[-500:]
        pipe(phantoms, "".join(parts), how)
        assert state(phantoms) == now


def cuts(parts: list[str]) -> tuple[list[str], list[str]]:
    """A script without its end: at the statements' ends, and in the middle of one, which psql sends all the same.

    First those without the new version, then those without the COMMIT.
    """
    # Every function of the engine is alike: the first and the last stand for them.
    last = [n for n, part in enumerate(parts) if "CREATE OR REPLACE FUNCTION" in part][-1]
    moves = next(n for n, part in enumerate(parts) if "alembic_version SET version_num=" in part)
    ends = ["".join(parts[:end]) for end in (*range(1, 8), *range(last, moves + 1))]
    within = ends[-1] + parts[moves][: -len(" '014';")]
    return [*ends, within], ["".join(parts[:end]) for end in range(moves + 1, len(parts))]


def test_b3_a_script_with_a_statement_missing_never_leaves_half(phantoms: Project) -> None:
    how = "on_error_rollback"  # what goes wrong is skipped, and the rest is committed
    for step, start, end in (("014:015", BEFORE, AFTER), ("015:014", AFTER, BEFORE)):
        parts = statements(phantoms.script(step))
        last = [n for n, part in enumerate(parts) if "CREATE OR REPLACE FUNCTION" in part][-1]
        # BEGIN is not among them: without it, psql may commit Alembic's own UPDATE by itself.
        for missing in (*range(1, 6), *range(last, len(parts) - 1)):
            pipe(phantoms, "".join(part for n, part in enumerate(parts) if n != missing), how)
            assert state(phantoms) in (start, end), parts[missing]
            if state(phantoms) == end:
                pipe(phantoms, phantoms.script(":".join(reversed(step.split(":")))), how)
        assert state(phantoms) == start
        pipe(phantoms, "".join(parts), how)


# --- two at once


@pytest.mark.parametrize("first", ["psql", "online"])
@pytest.mark.parametrize("second", ["psql", "online"])
def test_b6_b19_of_two_at_once_one_applies(
    first: str, second: str, phantoms: Project, tmp_path: Path
) -> None:
    script = tmp_path / "015.sql"
    script.write_text(phantoms.script("014:015"), encoding="ascii")
    with closing(phantoms.database.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT FROM active_positions WHERE id = 33 FOR UPDATE")
        running = [start(phantoms, kind, script) for kind in (first, second)]
        wait_until_waiting(phantoms.database, 1 if first == second == "online" else 2)
        holder.rollback()
    ended = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert state(phantoms) == AFTER, ended
    assert phantoms.outcomes.count("applied") == 1
    assert 0 in [code for *_, code in ended]
    for out, err, code in ended:
        assert code == 0 or "at revision 015 already" in out + err


def start(project: Project, kind: str, script: Path) -> "subprocess.Popen[str]":
    database = project.database
    psql = [str(database.binaries / "psql"), "-X", *STOP, "-q", "-d", f"{database.address.conninfo()} "
            f"dbname={database.name}", "-f", str(script)]  # fmt: skip
    command = psql if kind == "psql" else project.command_line("upgrade", "015")
    return subprocess.Popen(
        command, cwd=project.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_until_waiting(database: Database, sessions: int) -> None:
    """Wait until that many sessions stand in front of a lock, and the runs behind them have begun."""
    deadline = time.monotonic() + 20
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while database.value(waiting) < sessions:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_b6_the_same_script_in_ten_sessions_applies_once(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    script = tmp_path / "b.sql"
    script.write_text(project.script("a:b"), encoding="ascii")
    running = [start(project, "psql", script) for _ in range(10)]
    assert sorted(process.wait(timeout=60) for process in running) == [0] + [3] * 9
    for process in running:
        process.communicate()
    assert project.outcomes == ["applied"]
    assert database.rows("SELECT id, amount FROM item ORDER BY id") == [(1, 110), (2, 120), (3, 30)]
