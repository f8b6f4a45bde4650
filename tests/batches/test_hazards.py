"""What goes wrong in batches that people write by hand: lost settings, skipped rows, one giant transaction."""

from pathlib import Path

import psycopg2
import pytest

from datafixes.script.batched import work_statement
from datafixes.script.context import Context
from datafixes.script.frame import Limits
from tests.batches.many import CONTENT, FIX, ROWS, is_whole, many_project
from tests.projects import Project
from tests.servers import Database

SEEN = """
CREATE TABLE seen (lock_timeout text, synchronous_commit text, isolation text, search_path text);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
INSERT INTO seen VALUES (current_setting('lock_timeout'), current_setting('synchronous_commit'),
    current_setting('transaction_isolation'), current_setting('datafixes.search_path')); RETURN NULL; END $$;
CREATE TRIGGER look AFTER UPDATE ON many EXECUTE FUNCTION look();
ALTER DATABASE {name} SET lock_timeout = '77s';
ALTER DATABASE {name} SET synchronous_commit = off;
ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read';
"""


def declared(project: Project) -> dict[str, object]:
    """What the revision of the fix declares."""
    found: dict[str, object] = {}
    source = (project.directory / "migrations/versions/n.py").read_text(encoding="utf-8")
    exec(compile(source, "n.py", "exec"), found)
    return found


def test_c37_every_batch_has_its_settings_again(tmp_path: Path, database: Database) -> None:
    top = FIX.format(batches="rows=100").replace(
        'audit="many_audit"', 'audit="many_audit", may_differ=["seen"]'
    )
    project = many_project(tmp_path, database, top=top)
    database.psql(SEEN.format(name=database.name), "-v", "ON_ERROR_STOP=1")

    ran = project.alembic("upgrade", "head")

    assert ran.code == 0, ran.err
    assert is_whole(database)
    [(batches, *settings)] = database.rows(
        "SELECT count(*), lock_timeout, synchronous_commit, isolation, search_path FROM seen GROUP BY 2, 3, 4, 5"
    )
    assert batches >= 10
    assert settings[:3] == ["5s", "on", "read committed"]


def test_c37_the_statement_of_batches_is_refused_in_a_transaction(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    before = database.rows(CONTENT)
    context = Context(revision="n", after=("m",))
    statement = work_statement(declared(project)["fix"], context, Limits())  # type: ignore[arg-type]

    with (
        database.connect() as connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg2.errors.InvalidTransactionTermination),
    ):
        cursor.execute(statement)

    assert database.rows(CONTENT) == before


def test_c38_gaps_and_rows_that_come_meanwhile_hide_none(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    # Whole ranges without a row that matches, keys far apart, and rows at both ends.
    database.execute(
        "DELETE FROM many WHERE id BETWEEN 600 AND 1500",
        "UPDATE many SET done = true WHERE id BETWEEN 1600 AND 2400",
        "INSERT INTO many (id, v) VALUES (-9000000000, 7), (9000000000, 8)",
        "CREATE TABLE wanted AS SELECT id, v * 2 AS v FROM many WHERE NOT done",
    )
    [(rows,)] = database.rows("SELECT count(*) FROM wanted")
    assert 100 < rows < ROWS

    ran = project.alembic("-x", "batches=double_many:7", "upgrade", "head")

    assert ran.code == 0, ran.err
    assert database.rows("SELECT count(*) FROM many JOIN wanted USING (id, v) WHERE done") == [(rows,)]
    assert database.rows("SELECT count(*) FROM many WHERE NOT done") == [(0,)]
    assert database.rows("SELECT count(DISTINCT id) FROM many_audit") == [(rows,)]


def test_c44_no_transaction_is_larger_than_a_batch(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)

    assert project.alembic("upgrade", "head").code == 0

    [(transactions, most)] = database.rows(
        "SELECT count(*), max(rows) FROM (SELECT xmin, count(*) AS rows FROM many GROUP BY 1) AS _"
    )
    assert transactions >= 10
    assert most <= 100
