"""The table of the soak, its fix, and what must hold for every row when the fix has ended."""

from tests.servers import Database

ROWS = 4_000
FIRST, LAST = 3, ROWS * 3
"""The first and the last key; only every third one is taken."""

TABLE = f"""
CREATE TABLE soaked (id bigint PRIMARY KEY, v bigint NOT NULL, done boolean NOT NULL DEFAULT false,
                     hits integer NOT NULL DEFAULT 0, reopened integer NOT NULL DEFAULT 0, born text NOT NULL);
-- every tenth row is not to be changed
INSERT INTO soaked SELECT n * 3, n * 3 * 7 + 1, n % 10 = 0, 0, 0, CASE WHEN n % 10 = 0 THEN 'done' ELSE 'open' END
  FROM generate_series(1, {ROWS}) AS n;
CREATE TABLE born AS SELECT * FROM soaked;
CREATE TABLE wrote (id bigint NOT NULL, what text NOT NULL);
ANALYZE soaked;
ALTER DATABASE {{}} SET deadlock_timeout = '50ms';
"""
"""What writers wrote is in `wrote`, by the same transactions."""

TOP = """
from datafixes import AtMost, Batches

fix = DataFix(
    name="double_soaked",
    reason="Twice as many.",
    change=Update("soaked", set={{"v": sql("v * 2"), "done": True}}, where="NOT done"),
    rows=Rows(key="id", expect=AtMost(100_000), ensure="done"),
    audit="soaked_audit",
    batches=Batches(rows=100, workers={workers}, stragglers={stragglers!r}),
)
"""

# Each finds rows that are wrong: there must be none. These hold at every end.
_OF_OTHERS = {
    "writes of others are lost": """SELECT s.id, w.what, w.times FROM soaked AS s
         JOIN (SELECT id, what, count(*) AS times FROM wrote GROUP BY 1, 2) AS w USING (id)
        WHERE (w.what = 'hit' AND w.times <> s.hits) OR (w.what = 'reopen' AND w.times <> s.reopened)""",
    "rows came or went": """SELECT id FROM ((SELECT id FROM born UNION SELECT id FROM wrote WHERE what = 'insert')
                       EXCEPT SELECT id FROM wrote WHERE what = 'delete') AS there FULL JOIN soaked AS s USING (id)
        WHERE s.id IS NULL OR NOT EXISTS (SELECT FROM born AS b WHERE b.id = s.id)
          AND NOT EXISTS (SELECT FROM wrote AS w WHERE w.id = s.id AND w.what = 'insert')""",
}

# When the fix has been applied.
_WRONG = _OF_OTHERS | {
    "a row was changed twice, or its copies do not say how often":
    """SELECT s.id, s.v, s.born FROM soaked AS s
         LEFT JOIN (SELECT id, count(*) AS times FROM soaked_audit WHERE audit_image = 'after' GROUP BY id) AS a USING (id)
        WHERE coalesce(a.times, 0) > 1 OR s.v <> (s.id * 7 + 1) * (1 + coalesce(a.times, 0))""",
    "a row to be changed was forgotten":
    """SELECT id FROM soaked
        WHERE born = 'open' AND v <> 2 * (id * 7 + 1)""",
    "a row is open that nobody reopened or inserted":
    "SELECT id FROM soaked WHERE NOT done AND reopened = 0 AND born <> 'writer'",
    "a row that nobody wrote has changed":
    """SELECT id FROM soaked AS s JOIN born AS b USING (id)
        WHERE b.born = 'done' AND s.reopened = 0 AND (s.v, s.done) IS DISTINCT FROM (b.v, b.done)""",
    "the copies of a row are not one before and one after the change":
    """SELECT id FROM soaked_audit GROUP BY id
       HAVING count(*) <> 2 OR count(*) FILTER (WHERE audit_image = 'before' AND NOT done AND v = id * 7 + 1) <> 1
           OR count(*) FILTER (WHERE audit_image = 'after' AND done AND v = 2 * (id * 7 + 1)) <> 1
           OR count(DISTINCT audit_run_id) <> 1 OR count(DISTINCT hits) <> 1 OR count(DISTINCT reopened) <> 1""",
    "a part has not ended":
    "SELECT run_id, outcome FROM datafix_run WHERE outcome NOT IN ('applied', 'failed', 'not_applicable')",
    "the version moved without the fix, or the fix without the version":
    """SELECT 1 WHERE (SELECT array_agg(version_num::text) FROM alembic_version) <> ARRAY['n']
           OR (SELECT count(*) FROM datafix_run WHERE part_of IS NULL AND outcome = 'applied') <> 1""",
    "the copies of a part are not those that its line in the ledger tells":
    """SELECT r.run_id FROM datafix_run AS r JOIN datafix_run_table AS t USING (run_id)
        WHERE r.part_of IS NOT NULL AND r.outcome = 'applied'
          AND (t.images, t.rows_updated) IS DISTINCT FROM ((SELECT count(*) FROM soaked_audit WHERE audit_run_id = r.run_id),
                                                           r.rows_changed)""",
}  # fmt: skip

# When it has been taken back. A row that somebody reopened after its change is restored, too: no column has a third
# value. One that is gone is a conflict, which was skipped.
_WRONG_BACK = _OF_OTHERS | {
    "a row is not as it was before the fix":
    """SELECT s.id, s.v, s.done FROM soaked AS s
        WHERE s.v <> s.id * 7 + 1
           OR s.done AND s.id IN (SELECT i.id FROM soaked_audit AS i JOIN datafix_run AS r ON r.run_id = i.audit_run_id
                                   WHERE r.direction = 'apply')""",
    "a row that nobody else wrote is not the same to the bit":
    """SELECT b.id FROM born AS b LEFT JOIN soaked AS s USING (id)
        WHERE b.id NOT IN (SELECT id FROM wrote) AND to_jsonb(s) IS DISTINCT FROM to_jsonb(b)""",
    "a row was changed or taken back twice":
    """SELECT i.id, r.direction FROM soaked_audit AS i JOIN datafix_run AS r ON r.run_id = i.audit_run_id
        GROUP BY i.id, r.direction, i.audit_image HAVING count(*) <> 1""",
    "a run has not ended":
    """SELECT run_id, outcome FROM datafix_run
        WHERE outcome NOT IN ('applied', 'failed', 'not_applicable', 'reverted', 'taken_back')
           OR (SELECT count(*) FROM datafix_run WHERE part_of IS NULL AND outcome = 'reverted') <> 1
           OR (SELECT count(*) FROM datafix_run WHERE part_of IS NULL AND outcome IN ('applied', 'taken_back')) <> 1""",
    "the version is not that below the fix":
    "SELECT version_num FROM alembic_version WHERE version_num <> 'm'",
    "the ledger tells another number of rows than its ranges, or the copies":
    """SELECT * FROM (
           SELECT r.run_id, r.rows_changed,
                  (SELECT coalesce(sum(g.rows_changed), 0) FROM datafix_range AS g WHERE g.run_id = r.run_id) AS of_ranges,
                  (SELECT count(*) FROM soaked_audit AS i JOIN datafix_run AS p ON p.run_id = i.audit_run_id
                    WHERE p.part_of = r.run_id AND i.audit_image = 'after') AS images
             FROM datafix_run AS r WHERE r.part_of IS NULL AND r.outcome = 'reverted') AS told
        WHERE rows_changed IS DISTINCT FROM of_ranges OR rows_changed IS DISTINCT FROM images""",
}  # fmt: skip

_NUMBERS = """
SELECT (SELECT count(*) FROM soaked_audit WHERE audit_image = 'before'),
       (SELECT count(*) FROM soaked_audit WHERE audit_image = 'after'),
       -- the last transaction is a part without a range: it changes what came later
       (SELECT sum(rows_changed)::bigint FROM datafix_range) + (SELECT coalesce(sum(part.rows_changed), 0)::bigint
          FROM datafix_run AS part JOIN datafix_run AS run ON run.run_id = part.part_of WHERE part.xmin = run.xmin),
       (SELECT sum(rows_changed)::bigint FROM datafix_run WHERE part_of IS NOT NULL AND outcome = 'applied'),
       (SELECT rows_changed FROM datafix_run WHERE part_of IS NULL AND outcome = 'applied')
"""
_EVIDENCE = """
SELECT (SELECT array[images, images_digest] FROM datafix_run_table JOIN datafix_run USING (run_id)
         WHERE part_of IS NULL AND outcome = 'applied'),
       (SELECT array[sum(images), sum(images_digest)] FROM datafix_run_table JOIN datafix_run USING (run_id)
         WHERE part_of IS NOT NULL AND outcome = 'applied')
"""


def left_open(database: Database) -> tuple[int, int]:
    """How many rows meet the condition at the end: some that the fix had changed, and others."""
    [(again, later)] = database.rows(
        "SELECT count(*) FILTER (WHERE has), count(*) FILTER (WHERE NOT has) FROM (SELECT EXISTS (SELECT FROM soaked_audit AS a"
        " WHERE a.id = s.id) AS has FROM soaked AS s WHERE NOT done) AS open"
    )
    return again, later


def check(database: Database) -> int:
    """Look at every row, every copy and the ledger.

    Returns:
        how many rows the fix has changed, each once.

    Raises:
        AssertionError: something does not hold.
    """
    _nothing_is(_WRONG, database)
    [numbers] = database.rows(_NUMBERS)
    assert len(set(numbers)) == 1, f"before, after, ranges, parts, the run: {numbers}"
    [(whole, parts)] = database.rows(_EVIDENCE)
    assert whole == parts, f"images and digest of the run: {whole}, of its parts: {parts}"
    return int(numbers[0])


def check_taken_back(database: Database) -> int:
    """Look at every row, every copy and the ledger, when the fix has been taken back.

    Returns:
        how many rows were.

    Raises:
        AssertionError: something does not hold.
    """
    _nothing_is(_WRONG_BACK, database)
    return int(
        database.value("SELECT rows_changed FROM datafix_run WHERE part_of IS NULL AND outcome = 'reverted'")
    )


def _nothing_is(wrong: dict[str, str], database: Database) -> None:
    for what, query in wrong.items():
        found = database.rows(query)
        assert not found, f"{what}: {found[:5]}"
