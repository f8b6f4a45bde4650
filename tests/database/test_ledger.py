"""The log says what happened, and the ledger tells who, why and how it ended, for every kind of run."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from tests.projects import FIX, Project, project_with_fix
from tests.servers import Database

TOLERANT = """
fix = DataFix(
    name="close_items", reason="Closed by hand.", audit="item_audit",
    change=Update("item", set={"status": "closed"}, where="status = 'open'"),
    rows=Rows(key="id", identity={"symbol": "symbol"}, expect={1: "QCOM", 2: "NOW"},
              already="status = 'closed'", already_at_most=2),
)
"""
MANY = """
fix = DataFix(
    name="close_items", reason="Closed by hand.", audit="item_audit",
    change=Update("item", set={"status": "closed"}, where="status = 'open'"), rows=Rows(key="id", expect=25),
)
"""


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    return project_with_fix(tmp_path, database)


def last_run(project: Project) -> dict[str, Any]:
    """The newest line of the ledger."""
    [(line,)] = project.database.rows("SELECT to_jsonb(r) FROM datafix_run r ORDER BY run_id DESC LIMIT 1")
    return dict(line)


def told(project: Project, *order: str) -> list[str]:
    """The lines of the log that are about fixes, without times."""
    ran = project.alembic(*order)
    assert ran.out == ""
    return [line for line in ran.err.splitlines() if line.startswith(("datafix", "  "))]


# --- the log


def test_the_log_tells_counts_and_rows(project: Project) -> None:
    assert told(project, "upgrade", "head") == [
        "datafix close_items: applied: 2 found, 2 changed, 0 already as wanted (run 1)",
        "  1 QCOM: status open → closed, amount 10.00 → 110.00",
        "  2 NOW: status open → closed, amount 20.00 → 120.00",
    ]
    assert told(project, "downgrade", "-1") == [
        "datafix close_items: reverted: 2 found, 2 changed, 0 already as wanted (run 2)",
        "  1 QCOM: status closed → open, amount 110.00 → 10.00",
        "  2 NOW: status closed → open, amount 120.00 → 20.00",
    ]


def test_the_log_names_what_is_already_as_wanted(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, top=TOLERANT)
    database.execute("UPDATE item SET status = 'closed' WHERE id = 1")
    lines = told(project, "upgrade", "head")
    assert lines == [
        "datafix close_items: applied: 1 found, 1 changed, 1 already as wanted (run 1)",
        "  already as wanted, left alone: 1",
        "  2 NOW: status open → closed",
    ]


def test_the_log_stops_at_twenty_rows(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, top=MANY)
    database.execute("INSERT INTO item SELECT g, 'S' || g, 'open' FROM generate_series(4, 25) AS g")
    lines = told(project, "upgrade", "head")
    assert lines[0] == "datafix close_items: applied: 25 found, 25 changed, 0 already as wanted (run 1)"
    assert [line.split(":")[0].strip() for line in lines[1:21]] == [str(number) for number in range(1, 21)]
    assert lines[21:] == ["  ... and 5 more rows: item_audit, run 1"]


def test_a_value_stays_on_its_line_in_the_log(tmp_path: Path, database: Database) -> None:
    fix = FIX.replace('"amount": sql("amount + 100")', '"note": "a\\nb\\x1b[31m" + "x" * 100')
    project = project_with_fix(tmp_path, database, top=f"fix = {fix.strip()}")
    lines = told(project, "upgrade", "head")
    assert len(lines) == 3
    assert "\\n" in lines[1]
    assert "\x1b" not in "".join(lines)
    assert lines[1].endswith("…")


def test_what_cannot_be_shown_does_not_undo_what_was_done(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(connection: Connection, *_: object) -> None:
        connection.exec_driver_sql("SELECT 1 / 0")

    monkeypatch.setattr("datafixes.running.journal.changes_of_run", fails)
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0
    assert "done, but its changes cannot be shown: division by zero" in ran.err
    assert project.outcomes == ["applied"]
    assert project.versions == {"b"}


def test_nothing_to_do_is_told(project: Project) -> None:
    project.database.execute("DELETE FROM item")
    assert told(project, "upgrade", "head") == [
        "datafix close_items: not applicable in this database, nothing was changed (run 1)"
    ]


@pytest.mark.parametrize(("step", "order"), [("a:b", "upgrade"), ("b:a", "downgrade")])
def test_with_sql_stdout_holds_the_script_and_nothing_else(project: Project, step: str, order: str) -> None:
    ran = project.process(order, step, "--sql")
    assert ran.code == 0
    assert ran.out.startswith("BEGIN ISOLATION LEVEL READ COMMITTED;")
    assert "INFO" not in ran.out
    assert "2 found" not in ran.out + ran.err
    assert project.outcomes == []


def test_the_commands_stdout_stays_empty(project: Project) -> None:
    ran = project.process("upgrade", "head")
    assert (ran.code, ran.out) == (0, "")


# --- the ledger


def test_the_ledger_has_all_of_an_apply_and_of_its_revert(project: Project) -> None:
    project.alembic("-x", "application=deploy 17 by hand", "upgrade", "head")
    applied = last_run(project)
    assert {name: applied[name] for name in (
        "run_id", "fix", "revision", "direction", "outcome", "rows_expected", "rows_found", "rows_changed", "rows_already",
        "rows_skipped", "rows_overwritten", "reason", "applied_by", "application", "reverts_run", "error",
    )} == {
        "run_id": 1, "fix": "close_items", "revision": "b", "direction": "apply", "outcome": "applied", "rows_expected": 2,
        "rows_found": 2, "rows_changed": 2, "rows_already": 0, "rows_skipped": None, "rows_overwritten": None,
        "reason": "Closed by hand.", "applied_by": "postgres", "application": "deploy 17 by hand",
        "reverts_run": None, "error": None,
    }  # fmt: skip
    assert project.database.rows(
        "SELECT run_id, position, target_table, audit_table, key_columns, rows_inserted, rows_updated, rows_deleted, images"
        " FROM datafix_run_table"
    ) == [(1, 1, "public.item", "public.item_audit", ["id"], 0, 2, 0, 4)]
    assert re.fullmatch("[0-9a-f]{64}", applied["fingerprint"])
    assert applied["started_at"] < applied["finished_at"]
    project.alembic("downgrade", "-1")
    reverted = last_run(project)
    assert {name: reverted[name] for name in (
        "run_id", "fix", "revision", "direction", "outcome", "rows_found", "rows_changed", "rows_skipped", "rows_overwritten",
        "reason", "application", "fingerprint", "reverts_run", "on_conflict",
    )} == {
        "run_id": 2, "fix": "close_items", "revision": "b", "direction": "revert", "outcome": "reverted", "rows_found": 2,
        "rows_changed": 2, "rows_skipped": 0, "rows_overwritten": 0, "reason": "Closed by hand.", "application": None,
        "fingerprint": applied["fingerprint"], "reverts_run": 1, "on_conflict": "refuse",
    }  # fmt: skip


def test_the_ledger_has_outcomes_of_their_own_for_nothing_to_do(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, top=TOLERANT)
    database.execute("UPDATE item SET status = 'closed'")
    project.alembic("upgrade", "head")
    assert {name: last_run(project)[name] for name in ("outcome", "rows_found", "rows_changed", "rows_already")} == {
        "outcome": "already", "rows_found": 0, "rows_changed": 0, "rows_already": 2,
    }  # fmt: skip
    project.alembic("downgrade", "-1")
    database.execute("DELETE FROM item")
    project.alembic("upgrade", "head")
    assert {name: last_run(project)[name] for name in ("outcome", "rows_changed")} == {
        "outcome": "not_applicable", "rows_changed": 0,
    }  # fmt: skip


GITHUB = {
    "GITHUB_SHA": "4f2a9c1", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "ops/book", "GITHUB_RUN_ID": "7",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "flags", "application"),
    [
        (GITHUB, (), "commit 4f2a9c1; pipeline https://github.com/ops/book/actions/runs/7"),
        (
            {"CI_COMMIT_SHA": "9b1", "CI_PIPELINE_URL": "https://gitlab.com/ops/book/-/pipelines/5"},
            (),
            "commit 9b1; pipeline https://gitlab.com/ops/book/-/pipelines/5",
        ),
        (GITHUB | {"DATAFIXES_APPLICATION": "night shift"}, (), "night shift"),
        (GITHUB | {"DATAFIXES_APPLICATION": "night shift"}, ("-x", "application=by hand"), "by hand"),
        ({}, ("-x", "application=by https://me:secret@ci.example/1"), "by https://***@ci.example/1"),
        ({}, (), None),
    ],
    ids=["github", "gitlab", "environment", "flag", "no secrets", "unknown"],
)
def test_the_ledger_knows_the_commit_and_the_pipeline(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    flags: tuple[str, ...],
    application: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    project.alembic(*flags, "upgrade", "head")
    assert last_run(project)["application"] == application
    project.alembic(*flags, "downgrade", "-1")
    assert (last_run(project)["direction"], last_run(project)["application"]) == ("revert", application)


# --- runs that failed


def test_a_run_that_failed_has_a_line_of_its_own_and_leaves_a_gap(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_SHA", "4f2a9c1")
    project.database.execute("UPDATE item SET symbol = 'AAPL' WHERE id = 2")
    ran = project.alembic("upgrade", "head")
    failed = last_run(project)
    assert {name: failed[name] for name in (
        "fix", "revision", "direction", "outcome", "reason", "applied_by", "application", "rows_expected", "rows_changed",
    )} == {
        "fix": "close_items", "revision": "b", "direction": "apply", "outcome": "failed", "reason": "Closed by hand.",
        "applied_by": "postgres", "application": "commit 4f2a9c1", "rows_expected": 2, "rows_changed": 0,
    }  # fmt: skip
    assert "2 symbol is AAPL, not NOW" in failed["error"]
    assert failed["error"] in ran.last_line
    assert failed["finished_at"] is not None
    assert failed["run_id"] == 2  # number 1 was the run's own, and went with its transaction
    project.database.execute("UPDATE item SET symbol = 'NOW' WHERE id = 2")
    assert project.alembic("upgrade", "head").code == 0
    assert project.database.rows("SELECT run_id, outcome FROM datafix_run ORDER BY run_id") == [
        (2, "failed"),
        (3, "applied"),
    ]


def test_a_revert_that_failed_is_told_as_one(project: Project) -> None:
    project.alembic("upgrade", "head")
    project.database.execute("UPDATE item SET status = 'reopened' WHERE id = 1")
    ran = project.alembic("downgrade", "-1")
    failed = last_run(project)
    assert (failed["direction"], failed["outcome"], failed["revision"]) == ("revert", "failed", "b")
    assert "1 changed since" in failed["error"]
    assert "reopened" in ran.err  # the table of conflicts is in the log
    assert project.versions == {"b"}


def test_a_failure_that_cannot_be_written_down_is_said_in_the_log(project: Project) -> None:
    project.database.execute(f"ALTER DATABASE {project.database.name} SET default_transaction_read_only = on")
    ran = project.alembic("upgrade", "head")
    assert "datafix close_items: the failure is not in the ledger public.datafix_run" in ran.err
    assert ran.err.count("\n") < 12
    assert "read-only transaction" in ran.last_line


def test_a_failed_run_in_psql_leaves_a_gap_and_the_servers_error(project: Project) -> None:
    script = project.script("a:b")
    project.database.execute("UPDATE item SET symbol = 'AAPL' WHERE id = 2")
    done = project.database.psql(script, "-v", "ON_ERROR_STOP=1", check=False)
    assert done.returncode != 0
    assert "2 symbol is AAPL, not NOW" in done.stderr
    assert project.outcomes == []
    project.database.execute("UPDATE item SET symbol = 'NOW' WHERE id = 2")
    project.database.psql(script, "-v", "ON_ERROR_STOP=1")
    assert project.database.rows("SELECT run_id, outcome FROM datafix_run") == [(2, "applied")]


def test_a_failed_line_keeps_nobody_from_applying_and_reverting(project: Project) -> None:
    project.database.execute("UPDATE item SET symbol = 'AAPL' WHERE id = 2")
    project.alembic("upgrade", "head")
    project.database.execute("UPDATE item SET symbol = 'NOW' WHERE id = 2")
    assert [
        project.alembic(*order).code
        for order in (("upgrade", "head"), ("downgrade", "-1"), ("upgrade", "head"))
    ] == [0, 0, 0]
    assert project.outcomes == ["failed", "applied", "reverted", "applied"]
