"""Batches in a printed script: psql runs what a query returns, one statement after another."""

import re
from math import ceil

from datafixes.declaration.fix import DataFix
from datafixes.script import literal
from datafixes.script.tables import LEDGER, RANGES
from datafixes.settings.values import Duration

_MOST = 10_000
"""So often at most; each statement works for some seconds, so that is more than a day."""

_REPEATED = """\
-- The batches, each committed by itself. In psql, \\gexec runs what a query returns: while a range is left, a line on how
-- far it is, and then the statement below that makes batches for a few seconds. After an error, or when it was killed,
-- run the whole script again: it goes on from there. Several psql that run it at once share the work.
SELECT pg_catalog.format('DO $told$ BEGIN RAISE NOTICE %L, %L; END $told$', '%', pg_catalog.format(
           {label}, g.rows_changed, r.rows_found, g.batches)),
       -- others work on all ranges that are left: wait
       CASE WHEN NOT EXISTS (
                     SELECT FROM {ranges} AS free
                      WHERE free.run_id OPERATOR(pg_catalog.=) r.run_id AND NOT free.done FOR UPDATE SKIP LOCKED)
            THEN 'SELECT pg_catalog.pg_sleep(1)' ELSE
{work}
            END
  FROM {ledger} AS r
       CROSS JOIN LATERAL (
           SELECT pg_catalog.sum(g.rows_changed) AS rows_changed, pg_catalog.sum(g.batches) AS batches,
                  pg_catalog.bool_and(g.done) AS done
             FROM {ranges} AS g
            WHERE g.run_id OPERATOR(pg_catalog.=) r.run_id) AS g
 WHERE r.fix OPERATOR(pg_catalog.=) {fix} AND r.outcome OPERATOR(pg_catalog.=) 'running'
   AND r.direction OPERATOR(pg_catalog.=) {direction} AND r.wish IS DISTINCT FROM 'stop'
   AND NOT g.done{same}
\\gexec

-- Again, unless there was an error; when no range is left, the query returns nothing. {times} times.
"""
_OF_PSQL = re.compile(
    r"^(-- The batches, each committed by itself\. .*?)^\\gexec$.*?(?:^\\if [^\n]*\n)+",
    re.MULTILINE | re.DOTALL,
)
_AGAIN = "\\if :ERROR \\else \\gexec \\endif"


def repeated_in_psql(fix: DataFix, work: str, direction: str = "apply") -> str:
    """What makes all batches in psql, one statement after another, outside of a transaction.

    Args:
        fix: the fix.
        work: the statement that makes batches for a few seconds.
        direction: ``apply`` or ``revert``: the run whose ranges are left.
    """
    times = _times(fix)
    label = f"datafix {fix.name}: %s of %s rows in %s batches"
    told = _REPEATED.format(
        label=literal.text(label),
        ranges=literal.qualified(fix.schema_of_audit, RANGES),
        work=literal.body(f"\n{work}\n", "batches"),
        ledger=literal.qualified(fix.schema_of_audit, LEDGER),
        fix=literal.text(fix.name),
        direction=literal.text(direction),
        same=f" AND r.fingerprint OPERATOR(pg_catalog.=) {literal.text(fix.fingerprint)}"
        if direction == "apply"
        else "",
        times=times,
    )
    return told + "\n".join([_AGAIN] * times)


def parts_of(script: str) -> list[tuple[str, bool]]:
    """The parts of a printed script; True marks a query whose results psql runs, until there are none.

    Args:
        script: what ``alembic upgrade --sql`` prints.
    """
    return [(part, number % 2 == 1) for number, part in enumerate(_OF_PSQL.split(script)) if part.strip()]


def _times(fix: DataFix) -> int:
    """How often: a statement lasts some seconds, or makes at least one batch of the rows that are expected."""
    batches = fix.batches
    if batches is None:
        raise ValueError(f"{fix.name} has no batches")
    seconds = Duration.parse(batches.target).seconds + Duration.parse(batches.pause).seconds
    number = (fix.rows_expected + fix.rows.tolerance) // batches.rows + 1
    return min(_MOST, number * ceil(1 + seconds) + 8 * batches.workers + 50)
