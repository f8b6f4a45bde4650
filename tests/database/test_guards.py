"""Guards that cannot pass by accident: NULL, settings, time, numbers, deferred constraints, and rows that came back."""

import datetime as dt
import os
import signal
import time
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes import DataFix, Insert, Rows, Update, sql
from datafixes.database.embedded import embedded_server
from datafixes.declaration.deciding import fingerprint
from datafixes.declaration.expressions import Value
from datafixes.errors import (
    ChangeNotAsWanted,
    DeclarationError,
    LockNotAvailable,
    Refused,
    RowsNotAsExpected,
    ShapeMismatch,
)
from datafixes.running.execution import execute
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from datafixes.script.frame import Limits
from datafixes.script.revert import revert_script
from datafixes.script.tables import AuditTable, create_script
from tests import fixes
from tests.servers import LEDGER, Database
from tests.small_book import AUDIT, close, lay, statuses


def refused(database: Database, fix: DataFix, kind: type[Refused], *words: str) -> None:
    before = database.dump()
    with pytest.raises(kind) as caught:
        fixes.apply(database, fix)
    assert database.dump() == before
    told = caught.value.one_line()
    assert [word for word in words if word not in told] == [], told


# --- deferred constraints


DEFERRED = (
    "CREATE TABLE accounts (name text PRIMARY KEY)",
    "INSERT INTO accounts VALUES ('large')",
    "ALTER TABLE positions ADD account text DEFAULT 'large' REFERENCES accounts DEFERRABLE INITIALLY DEFERRED",
)


def test_c24_a_deferred_constraint_that_the_fix_breaks_is_met_before_the_ledger_says_applied(
    database: Database,
) -> None:
    lay(database, *DEFERRED)
    fix = close(set={"account": "tiny"})
    refused(database, fix, Refused, "positions_account_fkey", "23503")
    script = apply_script(fix, Context(), fixes.LIMITS)
    done = database.psql(
        f"BEGIN;\n{script.text}SELECT 'after the fix';\nCOMMIT;\n", "-v", "ON_ERROR_STOP=1", check=False
    )
    assert done.returncode != 0
    assert "after the fix" not in done.stdout


def test_c24_other_constraints_stay_as_they_were_in_the_transaction(database: Database) -> None:
    # SET CONSTRAINTS takes names, and names are unique for each table only.
    lay(
        database,
        *DEFERRED,
        "CREATE TABLE strict (account text CONSTRAINT positions_account_fkey REFERENCES accounts)",
        "CREATE TABLE lenient (account text CONSTRAINT lenient_fkey REFERENCES accounts DEFERRABLE)",
        "CREATE TABLE later (account text CONSTRAINT later_fkey REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)",
    )
    script = apply_script(close(), Context(), fixes.LIMITS)
    done = database.psql(
        f"BEGIN;\n{script.text}\nINSERT INTO later VALUES ('new');\nSAVEPOINT s;\nINSERT INTO lenient VALUES ('none');\n"
        "ROLLBACK TO s;\nINSERT INTO accounts VALUES ('new');\nCOMMIT;\n",
        check=False,
    )
    assert done.stderr.count("ERROR") == 1
    assert 'insert or update on table "lenient"' in done.stderr
    assert database.rows("SELECT account FROM later") == [("new",)]
    assert statuses(database)[1] == "closed"


def test_c24_two_fixes_in_one_transaction_keep_their_deferred_constraints(database: Database) -> None:
    lay(database, *DEFERRED)
    scripts = "".join(
        apply_script(close(name, expect={number: symbol}), Context(), fixes.LIMITS).text
        for name, number, symbol in (("first", 1, "QCOM"), ("second", 2, "SPY"))
    )
    fuse_and_order = (
        f"BEGIN;\nUPDATE positions SET account = 'soon' WHERE id = 4;\nINSERT INTO accounts VALUES ('soon');\n{scripts}"
        "UPDATE positions SET account = 'later' WHERE id = 4;\nINSERT INTO accounts VALUES ('later');\nCOMMIT;\n"
    )
    database.psql(fuse_and_order, "-v", "ON_ERROR_STOP=1")
    assert statuses(database) == {1: "closed", 2: "closed", 3: "open", 4: "open"}


# --- time


def test_c28_times_are_those_of_the_moment_and_images_have_an_order(database: Database) -> None:
    lay(database)
    scripts = "SELECT pg_sleep(0.05);\n".join(
        apply_script(close(name, expect={number: symbol}), Context(), fixes.LIMITS).text
        for name, number, symbol in (("first", 1, "QCOM"), ("second", 2, "SPY"))
    )
    database.psql(f"BEGIN;\nSELECT pg_sleep(0.05);\n{scripts}COMMIT;\n", "-v", "ON_ERROR_STOP=1")
    assert database.rows(
        "SELECT count(DISTINCT started_at), bool_and(started_at < finished_at),"
        " max(started_at) - min(finished_at) > interval '40 ms' FROM datafix_run"
    ) == [(2, True, True)]
    assert database.rows(f"SELECT id, audit_image FROM {AUDIT} ORDER BY audit_id") == [
        (1, "before"),
        (1, "after"),
        (2, "before"),
        (2, "after"),
    ]
    assert database.value(
        f"SELECT bool_and(i.audit_recorded_at BETWEEN r.started_at AND r.finished_at) AND count(DISTINCT i.audit_recorded_at) = 4"
        f" FROM {AUDIT} i JOIN datafix_run r ON r.run_id = i.audit_run_id"
    ) is True  # fmt: skip


AT = "ALTER TABLE positions ADD at timestamptz, ADD local timestamp, ADD day date"


@pytest.mark.parametrize(
    "value", ["2024-01-02 03:00:00", dt.datetime(2024, 1, 2, 3)], ids=["text", "datetime"]
)
def test_c41_a_time_without_a_zone_is_refused_for_a_column_that_has_one(
    database: Database, value: Value
) -> None:
    lay(database, AT)
    refused(database, close(set={"at": value}), ShapeMismatch, "a time without a zone is given for at")


@pytest.mark.parametrize(
    "value", ["2024-01-02 03:00:00+02", dt.datetime(2024, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2)))]
)
def test_c41_a_zone_that_the_column_would_drop_is_refused(database: Database, value: Value) -> None:
    lay(database, AT)
    refused(database, close(set={"local": value}), ShapeMismatch, "local", "03:00:00+02")


@pytest.mark.parametrize(
    "text", ["at = '2024-01-02 03:00:00'", "at > '2024-1-2 3:00'", "at = timestamptz '2024-01-02 03:00'"]
)
def test_c41_a_time_without_a_zone_in_a_condition_is_refused_before_any_database_is_asked(text: str) -> None:
    for declare in (
        lambda: Update("positions", set={"status": "x"}, where=text),
        lambda: sql(text),
        lambda: Rows(key="id", expect=[1], already=text),
        lambda: Rows(key="id", expect=[1], ensure=text),
    ):
        with pytest.raises(DeclarationError, match="has no zone"):
            declare()


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_c41_a_moment_is_the_same_in_every_session(database: Database, zone: str) -> None:
    lay(
        database,
        AT,
        "UPDATE positions SET at = '2024-01-02 03:00+00'",
        f"ALTER DATABASE {database.name} SET timezone = '{zone}'",
    )
    fixes.apply(
        database,
        close(
            set={"at": dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC), "local": dt.datetime(2026, 2, 3, 16)},
            where="at = '2024-01-02 03:00:00+00'",
        ),
    )
    assert database.rows(
        "SELECT DISTINCT at = '2026-02-03 16:00+00', local = timestamp '2026-02-03 16:00' FROM positions WHERE id < 4"
    ) == [(True, True)]


# --- values that do not arrive as they were written


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("price", Decimal("1.23456"), ("price", "1.23456", "1.2346")),
        ("price", 1.23456, ("price", "1.23456", "1.2346")),
        ("price", "1.23456", ("price", "1.23456", "1.2346")),
        ("whole", Decimal("2.5"), ("whole", "2.5")),
        ("whole", 2.5, ("2.5",)),
        ("small", 16777217, ("small", "16777217")),
        ("code", "abcdef", ("abcdef", "22001")),
        ("code", "abc   ", ("code",)),
        ("second", dt.datetime(2026, 2, 3, 16, 0, 0, 600_000), ("second", "16:00:00.6")),
        ("day", dt.datetime(2026, 2, 3, 16), ("day", "16:00")),
        ("whole", "many", ("many",)),
        ("price", Decimal("123456789012"), ("overflow", "22003")),
    ],
)
def test_a5_a_value_that_the_column_would_round_or_cut_is_refused(
    database: Database, column: str, value: Value, words: tuple[str, ...]
) -> None:
    lay(database, ODD)
    before = database.dump()
    for fix in (
        close(set={column: value}),
        DataFix(
            name="add", reason="test", change=Insert("positions", rows=[{"id": 9, "symbol": "X", column: value}]),
            rows=Rows(key="id", expect=1), audit=AUDIT,
        ),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            fixes.apply(database, fix)
        told = caught.value.one_line()
        assert [word for word in words if word not in told] == [] or "22001" in words, told
        assert database.dump() == before


ODD = (
    "ALTER TABLE positions ADD whole integer, ADD small real, ADD code varchar(3), ADD padded char(5), ADD second timestamp(0),"
    " ADD day date, ADD exact double precision, ADD span interval, ADD flag boolean, ADD free text, ADD kept jsonb, ADD id2 uuid"
)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("price", Decimal("1.5")), ("price", 0), ("price", Decimal("1.50000000")), ("price", "148"), ("whole", 2),
        ("whole", Decimal("2.0")), ("small", 0.1), ("exact", 0.1 + 0.2), ("exact", -0.0), ("exact", Decimal("0.1")),
        ("exact", float("nan")), ("exact", float("inf")), ("code", "abc"), ("padded", "ab"), ("padded", "ab   "),
        ("second", dt.datetime(2026, 2, 3, 16)), ("day", dt.date(2026, 2, 3)), ("day", dt.datetime(2026, 2, 3)),
        ("span", dt.timedelta(days=3, seconds=5)), ("flag", True), ("free", "trailing   "), ("kept", '{"a": 1.50}'),
        ("price", None), ("free", "2026-02-03 16:00:00+00"), ("price", Decimal("NaN")),
    ],
)  # fmt: skip
def test_a5_a_value_that_arrives_as_written_is_not_refused(
    database: Database, column: str, value: Value
) -> None:
    lay(database, ODD)
    fix = close(set={column: value, "note": "fixed"})
    fixes.apply(database, fix)
    fixes.revert(database, fix)
    assert database.value(f"SELECT count(*) FROM {AUDIT}") == 12


def test_a5_an_expected_key_or_identity_is_not_rounded_to_one_that_exists(database: Database) -> None:
    lay(database)
    refused(database, close(expect={Decimal("1.6"): "QCOM"}), Refused, "1.6")
    refused(
        database, close(identity={"price": "price"}, expect={1: Decimal("148.00001")}), Refused, "148.00001"
    )


def test_c42_sums_of_floats_are_told_apart_from_what_they_nearly_are(database: Database) -> None:
    lay(
        database,
        "ALTER TABLE positions ADD ratio double precision",
        "UPDATE positions SET ratio = 0.1::float8 + 0.2::float8",
    )
    identity = {"ratio": "ratio"}
    refused(
        database,
        close(expect={1: 0.3}, identity=identity),
        RowsNotAsExpected,
        "ratio is 0.30000000000000004, not 0.3",
    )
    fixes.apply(database, close(expect={1: 0.1 + 0.2}, identity=identity))
    assert statuses(database)[1] == "closed"


# --- NULL, and settings of PL/pgSQL


def test_c29_a_condition_that_is_null_is_not_met(database: Database) -> None:
    lay(database, "UPDATE positions SET note = 'x' WHERE id <> 2")
    refused(database, close(where="note = 'x'"), RowsNotAsExpected, "2 does not meet the condition")
    refused(database, close(where="", ensure="note = 'x'"), ChangeNotAsWanted, "1 of the changed rows")
    refused(database, close(where="", already="note <> 'x'", identity={"note": "note"}, expect={1: "x", 2: "x"}),
            RowsNotAsExpected, "2 note is , not x")  # fmt: skip
    refused(database, close(where="note = 'x' AND id <= 3", expect=3), RowsNotAsExpected, "found 2 rows")


def test_c29_a_sum_over_no_rows_is_no_proof(database: Database) -> None:
    lay(database)
    ensure = "(SELECT sum(price) FROM positions AS p WHERE p.id > 100) > 0"
    refused(database, close(ensure=ensure), ChangeNotAsWanted, "3 of the changed rows")


@pytest.mark.parametrize("conflict", ["use_column", "use_variable", "error"])
def test_c29_settings_of_plpgsql_change_no_guard(database: Database, conflict: str) -> None:
    # Columns that are called like the engine's own variables.
    lay(
        database,
        "ALTER TABLE positions ADD fix text, ADD copied int, ADD changed int, ADD after int, ADD target text, ADD key text,"
        ' ADD run bigint, ADD last int, ADD total int, ADD "columns" int, ADD audit text, ADD wanted text, ADD written int',
        "CREATE EXTENSION IF NOT EXISTS plpgsql",
        f"ALTER DATABASE {database.name} SET plpgsql.variable_conflict = '{conflict}'",
        f"ALTER DATABASE {database.name} SET plpgsql.check_asserts = off",
        f"ALTER DATABASE {database.name} SET plpgsql.extra_errors = 'all'",
    )
    refused(database, close(expect={1: "QCOM", 2: "IBM"}), RowsNotAsExpected, "2 symbol is SPY, not IBM")
    fix = close(set={"status": "closed", "fix": "x", "key": "y", "wanted": sql("symbol")})
    before = database.dump(f"public.{AUDIT}", *LEDGER)
    fixes.apply(database, fix)
    assert statuses(database) == {1: "closed", 2: "closed", 3: "closed", 4: "open"}
    fixes.revert(database, fix)
    assert database.dump(f"public.{AUDIT}", *LEDGER) == before


# --- rows that are gone, and rows that came back


def test_c31_a_row_deleted_since_refuses_the_revert_of_all(database: Database) -> None:
    lay(database)
    fixes.apply(database, close())
    database.execute("DELETE FROM positions WHERE id = 2")
    before = database.dump()
    with pytest.raises(Refused, match=r"1 of 3 rows of public\.positions cannot be restored: 2 gone"):
        fixes.revert(database, close())
    assert database.dump() == before


def test_c31_another_row_under_the_same_key_is_not_taken_for_ours(database: Database) -> None:
    lay(database)
    fix = close(set={"status": "closed"})
    fixes.apply(database, fix)
    database.execute(
        "DELETE FROM positions WHERE id = 2",
        "INSERT INTO positions (id, symbol, status, price) VALUES (2, 'AAPL', 'closed', 5)",
    )
    before = database.dump()
    with pytest.raises(Refused, match="2 "):
        fixes.revert(database, fix)
    assert database.dump() == before


def test_c31_another_row_under_the_same_key_is_not_even_overwritten(database: Database) -> None:
    lay(database)
    fixes.apply(database, close())
    database.execute("UPDATE positions SET symbol = 'AAPL', status = 'held' WHERE id = 2")
    before = database.dump()
    with pytest.raises(Refused, match="2 taken"):
        fixes.revert(database, close(), "overwrite")
    assert database.dump() == before
    fixes.revert(database, close(), "skip")
    assert statuses(database) == {1: "open", 2: "held", 3: "open", 4: "open"}


def test_c31_a_fix_that_changes_what_identifies_a_row_can_be_reverted(database: Database) -> None:
    lay(database)
    fix = close(set={"symbol": sql("symbol || '.US'")})
    before = database.rows("SELECT * FROM positions ORDER BY id")
    fixes.apply(database, fix)
    fixes.revert(database, fix)
    assert database.rows("SELECT * FROM positions ORDER BY id") == before


# --- transactions and crashes


def test_c36_after_a_crash_either_all_of_a_fix_is_there_or_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with embedded_server(str(data), parameters={"fsync": "off"}) as url:
        run_all(
            url,
            "CREATE TABLE positions (id integer PRIMARY KEY, symbol text, status text, price numeric)",
            "INSERT INTO positions VALUES (1, 'QCOM', 'open', 1), (2, 'SPY', 'open', 1), (3, 'NOW', 'open', 1)",
            # For its own writes, somebody found this fast enough.
            "ALTER DATABASE postgres SET synchronous_commit = off",
            "ALTER SYSTEM SET wal_writer_delay = '10s'",
            "SELECT pg_reload_conf()",
        )
        engine = create_engine(url, poolclass=NullPool)
        create = create_script(AuditTable("positions", AUDIT, "public", "public"), fixes.LIMITS)
        for script in (create, apply_script(close(), Context(), fixes.LIMITS)):
            with engine.begin() as connection:
                execute(connection, script, "datafix", fixes.ONCE)
        unfinished = engine.connect()
        execute(unfinished, revert_script(close(), Context(), fixes.LIMITS), "datafix", fixes.ONCE)
        crash(data)
        unfinished.invalidate()
        unfinished.close()
    with embedded_server(str(data)) as url, create_engine(url, poolclass=NullPool).begin() as connection:
        assert connection.exec_driver_sql("SELECT DISTINCT status FROM positions").scalars().all() == [
            "closed"
        ]
        assert [
            tuple(run)
            for run in connection.exec_driver_sql(
                "SELECT outcome, images FROM datafix_run JOIN datafix_run_table USING (run_id)"
            )
        ] == [("applied", 6)]
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {AUDIT}").scalar() == 6
        execute(connection, revert_script(close(), Context(), fixes.LIMITS), "datafix", fixes.ONCE)
        assert connection.exec_driver_sql("SELECT DISTINCT status FROM positions").scalars().all() == ["open"]


def run_all(url: str, *statements: str) -> None:
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def crash(data: Path) -> None:
    """Stop the server at once, as a crash would: nothing is written any more."""
    pid = int((data / "postmaster.pid").read_text(encoding="ascii").splitlines()[0])
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + 20
    while (data / "postmaster.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


# --- rows for one database


def inserting(where: str, *, required: bool = False) -> DataFix:
    return DataFix(
        name="add", reason="test", change=Insert("positions", rows=[{"id": 9, "symbol": "X"}], where=where),
        rows=Rows(key="id", expect=1, required=required), audit="positions_audit",
    )  # fmt: skip


@pytest.mark.parametrize(
    "where", ["EXISTS (SELECT FROM positions WHERE id = 77)", "NULL::boolean", "1 = 2 -- no"]
)
def test_rows_go_only_where_their_condition_holds(database: Database, where: str) -> None:
    lay(database)
    fixes.apply(database, inserting(where))
    assert database.value("SELECT count(*) FROM positions") == 4
    assert database.rows("SELECT outcome, rows_changed FROM datafix_run") == [("not_applicable", 0)]
    told = "the condition of its rows does not hold here: "
    refused(database, inserting(where, required=True), RowsNotAsExpected, told, "Is this the database")
    fixes.apply(database, inserting("EXISTS (SELECT FROM positions WHERE id = 3 AND symbol = 'NOW')"))
    assert database.value("SELECT symbol FROM positions WHERE id = 9") == "X"


def test_an_insert_without_a_condition_keeps_its_fingerprint() -> None:
    assert inserting("").fingerprint != inserting("true").fingerprint
    content = {"table": "positions", "rows": [{"id": 9, "symbol": "X"}], "schema": "public"}
    fix = inserting("")
    assert fix.fingerprint == fingerprint(
        {
            "name": "add", "change": {"kind": "insert", **content}, "rows": vars(fix.rows), "audit": ["public", "positions_audit"],
            "housekeeping": [], "may_differ": [], "fire_triggers": True,
        }
    )  # fmt: skip


def test_a_row_that_is_not_committed_yet_is_waited_for_before_the_conditions_are_looked_at(
    database: Database,
) -> None:
    """Neither of the two would see the other's row, and both would stay."""
    lay(database)
    alone = "(SELECT count(*) FROM positions AS other WHERE other.symbol = positions.symbol) = 1"
    fix = replace(inserting(""), rows=Rows(key="id", expect=1, ensure=alone))
    with closing(database.connect()) as other, other.cursor() as cursor:
        cursor.execute("INSERT INTO positions (id, symbol) VALUES (90, 'X')")
        with pytest.raises(LockNotAvailable):
            fixes.apply(database, fix, limits=Limits(lock_timeout="100ms"))
        other.commit()
    refused(database, fix, ChangeNotAsWanted, "do not meet the post-condition")
    database.execute("DELETE FROM positions WHERE id = 90")
    fixes.apply(database, fix)
    assert database.value("SELECT count(*) FROM positions") == 5
