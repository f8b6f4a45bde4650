"""The auditor's questions use indexes: a million images are not read for one row or one run."""

import json
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes.audit.keys import near_keys
from datafixes.declaration.fix import DataFix, Update
from datafixes.declaration.rows import Rows
from tests.fixes import apply, create_audit_table, revert
from tests.servers import Database
from tests.small_book import session


def scans(database: Database, query: str) -> set[tuple[str, str]]:
    """(kind, table) of every scan in the plan of a query that reads an audit table."""
    found: set[tuple[str, str]] = set()

    def walk(node: dict[str, Any]) -> None:
        if "Relation Name" in node:
            found.add((node["Node Type"], node["Relation Name"]))
        for child in node.get("Plans", ()):
            walk(child)

    plan = database.value(f"EXPLAIN (FORMAT JSON) {query}")
    walk((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    return {(kind, table) for kind, table in found if table.endswith("_audit")}


def test_a_million_images_are_asked_by_their_indexes(database: Database) -> None:
    database.psql(
        "CREATE TABLE big (id integer PRIMARY KEY, v integer); INSERT INTO big SELECT g, g FROM generate_series(1, 200) AS g;"
        "CREATE TABLE pair (a text, b uuid DEFAULT gen_random_uuid(), v integer, PRIMARY KEY (a, b));"
    )
    create_audit_table(database, "big", "big_audit")
    create_audit_table(database, "pair", "pair_audit")
    fix = DataFix(
        name="f",
        reason="r",
        change=Update("big", set={"v": 0}),
        rows=Rows(key="id", expect=[1, 2]),
        audit="big_audit",
    )
    apply(database, fix)
    # A million images of other runs, in the shape that runs leave.
    database.psql(
        "INSERT INTO big_audit (id, v, audit_run_id, audit_image)"
        " SELECT g % 100000, g, 2 + g / 1000, CASE g % 2 WHEN 0 THEN 'before' ELSE 'after' END FROM generate_series(1, 1000000) AS g;"
        "INSERT INTO pair_audit (a, b, audit_run_id, audit_image)"
        " SELECT g::text, gen_random_uuid(), g, 'before' FROM generate_series(1, 20000) AS g; ANALYZE;"
        "SELECT brin_summarize_new_values(indexrelid) FROM pg_index WHERE indrelid IN ('big_audit'::regclass, 'pair_audit'::regclass);"
    )
    queries = [
        "SELECT * FROM datafix_row WHERE target_table = 'public.big' AND key = '16'",
        "SELECT * FROM datafix_row WHERE target_table = 'public.pair' AND key = '7/8f0e6e3c-0000-4000-8000-000000000000'",
        "SELECT * FROM datafix_show WHERE run_id = 1",
        "SELECT * FROM big_audit_changes WHERE key = '16'",
    ]
    for query in queries:
        found = scans(database, query)
        assert found, query
        assert not any("Seq" in kind for kind, _ in found), (query, found)
    # The other table is not even looked at.
    assert {table for _, table in scans(database, queries[0])} == {"big_audit"}
    # Nor are many images read for one row, or for the nearest keys where no run changed the one asked for.
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        assert len(connection.exec_driver_sql("SELECT FROM big_audit_changes WHERE key = '16'").all()) == 20
        assert near_keys(connection, "public", "public.big", "99x98").startswith("Did you mean ")
        read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'big_audit'"
        assert (
            connection.exec_driver_sql(read).scalar_one() < 200_000
        )  # a tenth of one scan, for three and a sample


def test_images_have_an_index_over_their_key_and_one_over_ranges_of_runs(database: Database) -> None:
    """Each further index would cost a run as much again as it costs to change the rows."""
    database.execute("CREATE TABLE big (id integer PRIMARY KEY, v integer)")
    create_audit_table(database, "big", "big_audit")
    indexes = database.rows(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'big_audit' ORDER BY indexname"
    )
    assert [definition.partition(" USING ")[2] for (definition,) in indexes] == [
        "brin (audit_run_id) WITH (pages_per_range='32')",
        "brin (((id)::text) text_bloom_ops (n_distinct_per_range='1200', false_positive_rate='0.001'))"
        " WITH (pages_per_range='16')",
    ]


def test_a_run_is_in_the_indexes_when_it_ends_and_never_waits_for_that(database: Database) -> None:
    database.execute(
        "CREATE TABLE big (id integer PRIMARY KEY, v integer)",
        "INSERT INTO big SELECT g, g FROM generate_series(1, 10000) AS g",
    )
    create_audit_table(database, "big", "big_audit")

    def pages_read(condition: str) -> int:
        plan = database.value(
            f"SET enable_seqscan = off; EXPLAIN (ANALYZE, FORMAT JSON) SELECT FROM big_audit WHERE {condition}"
        )
        [whole] = json.loads(plan) if isinstance(plan, str) else plan
        return int(whole["Plan"]["Lossy Heap Blocks"])

    fixes = [
        DataFix(
            name=f"fix_{number}",
            reason="r",
            change=Update("big", set={"v": number}, where=f"id <= {rows}"),
            rows=Rows(key="id", expect=rows),
            audit="big_audit",
        )
        for number, rows in enumerate((10_000, 9_000, 1))
    ]
    apply(database, fixes[0])
    assert pages_read("audit_run_id = 0") == 0
    assert pages_read("id::text = '42'") <= 32
    # Somebody vacuums the audit table meanwhile.
    with session(database, "LOCK TABLE big_audit IN SHARE UPDATE EXCLUSIVE MODE"):
        apply(database, fixes[1])
    assert pages_read("audit_run_id = 0") > 100
    apply(database, fixes[2])
    assert pages_read("audit_run_id = 0") == 0
    for fix in reversed(fixes):
        revert(database, fix)
    assert database.value("SELECT count(*) FROM big WHERE v = id") == 10_000
