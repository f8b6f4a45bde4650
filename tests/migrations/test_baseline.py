"""Revisions 012 and 013: a baseline that is created or adopted, trailing stops, and the way back."""

import argparse
import io
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from alembic import command
from tests.servers import Database

PROJECT = Path(__file__).parents[2]
BOOK = (PROJECT / "tests/fixtures/book.sql").read_text(encoding="ascii")
PRODUCTION = (PROJECT / "tests/fixtures/production.sql").read_text(encoding="ascii")

REQUIRED = {
    "id": "integer",
    "ticker": "character varying(10)",
    "instrument_type": "character varying(20)",
    "strategy_type": "character varying(20)",
    "side": "character varying(10)",
    "quantity": "numeric(12,4)",
    "entry_price": "numeric(12,4)",
    "entry_time": "timestamp without time zone",
}
BASELINE = REQUIRED | {
    "strike_price": "numeric(12,4)",
    "expiration_date": "date",
    "stop_loss": "numeric(12,4)",
    "take_profit": "numeric(12,4)",
    "max_hold_minutes": "integer",
    "bracket_order_accepted": "boolean",
    "stop_order_id": "character varying(100)",
    "target_order_id": "character varying(100)",
    "current_price": "numeric(12,4)",
    "current_pnl_dollars": "numeric(12,4)",
    "current_pnl_percent": "numeric(8,4)",
    "last_checked_at": "timestamp without time zone",
    "check_count": "integer",
    "status": "character varying(20)",
    "close_reason": "character varying(50)",
    "created_at": "timestamp without time zone",
    "updated_at": "timestamp without time zone",
    "closed_at": "timestamp without time zone",
    "option_symbol": "text",
    "account_name": "character varying(50)",
    "exit_price": "numeric(12,4)",
    "entry_features_json": "jsonb",
}
TRAILING_STOPS = {
    "peak_price": "numeric(12,4)",
    "trailing_stop_price": "numeric(12,4)",
    "entry_underlying_price": "numeric(12,4)",
    "original_quantity": "integer",
}
ONE_ROW = (
    "INSERT INTO public.active_positions"
    " (id, ticker, instrument_type, strategy_type, side, quantity, entry_price, entry_time)"
    " VALUES (1, 'SPY', 'STOCK', 'day_trade', 'long', 1, 690.20, '2026-02-02 17:10')"
)  # fmt: skip


def table_with_only(columns: dict[str, str]) -> str:
    listed = ", ".join(f"{name} {kind} NOT NULL" for name, kind in columns.items())
    return f"CREATE TABLE public.active_positions ({listed})"


@dataclass(frozen=True)
class Migrations:
    """The migrations of a database, run by Alembic itself or as a script that psql reads."""

    database: Database
    offline: bool

    def go(self, start: str, end: str, *told: str) -> None:
        """Run the steps from one revision to another."""
        if self.offline:
            if start == "base":  # such a script makes the version table, which a downgrade leaves behind (B1)
                self.database.execute("DROP TABLE IF EXISTS alembic_version")
            self.database.psql(self.script(start, end, *told), "-v", "ON_ERROR_STOP=1")
        else:
            self._alembic(io.StringIO(), start, end, *told)

    def refusal(self, start: str, end: str) -> str:
        """Run steps that must fail and change nothing; return what the user is told."""
        before = state(self.database)
        if self.offline:
            script = self.script(start, end)
            # VERBOSITY shows the SQLSTATE.
            done = self.database.psql(script, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", check=False)
            assert done.returncode != 0
            error = done.stderr
        else:
            with pytest.raises(Exception, match="active_positions") as caught:
                self._alembic(io.StringIO(), start, end)
            error = str(caught.value)
        assert state(self.database) == before
        return error

    def script(self, start: str, end: str, *told: str) -> str:
        """The steps as `alembic --sql` prints them."""
        buffer = io.StringIO()
        self._alembic(buffer, start, end, *told, sql=True)
        return buffer.getvalue()

    def _alembic(self, buffer: io.StringIO, start: str, end: str, *told: str, sql: bool = False) -> None:
        config = Config(
            str(PROJECT / "alembic.ini"),
            stdout=io.StringIO(),
            output_buffer=buffer,
            cmd_opts=argparse.Namespace(x=[f"url={self.database.url}", *told]),
        )
        order = ("base", "012", "013")
        step = command.upgrade if order.index(start) < order.index(end) else command.downgrade
        step(config, f"{start}:{end}" if sql else end, sql=sql)


@pytest.fixture(params=[False, True], ids=["online", "offline"])
def migrations(request: pytest.FixtureRequest, database: Database) -> Migrations:
    return Migrations(database, request.param)


def revision(name: str) -> ModuleType:
    return ScriptDirectory.from_config(Config(str(PROJECT / "alembic.ini"))).get_revision(name).module


def state(database: Database) -> tuple[str, dict[str, list[str]]]:
    """Every definition and every row, save for Alembic's own."""
    definitions = [part for part in database.schema().split("\n\n\n") if "alembic_version" not in part]
    return "\n\n\n".join(definitions), database.dump("public.alembic_version")


def columns(database: Database) -> dict[str, tuple[Any, ...]]:
    """Column -> type, NOT NULL, default."""
    found = database.rows(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
        " pg_get_expr(d.adbin, d.adrelid)"
        " FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
        " WHERE a.attrelid = 'public.active_positions'::regclass AND a.attnum > 0 AND NOT a.attisdropped"
    )
    return {name: tuple(rest) for name, *rest in found}


# --- 012 on an empty database


def test_an_empty_database_gets_the_baseline(migrations: Migrations) -> None:
    migrations.go("base", "012")
    found = columns(migrations.database)
    assert {name: facts[0] for name, facts in found.items()} == BASELINE
    assert {name for name, facts in found.items() if facts[1]} == set(REQUIRED)
    assert {name: facts[2] for name, facts in found.items() if facts[2]} == {
        "id": "nextval('active_positions_id_seq'::regclass)",
        "bracket_order_accepted": "false",
        "check_count": "0",
        "status": "'open'::character varying",
        "created_at": "CURRENT_TIMESTAMP",
        "updated_at": "CURRENT_TIMESTAMP",
        "account_name": "'large'::character varying",
    }
    indexes = migrations.database.rows(
        "SELECT regexp_replace(indexdef, '^.* USING btree ', '') FROM pg_indexes"
        " WHERE tablename = 'active_positions'"
    )
    assert {definition for (definition,) in indexes} == {
        "(id)", "(status)", "(ticker)", "(account_name)", "(status, account_name)", "(expiration_date)",
        "(entry_time)", "(option_symbol)",
    }  # fmt: skip


def test_b16_the_other_driver_does_the_same(database: Database) -> None:
    database.psql(PRODUCTION, "-v", "ON_ERROR_STOP=1")
    before = state(database)
    migrations = Migrations(database, offline=False)
    migrations.go("base", "013", f"url={database.url_for(driver='psycopg')}")
    assert "exit_price" in columns(database)
    migrations.go("013", "base", f"url={database.url_for(driver='psycopg')}")
    assert state(database) == before


def test_a_created_table_goes_away_and_comes_back_the_same(migrations: Migrations) -> None:
    migrations.go("base", "013")
    created = state(migrations.database)
    migrations.go("013", "base")
    assert migrations.database.rows("SELECT to_regclass('public.active_positions')") == [(None,)]
    migrations.go("base", "013")
    assert state(migrations.database) == created


def test_a_created_table_that_holds_rows_is_not_dropped(migrations: Migrations) -> None:
    migrations.go("base", "012")
    migrations.database.psql(BOOK)
    told = migrations.refusal("012", "base")
    assert "public.active_positions holds: 17 row(s)" in told
    assert "alembic -x discard=active_positions downgrade base" in told
    migrations.go("012", "base", "discard=position_reconciliation_audit, active_positions")
    assert migrations.database.rows("SELECT to_regclass('public.active_positions')") == [(None,)]


def test_a_created_table_that_others_refer_to_is_not_dropped(migrations: Migrations) -> None:
    migrations.go("base", "012")
    migrations.database.execute("CREATE TABLE notes (position_id integer REFERENCES public.active_positions)")
    assert "notes" in migrations.refusal("012", "base")


# --- 012 on a table made by other tools


def test_production_gets_the_two_missing_columns_and_nothing_else(migrations: Migrations) -> None:
    database = migrations.database
    database.psql(PRODUCTION, "-v", "ON_ERROR_STOP=1")
    shape, everything = columns(database), state(database)
    written = database.rows("SELECT ctid, xmin FROM public.active_positions ORDER BY id")
    migrations.go("base", "012")
    assert columns(database) == shape | {
        "account_name": ("character varying(50)", False, "'large'::character varying"),
        "exit_price": ("numeric(12,4)", False, None),
    }
    assert database.rows("SELECT DISTINCT account_name, exit_price FROM public.active_positions") == [
        ("large", None)
    ]
    # No row was rewritten, and without the two columns everything is as it was.
    assert database.rows("SELECT ctid, xmin FROM public.active_positions ORDER BY id") == written
    database.execute("ALTER TABLE public.active_positions DROP account_name, DROP exit_price")
    assert state(database) == everything


def test_production_gets_back_exactly_what_it_had(migrations: Migrations) -> None:
    database = migrations.database
    database.psql(PRODUCTION, "-v", "ON_ERROR_STOP=1")
    before = state(database)
    migrations.go("base", "013")
    after = state(database)
    migrations.go("013", "base")
    assert state(database) == before
    migrations.go("base", "013")
    assert state(database) == after


def test_an_adopted_table_gets_the_same_columns_as_a_created_one(migrations: Migrations) -> None:
    database = migrations.database
    database.execute(table_with_only(REQUIRED), ONE_ROW)
    migrations.go("base", "012")
    adopted = columns(database)
    # No claim about the row that was there: it is not open, and it was not made just now.
    assert database.rows(
        "SELECT account_name, check_count, status, created_at FROM public.active_positions"
    ) == [("large", 0, None, None)]
    migrations.go("012", "base")
    assert set(columns(database)) == set(REQUIRED)
    database.execute("DROP TABLE public.active_positions")
    migrations.go("base", "012")
    created = columns(database)
    assert {n: f for n, f in adopted.items() if n != "id"} == {n: f for n, f in created.items() if n != "id"}


def test_a_partitioned_table_is_adopted_with_its_partitions(migrations: Migrations) -> None:
    database = migrations.database
    database.execute(
        table_with_only(REQUIRED) + " PARTITION BY LIST (ticker)",
        "CREATE TABLE public.active_positions_spy PARTITION OF public.active_positions FOR VALUES IN ('SPY')",
        ONE_ROW,
    )
    before = state(database)
    migrations.go("base", "013")
    assert set(columns(database)) == set(BASELINE | TRAILING_STOPS)
    migrations.go("013", "base")
    assert state(database) == before


def test_all_columns_that_stand_in_the_way_are_named_in_one_line(migrations: Migrations) -> None:
    migrations.database.execute(
        table_with_only(REQUIRED | {"quantity": "integer"}),
        "ALTER TABLE public.active_positions DROP side, ADD exit_price numeric(10,2)",
    )
    told = migrations.refusal("base", "012")
    assert (
        "public.active_positions cannot be adopted: exit_price is numeric(10,2), not numeric(12,4);"
        " quantity is integer, not numeric(12,4); side (NOT NULL) is missing"
    ) in told
    assert not migrations.offline or "DF004" in told


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ("CREATE VIEW public.active_positions AS SELECT 1 AS id", "view"),
        ("CREATE MATERIALIZED VIEW public.active_positions AS SELECT 1 AS id", "materialized view"),
        ("CREATE SEQUENCE public.active_positions", "sequence"),
        ("CREATE TYPE public.active_positions AS (id integer)", "composite type"),
        ("CREATE FOREIGN DATA WRAPPER away; CREATE SERVER away FOREIGN DATA WRAPPER away;"
         " CREATE FOREIGN TABLE public.active_positions (id integer) SERVER away", "foreign table"),
    ],
)  # fmt: skip
def test_c10_what_is_not_a_table_is_not_adopted(migrations: Migrations, definition: str, kind: str) -> None:
    migrations.database.execute(definition)
    told = migrations.refusal("base", "012")
    assert f"public.active_positions cannot be adopted: it is not a table but a {kind}" in told


def test_a_complete_table_is_not_locked(migrations: Migrations) -> None:
    database = migrations.database
    migrations.go("base", "013")
    database.execute("COMMENT ON TABLE public.active_positions IS NULL", "DROP TABLE alembic_version")
    with closing(database.connect()) as reader, reader.cursor() as cursor:
        cursor.execute("LOCK TABLE public.active_positions IN ACCESS EXCLUSIVE MODE")
        migrations.go("base", "012")
        migrations.go("012", "base")


def test_c11_a_temporary_table_of_that_name_is_not_looked_at(database: Database) -> None:
    database.psql(
        f"CREATE TEMP TABLE active_positions (id text); BEGIN; {revision('012').UPGRADE}; COMMIT",
        "-v", "ON_ERROR_STOP=1",
    )  # fmt: skip
    assert {name: facts[0] for name, facts in columns(database).items()} == BASELINE


# --- going back below 012 on an adopted table


def test_values_in_the_added_columns_stand_in_the_way(migrations: Migrations) -> None:
    database = migrations.database
    database.psql(PRODUCTION, "-v", "ON_ERROR_STOP=1")
    before = state(database)
    migrations.go("base", "012")
    database.execute("UPDATE public.active_positions SET account_name = 'tiny' WHERE id IN (19, 32, 33)")
    database.execute(
        "UPDATE public.active_positions SET exit_price = entry_price, account_name = NULL WHERE id = 1"
    )
    told = migrations.refusal("012", "base")
    assert (
        "would lose what public.active_positions holds: account_name in 3 row(s), exit_price in 1 row(s)"
        in told
    )
    assert "alembic -x discard=active_positions downgrade base" in told
    migrations.go("012", "base", "discard=active_positions")
    # The rows were written meanwhile; what they hold in their own columns is the same.
    assert state(database) == before


def test_a_column_whose_comment_was_changed_stays(migrations: Migrations) -> None:
    database = migrations.database
    database.psql(PRODUCTION, "-v", "ON_ERROR_STOP=1")
    migrations.go("base", "012")
    database.execute("COMMENT ON COLUMN public.active_positions.account_name IS 'owned by the desk'")
    migrations.go("012", "base")
    assert "account_name" in columns(database)
    assert "exit_price" not in columns(database)
    migrations.go("base", "012")
    assert "owned by the desk" in database.schema()


def test_c07_rows_hidden_by_a_policy_are_not_lost(database: Database) -> None:
    Migrations(database, offline=False).go("base", "012")
    role = f"keeper_{database.name}"
    database.execute(
        ONE_ROW,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT ON alembic_version TO {role}",
        f"ALTER TABLE public.active_positions OWNER TO {role}",
        "ALTER TABLE public.active_positions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )
    done = database.psql(
        revision("012").downgrade_sql("false"), "-v", "ON_ERROR_STOP=1", check=False, role=role
    )
    assert "row-level security" in done.stderr
    assert database.value("SELECT count(*) FROM public.active_positions") == 1


# --- 013


def test_trailing_stops_are_added_and_dropped(migrations: Migrations) -> None:
    migrations.go("base", "012")
    before = state(migrations.database)
    migrations.go("012", "013")
    found = columns(migrations.database)
    assert {name: found[name][0] for name in TRAILING_STOPS} == TRAILING_STOPS
    migrations.go("013", "012")
    assert state(migrations.database) == before


def test_trailing_stops_that_are_there_already_stay(migrations: Migrations) -> None:
    database = migrations.database
    migrations.go("base", "012")
    database.psql(BOOK)
    database.execute(
        "ALTER TABLE public.active_positions ADD peak_price numeric(12,4)",
        "ALTER TABLE public.active_positions ADD original_quantity integer DEFAULT 3",
        "COMMENT ON COLUMN public.active_positions.peak_price IS 'ours'",
    )
    before = state(database)
    migrations.go("012", "013")
    migrations.go("013", "012")
    assert state(database) == before


def test_trailing_stops_of_another_type_are_named(migrations: Migrations) -> None:
    migrations.go("base", "012")
    migrations.database.execute(
        "ALTER TABLE public.active_positions ADD peak_price text, ADD original_quantity bigint"
    )
    told = migrations.refusal("012", "013")
    assert "original_quantity is bigint, not integer; peak_price is text, not numeric(12,4)" in told


def test_trailing_stops_go_with_what_they_hold_and_nothing_else_does(migrations: Migrations) -> None:
    database = migrations.database
    migrations.go("base", "012")
    database.psql(BOOK)
    before = state(database)
    migrations.go("012", "013")
    database.execute("UPDATE public.active_positions SET peak_price = 150 WHERE status = 'open'")
    migrations.go("013", "012")
    assert state(database) == before


# --- how the scripts behave


def test_b02_after_a_refused_012_psql_adds_no_trailing_stops(database: Database) -> None:
    database.execute(table_with_only(REQUIRED | {"quantity": "integer"}))
    before = state(database)
    done = database.psql(Migrations(database, offline=True).script("base", "013"), "-v", "VERBOSITY=verbose")
    assert "DF004" in done.stderr
    assert state(database) == before


@pytest.mark.parametrize(("start", "end"), [("012", "013"), ("013", "012"), ("012", "base")])
def test_a_script_for_another_revision_changes_nothing(database: Database, start: str, end: str) -> None:
    migrations = Migrations(database, offline=True)
    migrations.go("base", start)
    database.execute("UPDATE alembic_version SET version_num = 'elsewhere'")
    before = database.schema(), database.dump()
    done = database.psql(migrations.script(start, end), "-v", "VERBOSITY=verbose")
    assert "DF001" in done.stderr
    assert (database.schema(), database.dump()) == before


@pytest.mark.parametrize("name", ["012", "013"])
def test_b09_b10_b11_b39_the_text_reaches_the_server_as_it_is_written(name: str) -> None:
    module = revision(name)
    for text in (module.UPGRADE, downgrade_text(module)):
        assert text.isascii()
        assert not set("%\t\r\\") & set(text)
        assert sa.text(text).compile().params == {}


def downgrade_text(module: ModuleType) -> str:
    text: str = module.DOWNGRADE if hasattr(module, "DOWNGRADE") else module.downgrade_sql("false")
    return text


@pytest.mark.parametrize("chosen", ["0", "7s"])
def test_b35_lock_timeout_does_not_leak_into_the_next_migration(database: Database, chosen: str) -> None:
    database.psql(PRODUCTION)
    database.execute("CREATE TABLE alembic_version (version_num varchar(32))")
    first, second = revision("012"), revision("013")
    steps = [
        (first.UPGRADE, "INSERT INTO alembic_version VALUES ('012')"),
        (second.UPGRADE, "UPDATE alembic_version SET version_num = '013'"),
        (downgrade_text(second), "UPDATE alembic_version SET version_num = '012'"),
        (downgrade_text(first), "DELETE FROM alembic_version"),
    ]
    script = "".join(f"{step};\nSHOW lock_timeout; SHOW row_security; {then};\n" for step, then in steps)
    done = database.psql(
        f"BEGIN; SET LOCAL lock_timeout = '{chosen}'; {script} COMMIT", "-qtA", "-v", "ON_ERROR_STOP=1"
    )
    assert done.stdout.split() == [chosen, "on"] * 4


def test_a_lock_that_cannot_be_had_fails_within_the_time_somebody_chose(database: Database) -> None:
    database.psql(PRODUCTION)
    with closing(database.connect()) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM public.active_positions")
        done = database.psql(
            f"SET lock_timeout = '50ms'; SET statement_timeout = '3s'; {revision('012').UPGRADE};",
            "-v",
            "ON_ERROR_STOP=1",
            check=False,
        )
    assert "canceling statement due to lock timeout" in done.stderr
    assert "exit_price" not in columns(database)


# --- the fixtures


def test_the_book_is_the_one_of_the_incident(database: Database) -> None:
    Migrations(database, offline=False).go("base", "012")
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    symbols = database.rows(
        "SELECT id, account_name, coalesce(option_symbol, ticker) FROM public.active_positions"
        " WHERE status IN ('open', 'closing') AND id NOT IN (28, 29, 30) ORDER BY id"
    )
    assert symbols == [
        (13, "large", "NOW"),
        (16, "large", "QCOM"),
        (19, "tiny", "SPY"),
        (21, "large", "ORCL260213C00155000"),
        (24, "large", "CRM260227P00200000"),
        (32, "tiny", "NOW260220P00110000"),
        (33, "tiny", "QCOM260220P00145000"),
    ]
    assert database.rows("SELECT status, count(*) FROM public.active_positions GROUP BY 1 ORDER BY 1") == [
        ("closed", 7),
        ("closing", 4),
        ("open", 6),
    ]
    assert database.value("SELECT nextval('public.active_positions_id_seq')") == 34


def test_production_holds_the_same_book(database: Database) -> None:
    migrations = Migrations(database, offline=False)
    shared = ", ".join(BASELINE.keys() - {"account_name", "exit_price", "entry_features_json"})
    query = f"SELECT {shared} FROM public.active_positions ORDER BY id"
    database.psql(PRODUCTION, "-v", "ON_ERROR_STOP=1")
    production = database.rows(query)
    database.execute("DROP TABLE public.active_positions CASCADE")
    migrations.go("base", "012")
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    assert database.rows(query) == production
