"""What the checks find that run by themselves: each is shown a fix that fails in just that, and one that does not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datafixes.errors import Conflicts, DatafixError, RowsNotAsExpected
from datafixes.testing import Datafix
from datafixes.testing.checks import Report
from datafixes.testing.session import Session, Wishes
from tests.projects import FIX, STOCK_ENV, TABLE, Project, new_project
from tests.servers import Database, Server

CREATE, _, SEED = TABLE.strip().partition("\n")
APPLY, REVERT = "op.apply_datafix(fix)", "op.revert_datafix(fix)"
RECORDED = """
from datafixes import RecordedFix, Table
fix = RecordedFix(name="recorded", reason="r", tables=[Table("item", "item_audit", {})])
"""
BATCHED = """
from datafixes import AtMost, Batches
fix = DataFix(
    name="close_all", reason="r", audit="item_audit", rows=Rows(key="id", expect=AtMost(100)), batches=Batches({}),
    change=Update("item", set={{"status": "closed", "amount": sql("{}")}}, where="status = 'open'"),
)
"""
OTHERS = FIX.replace("close_items", "close_others").replace('1: "QCOM", 2: "NOW"', '3: "SPY"')
TWO = f"fixes = [{FIX}, {OTHERS}]"
# name → how upgrade, downgrade and declaration differ from a good fix
REVISIONS = {
    "good": (APPLY, REVERT, f"fix = {FIX.strip()}".replace('"amount"', '"note": sql("now()::text"), "amount"')),
    "gives_too_little": (APPLY, f"{REVERT}\nop.execute('UPDATE item SET amount = 31 WHERE id = 3')", ""),
    "no_way_back": (APPLY, "raise NotImplementedError('never')", ""),
    "other_script": (f"{APPLY}\nif context.is_offline_mode(): op.execute('UPDATE item SET note = 1 WHERE id = 3')", REVERT, ""),
    "loses_writes": (APPLY, f"op.execute(\"UPDATE item SET status = 'closed' WHERE id IN (1, 2)\")\n{REVERT}", ""),
    "overwrites": (APPLY, "op.revert_datafix(fix, on_conflict='overwrite')", ""),
    "skips": (APPLY, "op.revert_datafix(fix, on_conflict='skip')", ""),
    "python": (
        "with op.record_datafix(fix):\n  for row in op.get_bind().execute(sa.text('SELECT id FROM item')).all():\n"
        "    op.get_bind().execute(sa.text('DELETE FROM item WHERE id = :id'), {'id': row.id})",
        REVERT, RECORDED.format("deleted=3"),
    ),
    "not_on_empty": (
        "with op.record_datafix(fix) as body: body.execute(\"UPDATE item SET note = 'y' WHERE id < 3; INSERT INTO item VALUES (9, 'A', 'b')\")",
        REVERT, RECORDED.format("updated=2, inserted=1"),
    ),
    "required": (APPLY, REVERT, f"fix = {FIX.strip()}".replace("expect=", "required=True, expect=")),
    "forgets": ("pass", "pass", ""),
    "batched": (APPLY, REVERT, BATCHED.format("rows=2", "amount + 100")),
    "batched_by_count": (APPLY, REVERT, BATCHED.format("", "(SELECT count(*) FROM item AS i WHERE i.status = 'open')")),
    "two": ("for fix in fixes: op.apply_datafix(fix)", "for fix in reversed(fixes): op.revert_datafix(fix)", TWO),
}  # fmt: skip

Open = Callable[[str], Session]


def project_of(directory: Path, database: Database, env: str = "") -> Project:
    """A project in which every revision above stands on the first, and whose ini file names somebody's database."""
    project = new_project(directory, database, *([env] if env else []))
    project.revision(
        "first",
        None,
        f'op.execute("{CREATE}")\nop.create_audit_table("item", name="item_audit")',
        'op.drop_audit_table("item_audit")\nop.execute("DROP TABLE item")',
        top="fix = None",
    )
    for name, (up, down, top) in REVISIONS.items():
        project.revision(name, "first", up, down, top=top.strip())
    return project


def url_of(server: Server) -> str:
    return server.address.url("postgres", "postgres", "psycopg2").replace("+psycopg2", "")


@pytest.fixture(scope="module")
def somebodys(server: Server) -> Iterator[Database]:
    """The database that the project's own settings name: no test of a fix may reach it."""
    with server.database("somebodys") as database:
        yield database
        assert database.dump() == {}


@pytest.fixture(scope="module")
def session(
    server: Server, somebodys: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    root = tmp_path_factory.mktemp("project")
    project_of(root, somebodys)
    with Session(Wishes(root, url=url_of(server))) as session:
        yield session
    left = "SELECT datname FROM pg_database WHERE datname LIKE 'datafix_test%'"
    assert somebodys.rows(left) == []


@pytest.fixture
def datafix(session: Session) -> Iterator[Datafix]:
    with Datafix(session) as datafix:
        yield datafix


def checked(datafix: Datafix, name: str) -> Report:
    datafix(name).seed(SEED)
    [report] = datafix.check()
    return report


def outcomes(report: Report) -> dict[str, str]:
    return {result.check: result.outcome for result in report.results}


ALL_PASSED = dict.fromkeys(("up-down-up", "offline", "foreign-write", "empty"), "passed")


def test_a_good_fix_passes_and_what_was_not_compared_is_told(datafix: Datafix) -> None:
    report = checked(datafix, "good")
    assert outcomes(report) == ALL_PASSED, report.failure()
    words = {result.check: result.words for result in report.results}
    assert words["offline"] == "not compared, because two online runs differ there: public.item.note (2 rows)"
    assert words["foreign-write"] == "public.item 1.status is no longer closed"


def test_a_fix_in_batches_is_stopped_after_each_and_taken_back_from_there(datafix: Datafix) -> None:
    report = checked(datafix, "batched")
    assert outcomes(report) == ALL_PASSED | {"stopped": "passed"}, report.failure()
    [words] = [result.words for result in report.results if result.check == "stopped"]
    assert words == "stopped 3 times"


def test_a_fix_whose_rows_depend_on_the_size_of_its_batches(datafix: Datafix) -> None:
    report = checked(datafix, "batched_by_count")
    assert outcomes(report)["stopped"] == "failed"
    assert "stopped 3 times, it leaves other rows than at once" in report.failure()


def test_a_downgrade_that_gives_too_little_back(datafix: Datafix) -> None:
    report = checked(datafix, "gives_too_little")
    assert outcomes(report) == ALL_PASSED | {"up-down-up": "failed"}, report.failure()
    assert "id 3: amount 30.00 expected, 31.00 found" in report.failure()


def test_a_downgrade_that_is_not_there(datafix: Datafix) -> None:
    report = checked(datafix, "no_way_back")
    assert outcomes(report) == dict.fromkeys(ALL_PASSED, "failed") | {"offline": "passed"}
    assert "the downgrade fails: NotImplementedError: never" in report.failure()


def test_a_script_that_does_something_else(datafix: Datafix) -> None:
    report = checked(datafix, "other_script")
    assert outcomes(report) == ALL_PASSED | {"offline": "failed"}
    assert "id 3: note NULL expected, 1 found" in report.failure()


def test_a_downgrade_that_loses_what_others_wrote(datafix: Datafix) -> None:
    report = checked(datafix, "loses_writes")
    assert outcomes(report) == ALL_PASSED | {"foreign-write": "failed"}
    assert (
        "public.item 1.status is no longer closed; the downgrade loses it without a refusal"
        in report.failure()
    )


def test_what_an_author_said_of_conflicts_counts(datafix: Datafix) -> None:
    assert outcomes(checked(datafix, "overwrites")) == ALL_PASSED | {"foreign-write": "left out"}


def test_a_downgrade_that_skips_a_conflict_loses_nothing(datafix: Datafix) -> None:
    assert outcomes(checked(datafix, "skips")) == ALL_PASSED


def test_a_body_in_python_has_no_script(datafix: Datafix) -> None:
    report = checked(datafix, "python")
    assert outcomes(report) == ALL_PASSED | {"offline": "left out"}, report.failure()
    assert any("cannot become a script" in line for kind, line in report.notes() if kind == "left out")


def test_a_fix_that_stops_an_empty_database(datafix: Datafix) -> None:
    report = checked(datafix, "not_on_empty")
    assert outcomes(report) == ALL_PASSED | {"empty": "failed"}, report.failure()


def test_a_required_fix_is_refused_on_an_empty_database(datafix: Datafix) -> None:
    report = checked(datafix, "required")
    assert outcomes(report) == ALL_PASSED
    assert (
        "passed",
        "datafix close_items: empty: passed: refused, because of required=True",
    ) in report.notes()


def test_a_seed_without_the_rows_of_the_fix_is_no_test(datafix: Datafix) -> None:
    fix = datafix("good")
    fix.seed("INSERT INTO item VALUES (8, 'X', 'open')")
    assert fix.apply().outcome == "not_applicable"
    [report] = datafix.check()
    assert outcomes(report) == dict.fromkeys(ALL_PASSED, "failed") | {"empty": "passed"}


def test_without_a_seed_only_the_empty_database_is_checked(datafix: Datafix) -> None:
    datafix("good")
    [report] = datafix.check()
    assert outcomes(report) == dict.fromkeys(ALL_PASSED, "left out") | {"empty": "passed"}


def test_a_revision_that_does_not_run_its_fix(datafix: Datafix) -> None:
    fix = datafix("forgets")
    with pytest.raises(DatafixError, match="ran, but did not run its fix close_items"):
        fix.apply()


def test_one_of_two_fixes_of_a_revision(datafix: Datafix) -> None:
    with pytest.raises(DatafixError, match="declares 2 fixes: close_items, close_others"):
        datafix("two")
    fix = datafix("two", name="close_others")
    fix.seed(SEED)
    assert fix.apply().rows_changed == 1
    [report] = datafix.check()
    assert outcomes(report) == ALL_PASSED, report.failure()


def test_seed_apply_ask_write_revert(datafix: Datafix, tmp_path: Path) -> None:
    fix = datafix("good")
    (tmp_path / "seed.sql").write_text(SEED, encoding="utf-8")
    fix.seed(tmp_path / "seed.sql", "UPDATE item SET note = '100% :x' WHERE id = 3")
    with pytest.raises(DatafixError) as failed:
        fix.seed("SELECT 1; SELECT ';'; INSERT INTO item VALUES (1, 'Q', 'x'); SELECT 2")
    assert failed.value.message.startswith("statement 3 fails: ")
    assert failed.value.detail == "INSERT INTO item VALUES (1, 'Q', 'x');"
    assert failed.value.detail in failed.value.__notes__
    run = fix.apply()
    assert (run.outcome, run.rows_changed) == ("applied", 2)
    with pytest.raises(DatafixError, match=r"seed\(\) must come before apply"):
        fix.seed("SELECT 1")
    fix.execute("UPDATE item SET status = 'sold' WHERE id = 2")
    with pytest.raises(Conflicts) as conflict:
        fix.revert()
    assert any("sold" in note for note in conflict.value.__notes__)
    reverted = fix.revert(on_conflict="skip")
    assert reverted is not None
    assert (reverted.direction, reverted.rows_skipped) == ("revert", 1)
    assert fix.rows("SELECT id, status, note FROM item WHERE note LIKE '%:x' OR status = 'sold' ORDER BY 1 DESC")[0] == (
        3, "open", "100% :x",
    )  # fmt: skip


def test_a_refusal_can_be_expected_and_the_seed_mended(datafix: Datafix) -> None:
    fix = datafix("good")
    fix.seed(SEED, "UPDATE item SET symbol = 'IBM' WHERE id = 1")
    with pytest.raises(RowsNotAsExpected, match="IBM"):
        fix.apply()
    assert set(outcomes(datafix.check()[0]).values()) == {"nothing to check", "passed"}
    fix.seed("UPDATE item SET symbol = 'QCOM' WHERE id = 1")
    assert fix.apply().outcome == "applied"
    assert outcomes(datafix.check()[0]) == ALL_PASSED


def test_checks_are_left_out_with_a_reason(datafix: Datafix) -> None:
    fix = datafix("gives_too_little")
    fix.seed(SEED)
    with pytest.raises(DatafixError, match=r"Unknown check up-down\. Did you mean up-down-up"):
        fix.without("up-down", because="x")
    with pytest.raises(DatafixError, match="left out without a reason"):
        fix.without("up-down-up", because=" ")
    fix.without("up-down-up", because="ticket 7")
    [report] = datafix.check()
    assert outcomes(report) == ALL_PASSED | {"up-down-up": "left out"}
    assert ("left out", "datafix close_items: up-down-up: left out: ticket 7") in report.notes()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("goof", "Revision goof not found: .* Did you mean good"),
        ("first", "Revision first declares no fix."),
    ],
)
def test_what_is_not_there(datafix: Datafix, asked: str, message: str) -> None:
    with pytest.raises(DatafixError, match=message):
        datafix(asked)


def test_a_name_that_is_not_there(datafix: Datafix) -> None:
    with pytest.raises(DatafixError, match=r"No revision declares a fix recordet\. Did you mean recorded"):
        datafix(name="recordet")


def test_a_connection_that_stays_open_is_told(datafix: Datafix, server: Server) -> None:
    fix = datafix("good")
    other = Database(fix.database.name, server.version, server.address, server.binaries).connect()
    try:
        with pytest.raises(DatafixError, match="cannot be copied") as error:
            fix.apply()
        assert "Close the connections" in error.value.hint
    finally:
        other.close()


def test_the_stock_environment_works_too(server: Server, somebodys: Database, tmp_path: Path) -> None:
    project_of(tmp_path, somebodys, STOCK_ENV)
    with Session(Wishes(tmp_path, url=url_of(server))) as session, Datafix(session) as datafix:
        report = checked(datafix, "good")
        assert outcomes(report) == ALL_PASSED, report.failure()


def test_an_env_that_goes_elsewhere_is_stopped(server: Server, somebodys: Database, tmp_path: Path) -> None:
    project = project_of(tmp_path, somebodys)
    project.env(
        f"""
        import sqlalchemy as sa
        from alembic import context
        with sa.create_engine({somebodys.url!r}).connect() as connection:
            context.configure(connection=connection, transaction_per_migration=True)
            with context.begin_transaction():
                context.run_migrations()
        """
    )
    with (
        Session(Wishes(tmp_path, url=url_of(server))) as session,
        Datafix(session) as datafix,
        pytest.raises(
            DatafixError, match=r"env\.py connects to the database somebodys instead of the test's"
        ),
    ):
        datafix("good")
    assert somebodys.dump() == {}
