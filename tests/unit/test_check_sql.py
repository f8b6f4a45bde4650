"""What `datafixes check` finds in the SQL and the values of fixes."""

from pathlib import Path

import pytest

from datafixes.check.checking import check
from datafixes.check.sql_hazards import hazards_of, hazards_of_expression

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "tests/cases").glob("*/fix.sql"))


def codes(text: str) -> list[str]:
    return [code for code, _ in hazards_of_expression(text)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a = NULL", "FIX403"),
        ("a = 1 AND (b <> NULL OR NULL = c)", "FIX403"),
        ("a NOT IN (1, NULL)", "FIX403"),
        ("a NOT IN (SELECT b FROM c)", "FIX404"),
        ("NOT (a IN (SELECT b FROM c WHERE b > 1))", "FIX404"),
        ("a <> ALL (SELECT b FROM c)", "FIX404"),
        ("random()", "FIX405"),
        ("gen_random_uuid()", "FIX405"),
        ("uuid_generate_v4()", "FIX405"),
        ("clock_timestamp()", "FIX405"),
        ("now() AT TIME ZONE 'UTC'", "FIX406"),
        ("CURRENT_TIMESTAMP", "FIX406"),
        ("current_date - 1", "FIX406"),
        ("a IN (SELECT b FROM c LIMIT 10)", "FIX407"),
        ("a IN (SELECT DISTINCT ON (b) c FROM d)", "FIX407"),
        ("a = = b", "FIX408"),
        ("((a = 1)", "FIX408"),
        ("(" * 500, "FIX408"),
    ],
)
def test_what_is_risky_in_an_expression(text: str, code: str) -> None:
    assert set(codes(text)) == {code}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DEFAULT",
        "a IS NULL -- a comment",
        "a IS DISTINCT FROM NULL",
        "CASE a WHEN NULL THEN 1 ELSE NULL END",
        "f(a => NULL)",
        "a IN (SELECT b FROM c)",
        "a NOT IN (1, 2)",
        "a NOT IN (SELECT b FROM c WHERE b IS NOT NULL)",
        "a NOT IN (SELECT b FROM c WHERE d = 1 AND b IS NOT NULL)",
        "a NOT IN (SELECT count(*) FROM c)",
        "a NOT IN (SELECT coalesce(b, 0) FROM c)",
        "NOT EXISTS (SELECT FROM c WHERE c.b = a)",
        "EXISTS (SELECT FROM c LIMIT 1)",
        "a = (SELECT max(b) FROM c LIMIT 1)",
        "a IN (SELECT b FROM c ORDER BY d LIMIT 1)",
        "data->>'x' ? 'b' AND a @> '{1}' AND c ~* 'x' AND '{}'::jsonb <> d",
        "coalesce(option_symbol, ticker)",
        "a > '2026-01-02 10:00+00'",
    ],
)
def test_what_is_not_risky(text: str) -> None:
    assert codes(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE a SET b = NULL WHERE c",
        "INSERT INTO a (b) VALUES (1) ON CONFLICT (b) DO UPDATE SET c = NULL",
        "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN UPDATE SET c = NULL",
        "SET search_path = a",
        "UPDATE a SET b = timestamp '2026-01-02 10:00', c = '2026-01-02', d = '2026-01-02 10:00'::timestamp",
    ],
)
def test_what_is_set_to_null_is_not_compared_with_it(text: str) -> None:
    assert hazards_of(text, times=True) == []


def test_a_subquery_that_excludes_the_wrong_nulls_is_told() -> None:
    assert codes("a NOT IN (SELECT b FROM c WHERE d IS NOT NULL)") == ["FIX404"]
    assert codes("a NOT IN (SELECT b FROM c WHERE b IS NULL)") == ["FIX404"]
    assert codes("a NOT IN (SELECT b FROM c WHERE b IS NOT NULL OR d)") == ["FIX404"]


def revision(tmp_path: Path, change: str, *, rows: str = "expect=[1]", body: str = "") -> list[str]:
    """What is told of a revision with a declared fix, and with a recorded one where there is a body."""
    text = f"""
import datetime as dt, uuid
from alembic import op
from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql
revision, down_revision = "a", None
revision = "a"
fix = DataFix(name="one", reason="r", change={change}, rows=Rows(key="id", {rows}), audit="t_audit")
recorded = RecordedFix(name="two", reason="r", tables=[Table("t", "t_audit", updated=1)])
def upgrade():
    op.apply_datafix(fix)
    with op.record_datafix(recorded) as body:
        body.execute({body!r})
def downgrade():
    op.revert_datafix(recorded)
    op.revert_datafix(fix)
"""
    path = tmp_path / "a.py"
    path.write_text(text, "utf-8")
    return [f"{one.code} {one.message}" for one in check([path]).findings]


@pytest.mark.parametrize(
    ("change", "rows", "code"),
    [
        ('Update("t", {"a": 1}, "b = NULL")', "expect=[1]", "FIX403"),
        ('Update("t", set={"a": sql("random()")})', "expect=[1]", "FIX405"),
        ('Delete("t", where="b = NULL")', "expect=[1]", "FIX403"),
        ('Insert("t", rows=[{"id": sql("gen_random_uuid()")}])', "expect=1", "FIX405"),
        ('Update("t", set={"a": 1})', 'expect=[1], ensure="a <> NULL"', "FIX403"),
        ('Update("t", set={"a": 1})', 'expect=[1], already="a = NULL", already_at_most=1', "FIX403"),
        ('Update("t", set={"a": 1})', 'expect={1: 2}, identity={"x": "a = NULL"}', "FIX403"),
        ('Update("t", set={"a": 1}, where="b < \'2026-01-02 10:00\'")', "expect=[1]", "FIX401"),
        ('Update("t", set={"a": sql("timestamptz \'2026-01-02 10:00\'")})', "expect=[1]", "FIX401"),
        ('Update("t", set={"a": "2026-01-02 10:00"})', "expect=[1]", "FIX402"),
        ('Update("t", set={"a": dt.datetime(2026, 1, 2)})', "expect=[1]", "FIX402"),
        ('Insert("t", rows=[{"a": dt.datetime.fromisoformat("2026-01-02 10:00")}])', "expect=1", "FIX402"),
        ('Update("t", set={"a": dt.datetime.now(dt.UTC)})', "expect=[1]", "FIX405"),
        ('Update("t", set={"a": uuid.uuid4()})', "expect=[1]", "FIX405"),
    ],
)
def test_every_place_for_sql_and_values_is_looked_at(
    tmp_path: Path, change: str, rows: str, code: str
) -> None:
    assert [told[:6] for told in revision(tmp_path, change, rows=rows)] == [code]


@pytest.mark.parametrize(
    "change",
    [
        'Update("t", set={"a": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "b": "2026-01-02 10:00+00", "c": None})',
        'Update("t", set={"a": sql("timestamp \'2026-01-02 10:00\'"), "b": dt.date(2026, 1, 2)})',
        'Update("t", set={"a": dt.datetime(2026, 1, 2).replace(tzinfo=dt.UTC)})',
    ],
)
def test_times_with_a_zone_and_times_that_are_meant_without_are_fine(tmp_path: Path, change: str) -> None:
    assert revision(tmp_path, change) == []


def test_statements_of_a_recorded_body_are_looked_at(tmp_path: Path) -> None:
    body = "UPDATE t SET a = NULL, at = '2026-01-02 10:00' WHERE b = NULL AND c NOT IN (SELECT d FROM e)"
    assert sorted(revision(tmp_path, 'Update("t", set={"a": 1})', body=body)) == [
        "FIX402 The time '2026-01-02 10:00' has no zone.",
        "FIX403 b = NULL is never true, for any row.",
        "FIX404 c NOT IN (SELECT d FROM e) is never true if the subquery returns a NULL.",
    ]
    [told] = revision(tmp_path, 'Update("t", set={"a": 1})', body="UPDATE t SET a = 1 WHERE CURRENT OF c")
    assert told.startswith("FIX408 This SQL cannot be checked: ")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_fixes_that_people_shipped_are_found_and_raise_no_false_alarm(tmp_path: Path, path: Path) -> None:
    statement = path.read_text("utf-8")
    told = revision(tmp_path, 'Update("t", set={"a": 1})', body=statement)
    # now(), and the one LIMIT without an order.
    assert {one[:6] for one in told} <= {"FIX406", "FIX407"}
    (tmp_path / "a.py").write_text(
        f'revision = "a"\ndef upgrade():\n    op.execute({statement!r})\n', "utf-8"
    )
    assert [one.code for one in check([tmp_path / "a.py"]).findings] == ["FIX201"]
