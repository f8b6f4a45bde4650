"""The checks on tables and chains of revisions of every shape: they pass where nothing is wrong, and look at something."""

from collections.abc import Iterator

import pytest

from datafixes.testing import Datafix
from datafixes.testing.session import Session, Wishes
from tests.plugin.test_checks import ALL_PASSED, outcomes, url_of
from tests.projects import new_project
from tests.servers import Server

TABLES = """
CREATE TYPE color AS ENUM ('red', 'green');
CREATE DOMAIN short AS varchar(3);
CREATE SCHEMA "My Shop";
CREATE TABLE "My Shop"."Order Items" ("Key" uuid PRIMARY KEY, "a b" short, doubled integer GENERATED ALWAYS AS (length("a b") * 2) STORED);
CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, words text DEFAULT 'x', at timestamptz DEFAULT clock_timestamp());
CREATE TABLE colored (id integer PRIMARY KEY, color color NOT NULL, done boolean NOT NULL, CHECK (done IN (true, false)));
CREATE TABLE keyless (a integer, b text[]);
CREATE TABLE part (id integer, region text, ok boolean NOT NULL, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
CREATE TABLE only_key (id integer PRIMARY KEY);
"""
AUDITED = ("numbered", "colored", "keyless", "part", "only_key")
UUID = "11111111-1111-1111-1111-111111111111"
ROWS = 'rows=Rows(key="id", expect=[1, 2])'
# name → the fix, the rows it is for, and what somebody else writes
FIXES = {
    "quoted": (
        f'DataFix(name="f", reason="r", audit="Order Items Audit", change=Update("Order Items", {{"a b": "new"}}, schema="My Shop"), rows=Rows(key="Key", expect=["{UUID}"]))',
        f"INSERT INTO \"My Shop\".\"Order Items\" VALUES ('{UUID}', 'old')",
        f"{UUID}.a b is no longer new",
    ),
    "insert": (
        'DataFix(name="f", reason="r", audit="numbered_audit", change=Insert("numbered", [{"words": "a"}, {"words": "b"}]), rows=Rows(key="id", expect=2))',
        "INSERT INTO numbered DEFAULT VALUES",
        "numbered 2.words is no longer a",
    ),
    "enum": (
        f'DataFix(name="f", reason="r", audit="colored_audit", change=Update("colored", {{"color": "green"}}), {ROWS})',
        "INSERT INTO colored VALUES (1, 'red', false), (2, 'red', true)",
        "colored 1 was deleted",  # no third color
    ),
    "delete": (
        f'DataFix(name="f", reason="r", audit="colored_audit", change=Delete("colored"), {ROWS})',
        "INSERT INTO colored VALUES (1, 'red', false), (2, 'red', true)",
        "colored 1 was inserted again, with another color",
    ),
    "partitioned": (
        'DataFix(name="f", reason="r", audit="part_audit", change=Update("part", {"ok": False}), rows=Rows(key=("id", "region"), expect=[(1, "a"), (1, "b")]))',
        "INSERT INTO part VALUES (1, 'a', true), (1, 'b', true)",
        "part 1/a was deleted",
    ),
    "only_key": (
        f'DataFix(name="f", reason="r", audit="only_key_audit", change=Delete("only_key"), {ROWS})',
        "INSERT INTO only_key VALUES (1), (2), (3)",
        "the tables accept no other value in the columns that the fix wrote",
    ),
}  # fmt: skip
KEYLESS = (
    'RecordedFix(name="f", reason="r", tables=[Table("keyless", "keyless_audit", deleted=2, inserted=2)])'
)


@pytest.fixture(scope="module")
def session(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    root = tmp_path_factory.mktemp("shapes")
    with server.database("shapes") as database:
        project = new_project(root, database)
        audits = "".join(f'\nop.create_audit_table("{name}", name="{name}_audit")' for name in AUDITED)
        quoted = '\nop.create_audit_table("Order Items", name="Order Items Audit", schema="My Shop")'
        project.revision("first", None, f"op.execute('''{TABLES}'''){audits}{quoted}", top="fix = None")
        for name, (fix, _, _) in FIXES.items():
            project.revision(
                name, "first", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {fix}"
            )
        project.revision(
            "keyless", "first", "with op.record_datafix(fix) as body: body.execute(\"UPDATE keyless SET b = '{x}' WHERE a = 1\")",
            "op.revert_datafix(fix)", top=f"from datafixes import RecordedFix, Table\nfix = {KEYLESS}",
        )  # fmt: skip
        project.revision(
            "all_in_one", None,
            "op.execute('CREATE TABLE seeded (id integer PRIMARY KEY, t text); INSERT INTO seeded VALUES (1, NULL), (2, NULL)')\n"
            "op.create_audit_table('seeded', name='seeded_audit')\nop.apply_datafix(fix)",
            "op.revert_datafix(fix)\nop.drop_audit_table('seeded_audit', discard=True)\nop.execute('DROP TABLE seeded')",
            top=f'fix = DataFix(name="g", reason="r", audit="seeded_audit", change=Update("seeded", {{"t": "x"}}), {ROWS})',
        )  # fmt: skip
        merge = f'fix = {FIXES["enum"][0].replace(chr(34) + "f" + chr(34), chr(34) + "h" + chr(34))}\ndown_revision = ("keyless", "insert")'
        project.revision("merge", None, "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=merge)
        with Session(Wishes(root, url=url_of(server))) as session:
            yield session


@pytest.mark.parametrize("name", FIXES)
def test_a_fix_passes_and_somebody_writes_to_its_row(session: Session, name: str) -> None:
    with Datafix(session) as datafix:
        datafix(name).seed(FIXES[name][1])
        [report] = datafix.check()
    expected = ALL_PASSED | ({"foreign-write": "left out"} if name == "only_key" else {})
    assert outcomes(report) == expected, report.failure()
    [words] = [result.words for result in report.results if result.check == "foreign-write"]
    assert words.endswith(FIXES[name][2])
    [words] = [result.words for result in report.results if result.check == "offline"]
    assert words == ("not compared, because two online runs differ there: public.numbered.at (2 rows)" if name == "insert" else "")  # fmt: skip


def test_a_table_without_a_key(session: Session) -> None:
    with Datafix(session) as datafix:
        fix = datafix("keyless")
        fix.seed("INSERT INTO keyless VALUES (1, NULL), (1, NULL), (2, '{y}')")
        assert fix.apply().rows_changed == 4
        [report] = datafix.check()
    assert outcomes(report) == ALL_PASSED, report.failure()
    assert ("passed", "datafix f: foreign-write: passed: public.keyless.a is no longer 1") in report.notes()


def test_a_first_revision_that_is_a_whole_story(session: Session) -> None:
    with Datafix(session) as datafix:
        fix = datafix("all_in_one")
        assert fix.apply().rows_changed == 2
        assert fix.revert() is None
        [report] = datafix.check()
    assert outcomes(report) == ALL_PASSED, report.failure()
    assert ("passed", "datafix g: empty: passed: applied: 2 changed") in report.notes()


def test_a_merge_has_no_script_of_its_own(session: Session) -> None:
    with Datafix(session) as datafix:
        fix = datafix("merge")
        fix.seed(FIXES["enum"][1])
        assert fix.apply().rows_changed == 2
        [report] = datafix.check()
    assert outcomes(report) == ALL_PASSED | {"offline": "left out"}, report.failure()
