"""Exports sealed runs as files, and proves such files without a database.

The images are CSV as COPY writes it, in the text forms that are hashed. Everything else that a proof needs is in one
manifest: the whole chain, the keys of the exported runs, and their lines in the ledger. JSON lines are for programs
that want them, and prove nothing.
"""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datafixes.audit.chain import forms
from datafixes.audit.chain.entries import Entry, SealedTable, Shape
from datafixes.audit.chain.reading import Leaves, number_of, read_bytes
from datafixes.audit.chain.redacting import Redaction, SaltedLeaves, redactions
from datafixes.audit.chain.verdicts import State, Verdict, differences, link, verdict_of
from datafixes.audit.chain.verifying import Ledger
from datafixes.errors import DatafixError
from datafixes.script.tables import MARKS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import BinaryIO

MANIFEST = "manifest.json"
CSV, JSONL, SALTS = ".csv", ".jsonl", "-salts.csv"

_FORMS = {
    CSV: (forms.values, "FORMAT csv, HEADER, FORCE_QUOTE *"),
    # JSON has no control character, so nothing is quoted: each line is as row_to_json wrote it.
    JSONL: (forms.objects, r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'"),
}
"""How the images are written: the query, and options of COPY."""
_NOTHING: list[bytes | None] = [None, None]

# A value of a line of CSV, quoted or not, and the comma behind it. Only NULL is neither quoted nor anything else.
_VALUE = re.compile(rb'(?:"((?:[^"]|"")*)"|([^",]*))(,|$)')
# What a whole row's text form quotes.
_QUOTED = re.compile(rb'["\\(),\s]')


def export(ledger: Ledger, runs: Collection[int] | None, directory: Path, *, jsonl: bool = False) -> int:
    """Write sealed runs to a directory; return how many.

    Args:
        ledger: in a transaction with ``forms.SETTINGS``.
        runs: which; None for all.
        directory: empty, or not there yet.
        jsonl: write the images as JSON lines, too.

    Raises:
        DatafixError: a run is not sealed, its images were given up, or the directory holds something.
    """
    chosen = _chosen(ledger, runs)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise DatafixError(f"{directory} is not empty.", hint="Name a new directory.")
    exported = {}
    for entry in chosen:
        shape, key = Shape.read(entry.shape), ledger.key(entry.run_id)
        for table in shape.tables:
            for suffix in (CSV, JSONL) if jsonl else (CSV,):
                with (directory / _file(entry, table, suffix)).open("wb") as file:
                    _copy(ledger, entry, table, file, suffix)
            if ledger.is_redacted(entry.run_id):
                place = (forms.audit_table_here(ledger.schema, table.audit), table.position)
                with (directory / _file(entry, table, SALTS)).open("wb") as file:
                    _write(ledger, forms.salts(ledger.schema, entry.run_id, place), file, CSV)
        exported[str(entry.run_id)] = {
            "fix": ledger.fix_of(entry.run_id),
            "line": ledger.line(entry, shape).decode("utf-8", "surrogateescape"),
            "key": key.hex() if key else None,
        }
    manifest = {
        "version": 1, "kind": "export", "schema": ledger.schema, "settings": forms.SETTINGS,
        "entries": [vars(entry) for entry in ledger.entries], "runs": exported,
    }  # fmt: skip
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "ascii")
    return len(exported)


def _chosen(ledger: Ledger, runs: Collection[int] | None) -> list[Entry]:
    given_up = {run for run, _ in ledger.given_up}
    chosen = [
        one for one in ledger.entries if (one.run_id not in given_up if runs is None else one.run_id in runs)
    ]
    if gone := sorted(given_up & set(runs or ())):
        raise DatafixError(
            f"The images were given up: run {', '.join(map(str, gone))}.", hint="datafixes verify-audit"
        )
    if missing := sorted(set(runs or ()) - {entry.run_id for entry in chosen}):
        raise DatafixError(f"Not sealed: run {', '.join(map(str, missing))}.", hint="First: datafixes seal")
    return chosen


def _file(entry: Entry, table: SealedTable, suffix: str) -> str:
    return f"run-{entry.run_id}-{table.position}{suffix}"


def _copy(ledger: Ledger, entry: Entry, table: SealedTable, file: BinaryIO, suffix: str) -> None:
    audit = forms.audit_table_here(ledger.schema, table.audit)
    there = ledger.columns(audit).types
    if gone := [column for column in table.columns if column not in there]:
        raise DatafixError(
            f"Run {entry.run_id} cannot be exported: {audit} lacks {', '.join(gone)}.",
            hint="datafixes verify-audit says more.",
        )
    marks = (MARKS,) if ledger.is_redacted(entry.run_id) else ()
    query, _ = _FORMS[suffix]
    _write(ledger, query(entry.run_id, audit, (*table.columns, *marks)), file, suffix)


def _write(ledger: Ledger, query: str, file: BinaryIO, suffix: str) -> None:
    options = _FORMS[suffix][1]
    read_bytes(ledger.connection, f"COPY ({query}) TO STDOUT ({options}, ENCODING '{ledger.form}')", file)


class Export:
    """Exported runs.

    Attributes:
        entries: the chain, as it was exported.
        schema: the schema of the ledger.
    """

    def __init__(self, directory: Path) -> None:
        """Read the manifest.

        Raises:
            DatafixError: it cannot be read, or is none.
        """
        self._directory = directory
        try:
            manifest = json.loads((directory / MANIFEST).read_text("utf-8"))
            if (manifest["kind"], manifest["version"]) != ("export", 1):
                raise ValueError("it is of another kind or version")
            self.schema = str(manifest["schema"])
            self.entries = [Entry(**one) for one in manifest["entries"]]
            self._runs: dict[str, Any] = manifest["runs"]
            self._redactions = redactions(self.entries)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatafixError(f"{directory} is no export of datafixes: {error}") from None

    def verdicts(self) -> Iterator[Verdict]:
        """What is known of each exported run, and of each entry that breaks the chain."""
        before: Entry | None = None
        for entry in self.entries:
            broken, run = link(entry, before), self._runs.get(str(entry.run_id))
            if broken:
                yield verdict_of(entry, None, [("broken", broken)])
            elif run is not None:
                yield verdict_of(entry, (run["fix"], None, None), list(self._differences(entry, run)))
            before = entry
        for run_id in self._runs.keys() - {str(entry.run_id) for entry in self.entries}:
            why = ("The chain has no entry for it.",)
            yield Verdict(int(run_id), None, None, None, None, None, "added", why)

    def _differences(self, entry: Entry, run: dict[str, Any]) -> Iterator[tuple[State, str]]:
        if forms.sha256(run["line"].encode("utf-8", "surrogateescape")) != entry.line:
            yield "differs", "Its lines in the ledger are not those that were sealed."
        for table in Shape.read(entry.shape).tables:
            path = self._directory / _file(entry, table, CSV)
            if not path.is_file():
                yield "removed", f"{path.name} is not there."
                continue
            redacted = any(run_id == entry.run_id for run_id, _ in self._redactions)
            with path.open("rb") as file:
                rows, columns = _records(file), (*table.columns, *((MARKS,) if redacted else ()))
                if tuple(value.decode() for value in next(rows, ()) if value is not None) != columns:
                    yield "differs", f"{path.name} has other columns than were sealed."
                elif redacted:
                    yield from self._redacted(entry, table, rows)
                else:
                    leaves, place = Leaves(bytes.fromhex(run["key"] or ""), table.position), _place(table)
                    for row in rows:
                        leaves.take(number_of(int(row[place] or 0)), _text(row))
                    yield from differences(leaves, table, path.name)

    def _redacted(
        self, entry: Entry, table: SealedTable, rows: Iterator[list[bytes | None]]
    ) -> Iterator[tuple[State, str]]:
        """The same for the images of a run of which values were redacted: their salts are in a file beside them."""
        path, leaves, place = self._directory / _file(entry, table, SALTS), SaltedLeaves(), _place(table)
        if not path.is_file():
            yield "removed", f"{path.name} is not there."
            return
        with path.open("rb") as file:
            salts = _records(file)
            next(salts, None)
            for row, kept in zip_longest(rows, salts, fillvalue=_NOTHING):
                salt, sealed = (None if one is None else bytes.fromhex(one.decode()) for one in kept)
                # what was redacted is a part of the image where something was
                image = _text(row if row[-1] is not None else row[:-1])
                leaves.take_salted(number_of(int(row[place] or 0)), salt or b"", sealed, image)
        redaction = self._redactions.get((entry.run_id, table.position), Redaction())
        yield from differences(leaves, table, _file(entry, table, CSV), redaction)


def _place(table: SealedTable) -> int:
    return table.columns.index("audit_id")


def _records(file: BinaryIO) -> Iterator[list[bytes | None]]:
    """The records of a CSV file, one at a time; a line break inside of quotes belongs to the value."""
    record = b""
    for line in file:
        record += line
        if record.count(b'"') % 2 == 0:
            yield list(_values(record.removesuffix(b"\n")))
            record = b""
    if record:
        raise DatafixError(f"{file.name} ends within a value.")


def _values(record: bytes) -> Iterator[bytes | None]:
    position = 0
    while found := _VALUE.match(record, position):
        yield found[2] or None if found[1] is None else found[1].replace(b'""', b'"')
        if not found[3]:
            return
        position = found.end()
    raise DatafixError(f"A line is not CSV as COPY writes it: {record[:80]!r}")


def _text(row: list[bytes | None]) -> bytes:
    """The text form of a whole row, as PostgreSQL writes it."""
    return b"(" + b",".join(b"" if value is None else _quoted(value) for value in row) + b")"


def _quoted(value: bytes) -> bytes:
    if value and not _QUOTED.search(value):
        return value
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'""') + b'"'
