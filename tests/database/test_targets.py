"""Which tables a fix accepts, and that what it meets there neither hides rows from it nor adds to what it does."""

from dataclasses import replace

import pytest

from datafixes import DataFix, Delete, Rows, Update, sql
from datafixes.errors import (
    ChangeNotAsWanted,
    DeclarationError,
    NoKey,
    NotRestorable,
    OthersWouldChange,
    Refused,
    ShapeMismatch,
    WrongTarget,
)
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from tests import fixes
from tests.servers import LEDGER, Database
from tests.small_book import AUDIT, close, lay, statuses
from tests.tampering import UNPROTECTED

OPEN = dict.fromkeys((1, 2, 3, 4), "open")
CLOSED = OPEN | dict.fromkeys((1, 2, 3), "closed")


def refused(
    database: Database, fix: DataFix, kind: type[Refused], *words: str, role: str = "postgres"
) -> Refused:
    """Apply a fix that must fail and leave everything as it was; return the refusal."""
    before = database.dump()
    with pytest.raises(kind) as caught:
        fixes.apply(database, fix, role=role)
    assert database.dump() == before
    told = caught.value.one_line()
    assert [word for word in words if word not in told] == [], told
    return caught.value


def there_and_back(database: Database, fix: DataFix, role: str = "postgres") -> None:
    """A fix applies, and its revert gives back every row of every table but the audit's own."""
    own = (f"public.{AUDIT}", *LEDGER)
    before = database.dump(*own)
    fixes.apply(database, fix, role=role)
    assert database.dump(*own) != before
    fixes.revert(database, fix, role=role)
    assert database.dump(*own) == before
    # No copy, no change: each run has two images of each row that it changed.
    assert database.rows(
        f"SELECT count(*) FROM datafix_run r WHERE 2 * rows_changed <> (SELECT count(*) FROM {AUDIT} WHERE audit_run_id OPERATOR(pg_catalog.=) run_id)"
    ) == [(0,)]


# --- triggers and rules


def test_c1_a_trigger_that_keeps_a_value_from_being_restored_is_a_refusal_that_names_the_column(
    database: Database,
) -> None:
    lay(
        database,
        "ALTER TABLE positions ADD version integer NOT NULL DEFAULT 1",
        "CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.version := OLD.version + 1; RETURN NEW; END'",
        "CREATE TRIGGER count_up BEFORE UPDATE ON positions FOR EACH ROW EXECUTE FUNCTION count_up()",
    )
    fixes.apply(database, close())
    before = database.dump()
    with pytest.raises(NotRestorable, match=r"version is 3, not 1") as caught:
        fixes.revert(database, close())
    assert "count_up" in caught.value.hint
    assert database.dump() == before


def test_c1_the_same_trigger_on_a_partition_only(database: Database) -> None:
    # A trigger may stand on a partition and not on its parent: it writes a column that the fix does not set.
    database.execute(
        "CREATE TABLE positions (id integer PRIMARY KEY, symbol text, status text DEFAULT 'open', price numeric, changed int DEFAULT 0)"
        " PARTITION BY RANGE (id)",
        "CREATE TABLE positions_low PARTITION OF positions FOR VALUES FROM (0) TO (100)",
        "CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.status = ''closed'' THEN NEW.changed := 7; END IF; RETURN NEW; END'",
        "CREATE TRIGGER note_change BEFORE UPDATE ON positions_low FOR EACH ROW EXECUTE FUNCTION note_change()",
        "INSERT INTO positions VALUES (1, 'QCOM'), (2, 'SPY'), (3, 'NOW')",
    )
    fixes.create_audit_table(database, "positions", AUDIT)
    there_and_back(database, close())


def test_c2_a_trigger_that_swallows_a_row_refuses_the_fix(database: Database) -> None:
    lay(
        database,
        "CREATE FUNCTION spare() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END'",
        "CREATE TRIGGER spare BEFORE UPDATE ON positions FOR EACH ROW EXECUTE FUNCTION spare()",
    )
    refused(
        database, close(), ChangeNotAsWanted, "3 rows of public.positions were copied, but 2 changed", "spare"
    )


def test_c2_a_trigger_that_writes_another_value_refuses_the_fix(database: Database) -> None:
    lay(
        database,
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.status := upper(NEW.status); RETURN NEW; END'",
        "CREATE TRIGGER shout BEFORE UPDATE ON positions FOR EACH ROW EXECUTE FUNCTION shout()",
    )
    refused(database, close(), ChangeNotAsWanted, "status is 'CLOSED'")


@pytest.mark.parametrize("rule", ["DO INSTEAD NOTHING", "DO ALSO INSERT INTO noise VALUES (OLD.id)"])
def test_c2_a_table_with_a_rule_is_refused(database: Database, rule: str) -> None:
    lay(database, "CREATE TABLE noise (id integer)", f"CREATE RULE odd AS ON UPDATE TO positions {rule}")
    refused(database, close(), WrongTarget, "has a rule (odd)")


def test_c12_triggers_run_under_the_search_path_and_time_zone_that_they_were_written_for(
    database: Database,
) -> None:
    lay(
        database,
        "CREATE SCHEMA app",
        "CREATE TABLE app.heard (id integer, zone text)",
        "CREATE FUNCTION app.twice(integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * $1'",
        "CREATE FUNCTION app.hear() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO heard VALUES (twice(NEW.id), current_setting(''TimeZone'')); RETURN NULL; END'",
        "CREATE TRIGGER hear AFTER UPDATE ON positions FOR EACH ROW EXECUTE FUNCTION app.hear()",
        f"ALTER DATABASE {database.name} SET search_path = app, public",
        f"ALTER DATABASE {database.name} SET timezone = 'Asia/Tokyo'",
    )
    with pytest.raises(OthersWouldChange, match=r"app\.heard \(3 inserted\)"):
        fixes.apply(database, close())
    fix = replace(close(), may_differ=[("app", "heard")])
    fixes.apply(database, fix)
    fixes.revert(database, fix)
    assert statuses(database) == OPEN
    assert database.rows("SELECT id, zone, count(*) FROM app.heard GROUP BY 1, 2 ORDER BY 1") == [
        (2, "Asia/Tokyo", 2), (4, "Asia/Tokyo", 2), (6, "Asia/Tokyo", 2),
    ]  # fmt: skip


def test_c13_what_a_trigger_changes_after_the_update_is_in_the_image_and_goes_back(
    database: Database,
) -> None:
    lay(
        database,
        "ALTER TABLE positions ADD total numeric",
        "CREATE FUNCTION total() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE positions SET total = price * 20 WHERE id = NEW.id AND total IS NULL; RETURN NULL; END'",
        "CREATE TRIGGER total AFTER UPDATE ON positions FOR EACH ROW WHEN (NEW.status = 'closed') EXECUTE FUNCTION total()",
    )
    fix = close()
    fixes.apply(database, fix)
    assert database.rows(
        f"SELECT id, total = price * 20 FROM {AUDIT} WHERE audit_image = 'after' ORDER BY id"
    ) == [(1, True), (2, True), (3, True)]
    fixes.revert(database, fix)
    assert database.value("SELECT count(*) FROM positions WHERE total IS NOT NULL") == 0


# --- row-level security


ROLES = (
    "DROP ROLE IF EXISTS {name}",
    "CREATE ROLE {name} LOGIN",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}",
    "GRANT ALL ON SCHEMA public TO {name}",
)


@pytest.fixture
def clerk(database: Database) -> str:
    """A role of this test's own that may do everything with the tables, and owns none."""
    return f"clerk_{database.name}"


def hire(database: Database, clerk: str) -> None:
    database.execute(*(statement.format(name=clerk) for statement in ROLES))


def dismiss(database: Database, clerk: str) -> None:
    database.execute(f"REASSIGN OWNED BY {clerk} TO postgres", f"DROP OWNED BY {clerk}", f"DROP ROLE {clerk}")


@pytest.mark.parametrize("owner", [False, True], ids=["granted", "forced-on-the-owner"])
def test_c7_rows_hidden_by_row_level_security_are_an_error_and_not_half_a_fix(
    database: Database, clerk: str, owner: bool
) -> None:
    lay(
        database,
        "ALTER TABLE positions ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE positions FORCE ROW LEVEL SECURITY",
        "CREATE POLICY even ON positions USING (id % 2 = 0)",
    )
    hire(database, clerk)
    if owner:
        database.execute(f"ALTER TABLE positions OWNER TO {clerk}")
    try:
        # Half of the rows are visible to this role: it could close these and call it a day.
        visible = close(expect=1, where="status = 'open' AND id IN (1, 2, 3)")
        refused(database, visible, Refused, 'row-level security policy for table "positions"', role=clerk)
        refused(database, close(), Refused, 'row-level security policy for table "positions"', role=clerk)
        fixes.apply(database, close())  # a superuser sees all
        assert statuses(database) == CLOSED
        before = database.dump()
        with pytest.raises(Refused, match="row-level security"):
            fixes.revert(database, close(), role=clerk)
        assert database.dump() == before
    finally:
        dismiss(database, clerk)


def test_c7_copies_are_not_for_everybody_who_gets_select_by_default(database: Database, clerk: str) -> None:
    database.execute(
        f"CREATE ROLE {clerk} LOGIN", f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {clerk}"
    )
    try:
        lay(database)
        database.execute(f"REVOKE ALL ON positions FROM {clerk}")
        for relation in (AUDIT, f"{AUDIT}_changes", "datafix_run"):
            assert (
                database.value(f"SELECT has_table_privilege('{clerk}', '{relation}', 'SELECT')") is False
            ), relation
            assert (
                database.value(f"SELECT has_any_column_privilege('{clerk}', '{relation}', 'SELECT')") is False
            )
    finally:
        dismiss(database, clerk)


def test_c19_a_role_without_the_right_to_lock_rows_is_told_so(database: Database, clerk: str) -> None:
    lay(database)
    hire(database, clerk)
    database.execute(f"REVOKE UPDATE ON positions FROM {clerk}")
    try:
        fix = DataFix(
            name="drop",
            reason="test",
            change=Delete("positions"),
            rows=Rows(key="id", expect=[1, 2]),
            audit=AUDIT,
        )
        refused(database, fix, Refused, "permission denied for table positions", "42501", role=clerk)
    finally:
        dismiss(database, clerk)


def test_a_role_that_is_not_a_superuser_applies_and_reverts(database: Database, clerk: str) -> None:
    lay(database)
    hire(database, clerk)
    try:
        there_and_back(database, close(), role=clerk)
        assert database.rows("SELECT DISTINCT applied_by FROM datafix_run") == [(clerk,)]
    finally:
        dismiss(database, clerk)


# --- partitions, inheritance, views


ELSEWHERE = ("CREATE FOREIGN DATA WRAPPER nothing", "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing")
PARTITIONED = (
    "CREATE TABLE positions (symbol text, price numeric(12,4), status varchar(20) NOT NULL DEFAULT 'open', id integer, note text,"
    " PRIMARY KEY (id)) PARTITION BY RANGE (id)",
    # its columns stand in another order
    "CREATE TABLE positions_low (id integer NOT NULL, note text, price numeric(12,4), status varchar(20) NOT NULL DEFAULT 'open', symbol text)",
    "ALTER TABLE positions ATTACH PARTITION positions_low FOR VALUES FROM (0) TO (3)",
    "CREATE TABLE positions_high PARTITION OF positions FOR VALUES FROM (3) TO (100)",
    "INSERT INTO positions (id, symbol, price) VALUES (1, 'QCOM', 148), (2, 'SPY', 690.2), (3, 'NOW', 101.5), (4, 'ORCL', 157)",
)


def test_c8_a_partitioned_table_is_fixed_and_given_back_through_its_parent(database: Database) -> None:
    database.execute(*PARTITIONED)
    fixes.create_audit_table(database, "positions", AUDIT)
    there_and_back(database, close())


def test_c8_a_partition_detached_since_is_rows_that_are_gone(database: Database) -> None:
    database.execute(*PARTITIONED)
    fixes.create_audit_table(database, "positions", AUDIT)
    fixes.apply(database, close())
    database.execute("ALTER TABLE positions DETACH PARTITION positions_high")
    before = database.dump()
    with pytest.raises(Refused, match=r"1 of 3 rows of public\.positions cannot be restored: 3 gone"):
        fixes.revert(database, close())
    assert database.dump() == before


def test_c8_a_single_partition_is_a_target_like_any_table(database: Database) -> None:
    database.execute(*PARTITIONED)
    fixes.create_audit_table(database, "positions_low", AUDIT)
    there_and_back(database, close(table="positions_low", expect={1: "QCOM", 2: "SPY"}))


def test_c8_a_partition_that_is_a_foreign_table_is_refused(database: Database) -> None:
    database.execute(
        "CREATE TABLE positions (id integer NOT NULL, symbol text, status text, price numeric) PARTITION BY RANGE (id)",
        *ELSEWHERE,
        "CREATE FOREIGN TABLE positions_far PARTITION OF positions FOR VALUES FROM (0) TO (9) SERVER elsewhere",
    )
    fixes.create_audit_table(database, "positions", AUDIT)
    with pytest.raises(WrongTarget, match=r"public\.positions has a partition that is a foreign table"):
        fixes.apply(database, close())


def test_c9_a_table_that_others_inherit_from_is_refused(database: Database) -> None:
    lay(database, "CREATE TABLE positions_old (grade text) INHERITS (positions)")
    refused(database, close(), WrongTarget, "has tables that inherit from it")


@pytest.mark.parametrize(
    ("statement", "called"),
    [
        ("CREATE VIEW odd AS SELECT * FROM positions", "is a view"),
        ("CREATE VIEW odd AS SELECT * FROM positions WHERE id < 3 WITH CHECK OPTION", "is a view"),
        ("CREATE MATERIALIZED VIEW odd AS SELECT * FROM positions", "is a materialized view"),
        ("CREATE FOREIGN TABLE odd (id integer, symbol text) SERVER elsewhere", "is a foreign table"),
        ("CREATE SEQUENCE odd", "is not a table"),
    ],
    ids=["view", "updatable view", "materialized view", "foreign table", "sequence"],
)
def test_c10_what_is_no_table_is_refused(database: Database, statement: str, called: str) -> None:
    lay(database, *ELSEWHERE, statement)
    refused(database, close(table="odd"), WrongTarget, f"public.odd {called}")
    with pytest.raises(WrongTarget):
        fixes.create_audit_table(database, "odd", "odd_audit")


def test_c10_an_audit_table_that_keeps_nothing_is_refused(database: Database) -> None:
    for index, swap in enumerate((
        "ALTER TABLE positions_audit SET UNLOGGED",
        "CREATE RULE forget AS ON INSERT TO positions_audit DO INSTEAD NOTHING",
        "CREATE FUNCTION mask() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.symbol := NULL; RETURN NEW; END';"
        "CREATE TRIGGER mask BEFORE INSERT ON positions_audit FOR EACH ROW EXECUTE FUNCTION mask()",
        "ALTER TABLE positions_audit RENAME TO kept; CREATE VIEW positions_audit AS SELECT * FROM kept",
    )):  # fmt: skip
        if index:
            database.execute(
                "DROP TABLE IF EXISTS kept CASCADE", "DROP TABLE IF EXISTS positions_audit CASCADE"
            )
            fixes.create_audit_table(database, "positions", AUDIT)
        else:
            lay(database)
        database.execute(swap)
        refused(database, close(), ShapeMismatch, "public.positions_audit")


# --- search_path


HOSTILE = (
    "CREATE SCHEMA evil",
    "CREATE FUNCTION evil.never(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    "CREATE FUNCTION evil.never(bigint, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    "CREATE FUNCTION evil.never(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    "CREATE FUNCTION evil.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    "CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.never)",
    "CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = evil.never)",
    "CREATE OPERATOR evil.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.never)",
    "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.never)",
    "CREATE OPERATOR evil.> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.never)",
    "CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''SELECT'''",
    "CREATE FUNCTION evil.strpos(text, text) RETURNS integer LANGUAGE sql AS 'SELECT 0'",
    "CREATE FUNCTION evil.upper(text) RETURNS text LANGUAGE sql AS 'SELECT ''!'''",
    "CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''!'''",
    "CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''!'''",
    "CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE sql AS 'SELECT NULL::regclass'",
)


def test_c11_operators_and_functions_before_pg_catalog_change_no_guard(database: Database) -> None:
    lay(database, *HOSTILE, f"ALTER DATABASE {database.name} SET search_path = evil, pg_catalog, public")
    fix = close(
        where="status OPERATOR(pg_catalog.=) 'open'",
        already="false",
        ensure="status OPERATOR(pg_catalog.=) 'closed'",
    )
    there_and_back(database, fix)
    there_and_back(database, close("numbered", where="id OPERATOR(pg_catalog.<) 3", expect=2))


def test_c11_temporary_tables_shadow_neither_target_nor_audit_table_nor_ledger(database: Database) -> None:
    lay(database)
    shadows = " ".join(
        f"CREATE TEMP TABLE {name} AS SELECT * FROM public.{name} WITH NO DATA;"
        for name in ("positions", AUDIT, "datafix_run")
    )
    apply_in_the_same_session(database, shadows, close())
    assert statuses(database) == CLOSED
    assert database.value(f"SELECT count(*) FROM {AUDIT}") == 6


def apply_in_the_same_session(database: Database, preparation: str, fix: DataFix) -> None:
    script = apply_script(fix, Context(), fixes.LIMITS)
    database.psql(f"{preparation}\nBEGIN;\n{script.text}COMMIT;\n", "-v", "ON_ERROR_STOP=1", "-q")


# --- keys


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("", ("has no unique index over (id)", "The table has no unique key at all")),
        ("ALTER TABLE odd ADD UNIQUE (id)", ("the key column id of public.odd can be null",)),
        ("CREATE UNIQUE INDEX ON odd (id) WHERE id > 0", ("has no unique index over (id)",)),
        ("CREATE UNIQUE INDEX ON odd ((id + 0))", ("has no unique index over (id)",)),
        ("ALTER TABLE odd ADD PRIMARY KEY (id, symbol)", ("has no unique index over (id)", "Unique here")),
        ("CREATE INDEX ON odd (id)", ("has no unique index over (id)",)),
    ],
    ids=["none", "nullable", "partial", "expression", "wider", "not unique"],
)
def test_c32_a_key_that_does_not_tell_rows_apart_is_refused(
    database: Database, keys: str, words: tuple[str, ...]
) -> None:
    lay(database, "CREATE TABLE odd AS SELECT * FROM positions", *filter(None, [keys]))
    refused(database, close(table="odd"), NoKey, *words)


def test_c32_a_key_of_several_columns_is_one_key(database: Database) -> None:
    lay(
        database,
        "CREATE TABLE odd AS SELECT * FROM positions",
        "ALTER TABLE odd ADD PRIMARY KEY (symbol, id)",
    )
    fix = DataFix(
        name="close", reason="test", change=Update("odd", set={"status": "closed"}, where="status = 'open'"),
        rows=Rows(key=("id", "symbol"), expect=[(1, "QCOM"), (3, "NOW")]), audit=AUDIT,
    )  # fmt: skip
    there_and_back(database, fix)


# --- names


def test_c40_an_audit_table_whose_name_postgresql_would_cut_is_refused(database: Database) -> None:
    lay(database)
    for name in ("a" * 64, "a" * 60):  # the second has a view with a longer name beside it
        with pytest.raises(DeclarationError, match="bytes long"):
            fixes.create_audit_table(database, "positions", name)


def test_c40_long_names_that_postgresql_keeps_stay_apart(database: Database) -> None:
    lay(database)
    for last in "xy":
        fixes.create_audit_table(database, "positions", "a" * 54 + last)
    fix = DataFix(
        name="n" * 63, reason="test", change=Update("positions", set={"status": "closed"}),
        rows=Rows(key="id", expect=[1]), audit="a" * 54 + "y",
    )  # fmt: skip
    fixes.apply(database, fix)
    fixes.revert(database, fix)
    assert [database.value(f"SELECT count(*) FROM {'a' * 54}{last}") for last in "xy"] == [0, 4]


# --- publications, deferred constraints, what was bad before


def test_c27_tables_of_a_publication_can_be_fixed(database: Database) -> None:
    lay(database, "CREATE PUBLICATION everything FOR ALL TABLES")
    there_and_back(database, close())
    # The audit table has no primary key, and images may still have to be deleted.
    database.execute(UNPROTECTED)
    assert len(database.rows(f"DELETE FROM {AUDIT} RETURNING 1")) == 12


def test_c27_a_target_that_cannot_be_replicated_is_refused_by_the_server_in_one_line(
    database: Database,
) -> None:
    lay(
        database,
        "ALTER TABLE positions DROP CONSTRAINT positions_pkey",
        "CREATE UNIQUE INDEX ON positions (id)",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    )
    refused(database, close(), Refused, "does not have a replica identity")


def test_c26_a_row_that_breaks_a_constraint_from_before_is_refused_by_its_name(database: Database) -> None:
    lay(database, "ALTER TABLE positions ADD CONSTRAINT known CHECK (symbol <> 'SPY') NOT VALID")
    refused(database, close(), Refused, '"known"')


def test_a_target_without_rows_is_not_applicable(database: Database) -> None:
    lay(database, "DELETE FROM positions")
    fixes.apply(database, close())
    assert database.rows("SELECT outcome, rows_changed FROM datafix_run") == [("not_applicable", 0)]


def test_ten_thousand_rows_named_one_by_one(database: Database) -> None:
    lay(
        database,
        "INSERT INTO positions (id, symbol, price) SELECT g, 'S' || g, g FROM generate_series(100, 10099) AS g",
    )
    there_and_back(database, close(expect={number: f"S{number}" for number in range(100, 10100)}))
    assert database.value("SELECT rows_changed FROM datafix_run WHERE direction = 'apply'") == 10_000


def test_null_keeps_its_meaning_in_every_column(database: Database) -> None:
    lay(database, "UPDATE positions SET price = NULL, note = CASE id WHEN 1 THEN '' END")
    there_and_back(database, close(set={"price": 5, "note": None}, where=""))
    fixes.apply(database, close("other", set={"note": sql("coalesce(note, 'was null')")}, where=""))
    assert database.rows("SELECT id, note FROM positions WHERE id < 4 ORDER BY id") == [
        (1, ""),
        (2, "was null"),
        (3, "was null"),
    ]
