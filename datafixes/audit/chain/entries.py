"""The entries of a chain: what each holds, how its head follows from that, and how entries are read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from datafixes.audit.history import ask
from datafixes.script.literal import qualified, text
from datafixes.script.tables import CHAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

_TAG = b"datafixes chain 1"
_NONE = b"\xff" * 8
"""In the place of a length: NULL."""

UTC = "pg_catalog.to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
"""The text form of a time."""


@dataclass(frozen=True)
class Entry:
    """One entry, in the texts that its head is made of; hashes are hexadecimal.

    Attributes:
        position: its place in the chain, from 1.
        kind: what it seals: ``run``; of what takes something out of audit tables ``pruned`` or ``redacted``.
        run_id: the run.
        line: the SHA-256 of the ledger's lines of the run.
        shape: JSON; see :class:`Shape`.
        images: the number of its images.
        images_sha256: the SHA-256 of the digests of its tables.
        details: JSON about what was pruned or redacted.
        sealed_at: when, in UTC.
        ledger: the ledger, the same in every copy of the database.
        database: the database's name.
        cluster: the server's system identifier, if the role may read it.
        timeline: its timeline, which changes with each promotion of a replica and each recovery.
        previous: the head before it; empty at the start.
        head: the SHA-256 of all of these.
    """

    position: int
    kind: str
    run_id: int
    line: str
    shape: str
    images: int
    images_sha256: str
    details: str | None
    sealed_at: str
    ledger: str
    database: str
    cluster: str | None
    timeline: int | None
    previous: str
    head: str = ""

    @property
    def computed_head(self) -> str:
        """The head as it follows from the rest: each value with its length before it, so that none runs into the next."""
        found = hashlib.sha256(_TAG)
        for one in fields(self):
            if one.name == "head":
                continue
            value = getattr(self, one.name)
            written = b"" if value is None else str(value).encode()
            found.update(_NONE if value is None else len(written).to_bytes(8, "big"))
            found.update(written)
        return found.hexdigest()

    @property
    def place(self) -> tuple[str, str | None, int | None]:
        """Where it was sealed: database, cluster and timeline."""
        return self.database, self.cluster, self.timeline


@dataclass(frozen=True)
class SealedTable:
    """The images of a run in one audit table, as they were sealed.

    Attributes:
        position: the table's place in the run.
        audit: the audit table's name in SQL, as the ledger has it.
        columns: the columns of the images that were hashed, in this order.
        not_covered: the columns that were not, because neither their text nor their bytes outlive a rename or a move.
        images: how many.
        sha256: the digest of their leaves.
    """

    position: int
    audit: str
    columns: tuple[str, ...]
    not_covered: tuple[str, ...]
    images: int
    sha256: str


@dataclass(frozen=True)
class Shape:
    """What an entry's hashes are made of.

    Attributes:
        run_columns: the columns of the run's line in the ledger.
        table_columns: the columns of its tables' lines.
        tables: its tables.
    """

    run_columns: tuple[str, ...]
    table_columns: tuple[str, ...]
    tables: tuple[SealedTable, ...]

    @classmethod
    def read(cls, shape: str) -> Shape:
        """From an entry's text."""
        given = json.loads(shape)
        tables = (
            SealedTable(**{**one, "columns": tuple(one["columns"]), "not_covered": tuple(one["not_covered"])})
            for one in given["tables"]
        )
        return cls(tuple(given["run_columns"]), tuple(given["table_columns"]), tuple(tables))

    @property
    def as_text(self) -> str:
        """For an entry: ASCII, so that no client's encoding changes it."""
        return json.dumps({"form": 1, **vars(self), "tables": [vars(one) for one in self.tables]})


def has_chain(connection: Connection, schema: str) -> bool:
    """Whether a ledger has a chain."""
    chain = text(qualified(schema, CHAIN))
    return bool(ask(connection, f"SELECT 1 WHERE pg_catalog.to_regclass({chain}) IS NOT NULL"))


def read_entries(connection: Connection, schema: str, rest: str = "ORDER BY position") -> list[Entry]:
    """Entries of a chain, in its order."""
    return [
        Entry(*row) for row in ask(connection, f"SELECT {_COLUMNS} FROM {qualified(schema, CHAIN)} {rest}")
    ]


def last_entry(connection: Connection, schema: str) -> Entry | None:
    """The newest entry."""
    return next(iter(read_entries(connection, schema, "ORDER BY position DESC LIMIT 1")), None)


def _selected() -> Iterator[str]:
    for one in fields(Entry):
        yield {"sealed_at": UTC.format("sealed_at"), "ledger": "ledger::text"}.get(one.name, one.name)


_COLUMNS = ", ".join(_selected())


def literals(entry: Entry) -> list[str]:
    """The values of an entry, in SQL."""

    def written(value: Any) -> str:
        return "NULL" if value is None else str(value) if isinstance(value, int) else text(value)

    return [written(getattr(entry, one.name)) for one in fields(entry)]
