"""Proves, run by run, that ledger and images are as they were sealed, or says what is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from datafixes.audit.chain import forms
from datafixes.audit.chain.entries import UTC, Entry, SealedTable, Shape, has_chain, read_entries
from datafixes.audit.chain.reading import Leaves, read_rows
from datafixes.audit.chain.redacting import Redaction, SaltedLeaves, redactions
from datafixes.audit.chain.sealing import FOLLOWED
from datafixes.audit.chain.verdicts import State, Verdict, differences, link, verdict_of
from datafixes.audit.history import IS_AUDIT_TABLE, ask
from datafixes.audit.wording import counted
from datafixes.script.literal import qualified, text
from datafixes.script.tables import KEYS, LEDGER, LEDGER_TABLES, MARKS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_GIVEN_UP = """
SELECT r.run_id, (went ->> 'run')::bigint, r.declaration -> 'gives_up' ->> 'audit_table'
  FROM {ledger} AS r CROSS JOIN LATERAL jsonb_array_elements(r.declaration -> 'gives_up' -> 'runs') AS went
 WHERE r.outcome = 'pruned'"""

_RUNS = """
SELECT r.run_id, r.fix, r.outcome, {finished}, {followed}
  FROM {ledger} AS r WHERE r.finished_at IS NOT NULL AND r.outcome NOT IN ('started', 'running') ORDER BY r.run_id"""


@dataclass(frozen=True)
class _Run:
    run_id: int
    fix: str
    outcome: str
    finished_at: str
    is_followed: bool


@dataclass
class Ledger:
    """A ledger, its chain and the audit tables beside it, in one snapshot.

    Attributes:
        connection: its database.
        schema: its schema.
    """

    connection: Connection
    schema: str
    _columns: dict[str, forms.Columns] = field(default_factory=dict)

    @cached_property
    def entries(self) -> Sequence[Entry]:
        """The entries of the chain, in its order."""
        return read_entries(self.connection, self.schema) if has_chain(self.connection, self.schema) else ()

    @cached_property
    def form(self) -> str:
        """The encoding that is hashed."""
        return forms.encoding(self.connection)

    @cached_property
    def _runs(self) -> dict[int, _Run]:
        ledger = qualified(self.schema, LEDGER)
        followed, finished = FOLLOWED.format(ledger=ledger), UTC.format("r.finished_at")
        query = _RUNS.format(ledger=ledger, finished=finished, followed=followed)
        return {row[0]: _Run(*row) for row in ask(self.connection, query)}

    @cached_property
    def given_up(self) -> dict[tuple[int, str], int]:
        """Run and audit table → the run that gave its images up there, if the chain proves that one."""
        if "declaration" not in self.columns(qualified(self.schema, LEDGER)).types:
            return {}
        rows = ask(self.connection, _GIVEN_UP.format(ledger=qualified(self.schema, LEDGER)))
        runs = {by for by, _, _ in rows}
        proven = {
            entry.run_id
            for entry in self.entries
            if entry.run_id in runs
            and entry.computed_head == entry.head
            and self._of_line(entry, Shape.read(entry.shape)) is None
        }
        return {(run, qualified(self.schema, table)): by for by, run, table in rows if by in proven}

    @cached_property
    def redactions(self) -> Mapping[tuple[int, int], Redaction]:
        """What was redacted, by run and table."""
        return redactions(self.entries)

    def is_redacted(self, run: int) -> bool:
        """Whether values of a run were redacted, so that it has salts in the place of its key."""
        return any(redacted == run for redacted, _ in self.redactions)

    def columns(self, table: str) -> forms.Columns:
        """The columns of a table, by its name in SQL."""
        if table not in self._columns:
            self._columns[table] = forms.columns_of(self.connection, table)
        return self._columns[table]

    def verdicts(self) -> Iterator[Verdict]:
        """What is known of each run: those in the chain, the others, and images of no run."""
        sealed: set[int] = set()
        before: Entry | None = None
        for entry in self.entries:
            sealed.add(entry.run_id)
            yield self._verdict(entry, link(entry, before))
            before = entry
        for run in self._runs.values():
            if run.run_id not in sealed:
                yield _unsealed(run)
        yield from self._of_no_run(sealed)

    def _verdict(self, entry: Entry, broken: str) -> Verdict:
        """What is known of a run in the chain."""
        run = self._runs.get(entry.run_id)
        # an entry that does not have its own head may say anything
        found: list[tuple[State, str]] = [("broken", broken)] if broken else list(self._differences(entry))
        return verdict_of(entry, (run.fix, run.outcome, run.finished_at) if run else None, found)

    def fix_of(self, run: int) -> str | None:
        """The fix of a run."""
        return self._runs[run].fix if run in self._runs else None

    def _differences(self, entry: Entry) -> Iterator[tuple[State, str]]:
        shape = Shape.read(entry.shape)
        if entry.run_id not in self._runs:
            yield "removed", "The ledger does not have the run any more."
        elif (why := self._of_line(entry, shape)) is not None:
            yield "differs", why
        key = self.key(entry.run_id)
        for table in shape.tables:
            yield from self._images(entry.run_id, table, key)

    def _of_line(self, entry: Entry, shape: Shape) -> str | None:
        """What is wrong with the ledger's lines of a run."""
        wanted = {LEDGER: shape.run_columns, LEDGER_TABLES: shape.table_columns}
        for table, columns in wanted.items():
            there = self.columns(qualified(self.schema, table)).types
            if gone := [column for column in columns if column not in there]:
                return f"The ledger's {table} lacks {', '.join(gone)}."
        if forms.sha256(self.line(entry, shape)) == entry.line:
            return None
        return f"Its lines in {LEDGER} and {LEDGER_TABLES} are not those that were sealed."

    def line(self, entry: Entry, shape: Shape) -> bytes:
        """The ledger's lines of a run, as they are hashed."""
        lines: list[bytes] = []
        query = forms.line(self.schema, entry.run_id, (shape.run_columns, shape.table_columns), self.form)
        read_rows(self.connection, f"SELECT 0::bigint, ({query})", lambda _, line: lines.append(line))
        return b"".join(lines)

    def _images(self, run: int, table: SealedTable, key: bytes | None) -> Iterator[tuple[State, str]]:
        audit = forms.audit_table_here(self.schema, table.audit)
        there = self.columns(audit).types
        if pruned := self.given_up.get((run, audit)):
            query = f"SELECT count(*) FROM {audit} WHERE audit_run_id = {run}"
            back = ask(self.connection, query)[0][0] if there else 0
            if not back:
                yield "pruned", f"{counted(table.images, 'image')} in {audit}: given up by run {pruned}."
                return
            yield "added", f"{counted(back, 'image')} in {audit} came back, which run {pruned} gave up."
        if not there:
            if table.images:
                yield "removed", f"{audit} is gone, with {counted(table.images, 'image')}."
            return
        if gone := [column for column in table.columns if column not in there]:
            yield "differs", f"{audit} lacks {', '.join(gone)}."
            return
        image = forms.image(table.columns, self.form, MARKS in there)
        if self.is_redacted(run):
            if key is not None:
                yield "added", f"The key of the run is back in {KEYS}: redacted values could be guessed."
            leaves = SaltedLeaves()
            query = forms.salted_images(self.schema, run, (audit, table.position), image)
            read_rows(self.connection, query, leaves.take)
            yield from differences(
                leaves, table, audit, self.redactions.get((run, table.position), Redaction())
            )
        elif key is None:
            yield "differs", f"The key of the run is gone from {KEYS}: its images cannot be compared."
        else:
            plain = Leaves(key, table.position)
            read_rows(self.connection, forms.images(run, audit, image), plain.take)
            yield from differences(plain, table, audit)

    def key(self, run: int) -> bytes | None:
        """The key of a run."""
        rows = ask(self.connection, f"SELECT key FROM {qualified(self.schema, KEYS)} WHERE run_id = {run}")
        return bytes(rows[0][0]) if rows else None

    def _of_no_run(self, sealed: set[int]) -> Iterator[Verdict]:
        """Images in audit tables under the number of a run that did not write there."""
        tables = ask(
            self.connection,
            "SELECT c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            f" WHERE c.relkind IN ('r', 'p') AND n.nspname = {text(self.schema)} AND {IS_AUDIT_TABLE} ORDER BY c.relname",
        )
        noted = {
            (run, forms.audit_table_here(self.schema, audit))
            for run, audit in ask(
                self.connection, f"SELECT run_id, audit_table FROM {qualified(self.schema, LEDGER_TABLES)}"
            )
        }
        noted |= {
            (entry.run_id, forms.audit_table_here(self.schema, one.audit))
            for entry in self.entries
            if entry.computed_head == entry.head
            for one in Shape.read(entry.shape).tables
        }
        for (table,) in tables:
            audit = qualified(self.schema, table)
            counts = ask(self.connection, f"SELECT audit_run_id, count(*) FROM {audit} GROUP BY 1 ORDER BY 1")
            for run, images in counts:
                if (run, audit) not in noted:
                    why = (
                        f"{audit} has {counted(images, 'image')} under this number, which no run wrote there."
                    )
                    yield Verdict(run, None, None, None, None, None, "added", (why,))


def _unsealed(run: _Run) -> Verdict:
    state: State = "unsealed" if run.is_followed else "new"
    why = (
        "It ended before another run began, and was not sealed."
        if run.is_followed
        else "It is not sealed yet: run datafixes seal."
    )
    return Verdict(run.run_id, run.fix, run.outcome, run.finished_at, None, None, state, (why,))
