"""What is no attack raises no alarm: moves, upgrades, renames, settings, and what runs left that were not sealed at once."""

import os
from pathlib import Path

import pytest

from datafixes import DataFix, Rows, Update
from tests.cli.commands import datafixes
from tests.conftest import VERSIONS
from tests.fixes import apply, create_audit_table
from tests.migrations.test_ledger_versions import VERSION_0_1
from tests.projects import Project, new_project
from tests.servers import Database, Server, running_server
from tests.tampering import tamper
from tests.trust.audits import anchor, backup, compared, states, three_runs, verified

FINE = {1: "proven", 2: "proven", 3: "proven"}


def applied(database: Database, setup: str, change: str) -> None:
    """Run 1: a fix that changes all rows of the table `thing`."""
    database.execute(setup)
    create_audit_table(database, "thing", "thing_audit")
    rows = Rows(key="id", expect=database.value("SELECT count(*) FROM thing"))
    column, value = change.split("=")
    apply(
        database,
        DataFix(name="do", reason="Wrong.", change=Update("thing", set={column: value}, where="true"), rows=rows, audit="thing_audit"),
    )  # fmt: skip


def sealed(directory: Path, database: Database) -> Project:
    """A project on a database whose runs are sealed now."""
    project = new_project(directory, database)
    ran = datafixes(project, "seal")
    assert ran.code == 0, ran.err
    return project


def test_a_database_is_restored_on_the_same_server(
    tmp_path: Path, database: Database, server: Server
) -> None:
    project = three_runs(tmp_path, database)
    kept = anchor(project, tmp_path / "anchor.json")
    with server.database("restored") as restored:
        restored.psql(backup(database), "-q", "-v", "ON_ERROR_STOP=1")
        moved = project.on(restored)
        assert states(moved) == FINE
        assert compared(moved, kept) == ["matches"]
        # it goes on there, and says where
        assert moved.alembic("-x", f"url={moved.url}", "downgrade", "a").code == 0
        assert states(moved) == {**FINE, 4: "proven"}
        assert "From position 4 on, the chain was written in database restored" in " ".join(
            datafixes(moved, "verify-audit").out.split()
        )


@pytest.mark.skipif(len(VERSIONS) < 2, reason="a database moves to a newer server")
def test_every_type_is_proven_on_a_newer_server(tmp_path: Path) -> None:
    from tests.database.every_type import OWN_TYPES, STATISTICS, scalars, with_arrays
    from tests.database.type_matrix import DECOYS

    old, new = min(VERSIONS), max(VERSIONS)
    # xml needs a server with libxml; values of statistics are read by no server; a role that is not there by none
    types = {
        name: [one for one in values if not one.startswith("makeaclitem(4000000000")]
        for name, values in scalars(old).items()
        if name != "xml" and name not in STATISTICS
    }
    columns = {f"c{n}": (name, values) for n, (name, values) in enumerate(with_arrays(types).items())}
    with running_server(old) as source, running_server(new) as target, source.database("a") as database:
        database.execute(*DECOYS, "CREATE TABLE public.things ()", *OWN_TYPES)
        names = ", ".join(f"{column} {name}" for column, (name, _) in columns.items())
        database.execute(f"CREATE TABLE public.thing (id integer PRIMARY KEY, what text, {names})")
        for row in range(max(len(values) for _, values in columns.values())):
            given = {column: values[row] for column, (_, values) in columns.items() if row < len(values)}
            database.execute(
                f"INSERT INTO public.thing (id, what, {', '.join(given)}) VALUES ({row}, 'a', {', '.join(given.values())})"
            )
        applied(database, "SELECT 1", "what=b")
        project = sealed(tmp_path, database)
        with target.database("b") as moved_to:
            # every object has another number there
            moved_to.execute(
                *(f"CREATE TYPE t{n} AS ENUM ('a')" for n in range(50)),
                *(f"DROP TYPE t{n}" for n in range(50)),
            )
            moved_to.psql(database.backup(), "-q", "-v", "ON_ERROR_STOP=1")
            [run] = verified(project.on(moved_to))["ledgers"][0]["runs"]
    assert (run["state"], run["images"]) == ("proven", 2 * database_rows(columns))
    not_covered = {one.rpartition(".")[2] for one in run["not_covered"]}
    assert not_covered == {c for c, (name, _) in columns.items() if name.startswith(("reg", "aclitem"))}


def database_rows(columns: dict[str, tuple[str, list[str]]]) -> int:
    return max(len(values) for _, values in columns.values())


def test_what_owners_do_to_a_database_is_no_attack(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    database.execute(
        "VACUUM FULL item_audit", "VACUUM FULL datafix_run", "VACUUM FULL datafix_chain", "ALTER TABLE item ADD COLUMN more text",
        "ALTER TABLE item RENAME TO thing", "ALTER TABLE thing RENAME COLUMN note TO remark",
    )  # fmt: skip
    assert states(project) == FINE
    database.execute("ALTER TABLE thing RENAME COLUMN remark TO note", "ALTER TABLE thing RENAME TO item")
    project.revision("c", "b", 'op.update_audit_table("item", name="item_audit")', top="# More.")
    assert project.alembic("upgrade", "c").code == 0
    assert database.value("SELECT count(more) FROM item_audit") == 0
    assert states(project) == FINE
    database.execute("ALTER SCHEMA public RENAME TO elsewhere")
    assert states(project) == FINE


def test_an_enum_gets_labels(tmp_path: Path, database: Database) -> None:
    applied(
        database,
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE thing (id integer PRIMARY KEY, mood mood);"
        " INSERT INTO thing VALUES (1, 'sad')",
        "mood=glad",
    )
    project = sealed(tmp_path, database)
    database.execute("ALTER TYPE mood ADD VALUE 'so so'", "ALTER TYPE mood RENAME VALUE 'sad' TO 'low'")
    assert states(project) == {1: "proven"}


def test_what_a_regclass_points_at_is_renamed_and_named_as_not_covered(
    tmp_path: Path, database: Database
) -> None:
    applied(
        database,
        "CREATE TABLE thing (id integer PRIMARY KEY, at regclass, note text); INSERT INTO thing VALUES (1, 'thing', 'a')",
        "note=b",
    )
    project = sealed(tmp_path, database)
    database.execute("ALTER TABLE thing RENAME TO other")
    [run] = verified(project)["ledgers"][0]["runs"]
    assert (run["state"], run["not_covered"]) == ("proven", ["public.thing_audit.at"])
    assert "Not covered" in datafixes(project, "verify-audit").out


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_sessions_with_other_settings_prove_the_same(
    tmp_path: Path, database: Database, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(
        database,
        "CREATE TABLE thing (id integer PRIMARY KEY, note text, at timestamptz, d interval, f float8, b bytea, m money);"
        " INSERT INTO thing VALUES (1, E'\\u20ac \\\\N \\n\\t\"', '2026-01-01', '1 mon -2 days', 0.1, '\\x00ff', 3)",
        "f=2",
    )
    project = sealed(tmp_path, database).on(database, driver)
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    name = database.name
    settings = {
        "default_transaction_isolation": "'repeatable read'", "datestyle": "'German'", "intervalstyle": "'sql_standard'",
        "timezone": "'Asia/Tokyo'", "extra_float_digits": "-15", "bytea_output": "'escape'", "search_path": "'nowhere'",
        "quote_all_identifiers": "on",
    }  # fmt: skip
    database.execute(*(f"ALTER DATABASE {name} SET {one} = {value}" for one, value in settings.items()))
    assert os.environ["PGCLIENTENCODING"] == "LATIN1"
    assert states(project) == {1: "proven"}
    # and what is sealed so is proven otherwise
    tamper(database, "DELETE FROM public.datafix_chain", "DELETE FROM public.datafix_key")
    assert datafixes(project, "seal").code == 0
    monkeypatch.delenv("PGCLIENTENCODING")
    database.execute(*(f"ALTER DATABASE {name} RESET {one}" for one in settings))
    assert states(project) == {1: "proven"}


def test_a_database_in_latin1_is_proven_in_one_in_utf8(
    tmp_path: Path, database: Database, server: Server
) -> None:
    with server.database("latin_source") as other:
        other.execute(
            "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        try:
            latin = Database("latin", other.server_version, other.address, other.binaries)
            applied(
                latin,
                "CREATE TABLE thing (id integer PRIMARY KEY, note text); INSERT INTO thing VALUES (1, 'caf\u00e9')",
                "note=x",
            )
            project = sealed(tmp_path, latin)
            assert states(project) == {1: "proven"}
            database.psql(backup(latin), "-q", "-v", "ON_ERROR_STOP=1")
        finally:
            other.execute("DROP DATABASE latin")
    assert states(project.on(database)) == {1: "proven"}


def test_runs_of_version_0_1_are_proven_since_they_were_sealed(tmp_path: Path, database: Database) -> None:
    database.psql((VERSION_0_1 / "database.sql").read_text("utf-8"), "-v", "ON_ERROR_STOP=1")
    project = new_project(tmp_path, database)
    # Before: there is no chain, so nothing is proven; the later ones should have sealed the earlier ones.
    assert states(project, code=3) == {1: "unsealed", 2: "unsealed", 3: "new"}
    assert datafixes(project, "anchor").code == 1
    assert datafixes(project, "seal").code == 0
    runs = verified(project)["ledgers"][0]["runs"]
    assert [one["state"] for one in runs] == ["proven"] * 3
    assert all(one["finished_at"] < one["proven_since"] for one in runs)
    database.execute("UPDATE orders_audit SET total = 0 WHERE audit_run_id = 1 AND audit_image = 'before'")
    assert states(project, code=3) == {1: "differs", 2: "proven", 3: "proven"}


def test_the_owner_of_an_old_ledger_creates_its_chain_with_op_update_ledger(
    tmp_path: Path, database: Database
) -> None:
    database.psql((VERSION_0_1 / "database.sql").read_text("utf-8"), "-v", "ON_ERROR_STOP=1")
    project = new_project(tmp_path, database)
    for name, after, up in (("a1", None, "pass"), ("a2", "a1", "pass"), ("a3", "a2", "op.update_ledger()")):
        project.revision(name, after, up, top="# The ledger.")
    assert project.alembic("upgrade", "a3").code == 0
    assert database.rows("SELECT count(*) FROM datafix_chain") == [(0,)]
    assert datafixes(project, "seal").code == 0
    assert states(project) == FINE


def test_a_ledger_of_version_0_1_that_is_upgraded_later_stays_proven(
    tmp_path: Path, database: Database
) -> None:
    database.psql((VERSION_0_1 / "database.sql").read_text("utf-8"), "-v", "ON_ERROR_STOP=1")
    project = sealed(tmp_path, database)
    project.revision("a1", None, "pass")
    project.revision("a2", "a1", "pass")
    project.revision("a3", "a2", "op.update_ledger()", top="# The ledger.")
    assert project.alembic("upgrade", "a3").code == 0
    assert database.value("SELECT count(engine) FROM datafix_run") == 3
    assert states(project) == FINE
