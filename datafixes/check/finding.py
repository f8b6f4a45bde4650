"""The table of all codes, and a finding."""

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "note"]
"""An error makes the exit code 3; a note does not."""


@dataclass(frozen=True)
class Rule:
    """A row of the catalogue.

    Attributes:
        code: the code that a silencer names; its meaning never changes.
        severity: whether it makes the check fail.
        meaning: the finding, in one line.
        remedy: what to do about it.
    """

    code: str
    severity: Severity
    meaning: str
    remedy: str


_RULES = (
    Rule("FIX101", "error", "a file that cannot be read",
         "Correct the file: Alembic cannot load it either, or it cannot be checked."),
    Rule("FIX102", "error", "a revision file without a revision id",
         'Add revision = "..." and down_revision.'),
    Rule("FIX103", "error", "a revision id of more than 32 characters",
         "Shorten it: Alembic's version table holds 32 characters."),
    Rule("FIX201", "error", "SQL that changes rows without a fix",
         "Declare it as a DataFix, or run it inside with op.record_datafix(fix) as body."),
    Rule("FIX202", "error", "a bulk insert, SQLAlchemy statement or session that changes rows without a fix",
         "Declare it as a DataFix, or run it inside with op.record_datafix(fix)."),
    Rule("FIX203", "note", "an UPDATE of only those columns that the same revision adds",
         "No earlier value is lost, and nothing is copied."),
    Rule("FIX204", "error", "TRUNCATE in a recorded body",
         "Write DELETE FROM: a TRUNCATE is refused, because it leaves no rows to copy."),
    Rule("FIX205", "note", "SQL in another file",
         "It is not checked. Write it into the revision, or run it inside with op.record_datafix(fix)."),
    Rule("FIX206", "note", "an INSERT of rows that the revision contains",
         "Nothing is lost. Declare it as a DataFix to keep a record, and to take back exactly these rows."),
    Rule("FIX207", "note", "a statement that the file does not show",
         "It is not checked. Write it into the revision, or run it inside with op.record_datafix(fix)."),
    Rule("FIX208", "note", "a function of another module that gets the connection",
         "It is not checked. Write its statements into the revision, or call it inside with op.record_datafix(fix)."),
    Rule("FIX209", "note", "a call of a function or procedure of the database that may change rows",
         "If it changes rows, call it inside with op.record_datafix(fix)."),
    Rule("FIX301", "error", "a fix without a reason",
         'Add reason="...", for the readers of the ledger.'),
    Rule("FIX302", "error", "a fix without an expectation",
         "State which rows, how many, or at most how many: Rows(expect=AtMost(5_000)), or Table(updated=...)."),
    Rule("FIX303", "error", "a fix that downgrade() does not revert",
         "Write op.revert_datafix(fix) into downgrade()."),
    Rule("FIX304", "error", "a name of two fixes",
         "Rename the later one: the ledger identifies a fix by its name."),
    Rule("FIX305", "note", "a declaration that may differ when its file is loaded again",
         "Write the value or the rows into the file; for the time of the run, sql('now()')."),
    Rule("FIX306", "error", "a bound that limits nothing",
         "State the largest number of rows that any of your databases has, and a little more: AtMost(5_000)."),
    Rule("FIX307", "error", "a declaration that is refused when its file is loaded",
         "Correct the declaration: neither alembic nor datafixes plan can load the file."),
    Rule("FIX308", "note", "a fix of very many rows in one transaction",
         "Add batches=Batches(rows=10_000): each batch is committed by itself. The number is the setting check_rows."),
    Rule("FIX309", "error", "a revision that holds something besides its fix in batches",
         "Put it into a revision of its own: batches are committed one by one, before the version moves."),
    Rule("FIX401", "error", "an SQL text that the declaration refuses, such as a time without a zone",
         "Add the zone to a time ('...+00'), or write timestamp '...' if the column has none."),
    Rule("FIX402", "note", "a time without a zone, which is right only for a column without one",
         "If the column has a zone, add one to the time: '...+00', or tzinfo=dt.UTC."),
    Rule("FIX403", "error", "a comparison with NULL, which is never true",
         "Write IS NULL or IS NOT NULL."),
    Rule("FIX404", "note", "NOT IN with a subquery, which is never true if that returns a NULL",
         "Write NOT EXISTS (SELECT ...), or WHERE ... IS NOT NULL in the subquery."),
    Rule("FIX405", "note", "a value that differs in each run",
         "Write the value itself if it must be the same everywhere."),
    Rule("FIX406", "note", "the time of the run, which differs between databases",
         "Fine for a closed_at; if the time itself matters, write it."),
    Rule("FIX407", "note", "rows chosen without an order",
         "Add an ORDER BY that is unique; otherwise each run may choose other rows."),
    Rule("FIX408", "note", "SQL that this check cannot read",
         "PostgreSQL may accept it: try it with datafixes plan."),
    Rule("FIX409", "note", "an insert that chooses the numbers of its key",
         "A sequence for the column would not know them: datafixes plan shows that, and the setval to run."),
    Rule("FIX501", "error", "a later revision that drops a table of a fix that can still be reverted",
         "Revert the fix first, or accept that it cannot be reverted: # datafixes: ignore[FIX501] reason"),
    Rule("FIX502", "error", "a later revision that drops a column of such a table",
         "Revert the fix first, or accept that it cannot be reverted: # datafixes: ignore[FIX502] reason"),
    Rule("FIX503", "error", "a later revision that changes the type of a column of such a table",
         "Revert the fix first, or accept that it cannot be reverted: # datafixes: ignore[FIX503] reason"),
    Rule("FIX504", "error", "a later revision that renames such a table or a column of it",
         "Revert the fix first, or accept that it cannot be reverted: # datafixes: ignore[FIX504] reason"),
    Rule("FIX505", "note", "a later revision that adds a column to such a table, and not to its audit table",
         "Add op.update_audit_table(table, name=audit); the fix cannot be reverted before that."),
    Rule("FIX506", "error", "an upgrade that drops an audit table or the ledger like any other table",
         "If autogenerate wrote it, remove it (see datafixes doctor); op.drop_audit_table() drops one on purpose."),
    Rule("FIX601", "note", "an upgrade that drops a column with its values",
         "Rename it, and drop it in a later release; or copy them: a recorded fix that sets it to NULL keeps them."),
    Rule("FIX602", "note", "an upgrade that drops a table with its rows",
         "Rename it, and drop it in a later release; or copy them: a recorded fix that deletes them keeps them."),
    Rule("FIX603", "note", "a change of a column's type that maps its values",
         "Map them inside with op.record_datafix(fix), which can be reverted, and let USING only cast them."),
    Rule("FIX604", "note", "an empty downgrade() of an upgrade that loses values",
         "Bring back what was lost, or raise an error: an empty downgrade() only moves the version."),
    Rule("FIX901", "error", "a silencer without a reason, or with a code that does not exist",
         "Write # datafixes: ignore[CODE] and the reason."),
    Rule("FIX902", "note", "a silencer that silences nothing",
         "Remove it."),
)  # fmt: skip

CATALOGUE: dict[str, Rule] = {rule.code: rule for rule in _RULES}
"""Every code, in display order."""


@dataclass(frozen=True)
class Finding:
    """A finding.

    Attributes:
        code: a code of the catalogue.
        file: the file's displayed name.
        line: the line, from 1.
        column: the character of the line, from 1.
        message: the finding, in one sentence.
        span: the first and last line of the statement: a silencer may be there too.
        fingerprint: of the statement's text; the same wherever in the file it is.
    """

    code: str
    file: str
    line: int
    column: int
    message: str
    span: tuple[int, int] = field(default=(0, 0), compare=False)
    fingerprint: str = field(default="", compare=False)

    @property
    def severity(self) -> Severity:
        """Whether it makes the check fail."""
        return CATALOGUE[self.code].severity

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return CATALOGUE[self.code].remedy
