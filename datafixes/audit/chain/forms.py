"""The text forms that are hashed: of the ledger's lines of a run, and of its images.

They are PostgreSQL's own of whole rows, under settings that are always the same: such a text is the same after a dump,
on a newer version, under every encoding. Only ``reg*`` and ``aclitem`` differ; columns of these types are left out.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datafixes.audit.history import ask
from datafixes.audit.images import PINNED
from datafixes.script.literal import name, qualified, text
from datafixes.script.tables import AUDIT_COLUMNS, KEYS, LEDGER, LEDGER_TABLES, MARKS, SALTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

SETTINGS = (
    *PINNED,
    "SET LOCAL lc_monetary = 'C'",
    "SET LOCAL row_security = off",
    "SET LOCAL enable_seqscan = off",
)
"""The settings for the transaction of whoever computes them. An audit table without statistics is not read as a whole for each run."""

BLOCK_BITS = 16
"""So many low bits of an image's number tell it apart within its block."""

RUN_COLUMNS = (
    "run_id", "fix", "revision", "direction", "outcome", "rows_expected", "rows_found", "rows_changed", "rows_already",
    "rows_skipped", "rows_overwritten", "reason", "applied_by", "logged_in_as", "application", "fingerprint",
    "started_at", "finished_at", "reverts_run", "on_conflict", "rows_chosen", "already", "error", "engine",
    "declaration", "declined_because", "part_of",
)  # fmt: skip
TABLE_COLUMNS = (
    "position", "target_table", "audit_table", "key_columns", "rows_inserted", "rows_updated", "rows_deleted",
    "written_columns", "images", "shape",
)  # fmt: skip
"""The columns of the ledger that are sealed, where they are there; columns of later versions do not change a form.

The ledger's own checksums of the images are left out: a redaction renews them, because values could be guessed from them.
"""

_OWN_NAME = re.compile(r'"(?:[^"]|"")+"|[^."]+')
_NOT_COVERED = re.compile(r"reg|aclitem")


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are there, with their types."""

    types: dict[str, str]

    def among(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Those of some columns that are there and can be hashed."""
        return tuple(one for one in wanted if one in self.types and not _NOT_COVERED.match(self.types[one]))

    def uncovered(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Those that are there and cannot be hashed."""
        return tuple(one for one in wanted if one in self.types and _NOT_COVERED.match(self.types[one]))


def columns_of(connection: Connection, table: str) -> Columns:
    """The columns of a table, by its name in SQL; none if it is not there."""
    rows = ask(
        connection,
        "SELECT attname, pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute"
        f" WHERE attrelid = pg_catalog.to_regclass({text(table)}) AND attnum > 0 AND NOT attisdropped",
    )
    return Columns(dict(tuple(row) for row in rows))


def audit_table_here(schema: str, noted: str) -> str:
    """The audit table of a run, by the name that the ledger noted; the schema may have been renamed since."""
    own = _OWN_NAME.findall(noted)[-1]
    return qualified(schema, own[1:-1].replace('""', '"') if own.startswith('"') else own)


def encoding(connection: Connection) -> str:
    """The encoding that is hashed: UTF-8, unless the database has none."""
    [(server,)] = ask(connection, "SHOW server_encoding")
    return "SQL_ASCII" if server == "SQL_ASCII" else "UTF8"


def line(schema: str, run: int, columns: tuple[Sequence[str], Sequence[str]], form: str) -> str:
    """A query for the bytes of the ledger's lines of a run; NULL if the run is not there.

    Args:
        schema: the ledger's.
        run: the run.
        columns: of its line, and of those of its tables.
        form: see :func:`encoding`.
    """
    return (
        f"SELECT convert_to((SELECT {_row('r', columns[0])} FROM {qualified(schema, LEDGER)} AS r WHERE r.run_id = {run})"
        f" || coalesce((SELECT string_agg(E'\\n' || {_of_tables(columns[1])}, '' ORDER BY t.position)"
        f" FROM {qualified(schema, LEDGER_TABLES)} AS t WHERE t.run_id = {run}), ''), '{form}')"
    )


def image(columns: Sequence[str], form: str, has_marks: bool) -> str:
    """An expression for the bytes of the image ``a``.

    Args:
        columns: its columns.
        form: see :func:`encoding`.
        has_marks: whether its table has a column that says what was redacted; if something was, that is a part of it.
    """
    plain = _row("a", columns)
    if not has_marks:
        return f"convert_to({plain}, '{form}')"
    marked = _row("a", (*columns, MARKS))
    return f"convert_to(CASE WHEN a.{MARKS} IS NULL THEN {plain} ELSE {marked} END, '{form}')"


def images_digest(schema: str, run: int, table: tuple[str, int], image: str) -> str:
    """A query for the number of a run's images in an audit table, and for their digest, computed by the server.

    The leaf of an image is the SHA-256 of its salt and its bytes. The salt is that of the run's key, the table's place
    in the run and the image's number. The leaves are hashed in the order of their numbers, by blocks, so that neither
    the server nor a client holds all of them.

    Args:
        schema: the ledger's.
        run: the run.
        table: the audit table's name in SQL, and its place in the run.
        image: see :func:`image`.
    """
    audit, position = table
    key = f"(SELECT key || int4send({position}) FROM {qualified(schema, KEYS)} WHERE run_id = {run})"
    return f"""
SELECT coalesce(sum(images), 0)::bigint, encode(sha256(coalesce(string_agg(digest, ''::bytea ORDER BY block), '')), 'hex')
  FROM (SELECT block, count(*) AS images, sha256(string_agg(leaf, ''::bytea ORDER BY audit_id)) AS digest
          FROM (SELECT a.audit_id, a.audit_id >> {BLOCK_BITS} AS block,
                       sha256(sha256({key} || int8send(a.audit_id)) || {image}) AS leaf
                  FROM {audit} AS a WHERE a.audit_run_id = {run}) AS leaves
         GROUP BY block) AS blocks"""


def images(run: int, audit: str, image: str) -> str:
    """A query for the numbers and bytes of a run's images, in the order in which they are hashed.

    They need not lie in this order: PostgreSQL fills pages that have room.
    """
    return f"SELECT coalesce(a.audit_id, 0), {image} FROM {audit} AS a WHERE a.audit_run_id = {run} ORDER BY a.audit_id"


def salted_images(schema: str, run: int, table: tuple[str, int], image: str) -> str:
    """The same query for a run of which values were redacted: before the bytes of each image, what :func:`salted` reads."""
    audit, position = table
    salted = "coalesce(s.salt, '') || coalesce(s.sealed_leaf, '')"
    return (
        f"SELECT coalesce(a.audit_id, 0), substring(int4send(length({salted})) FROM 4) || {salted} || {image}"
        f" FROM {audit} AS a LEFT JOIN {qualified(schema, SALTS)} AS s"
        f" ON s.run_id = {run} AND s.position = {position} AND s.audit_id = a.audit_id"
        f" WHERE a.audit_run_id = {run} ORDER BY a.audit_id"
    )


def salted(data: bytes) -> tuple[bytes, bytes | None, bytes]:
    """Of one image: its salt (empty: it is gone), its leaf as it was sealed if values were redacted, and its bytes."""
    head, rest = data[1 : 1 + data[0]], data[1 + data[0] :]
    return head[:32], head[32:] or None, rest


def salts(schema: str, run: int, table: tuple[str, int]) -> str:
    """A query for the salts of a run's images, and the leaves of those that lost values, in the same order."""
    audit, position = table
    return (
        "SELECT encode(s.salt, 'hex') AS salt, encode(s.sealed_leaf, 'hex') AS sealed_leaf"
        f" FROM {audit} AS a LEFT JOIN {qualified(schema, SALTS)} AS s"
        f" ON s.run_id = {run} AND s.position = {position} AND s.audit_id = a.audit_id"
        f" WHERE a.audit_run_id = {run} ORDER BY a.audit_id"
    )


def values(run: int, audit: str, columns: Sequence[str]) -> str:
    """A query for a run's images, value by value, in the same order."""
    listed = ", ".join(f"a.{name(column)}" for column in columns)
    return f"SELECT {listed} FROM {audit} AS a WHERE a.audit_run_id = {run} ORDER BY a.audit_id"


def objects(run: int, audit: str, columns: Sequence[str]) -> str:
    """A query for a run's images as JSON objects, in the same order."""
    return f"SELECT row_to_json(one) FROM ({values(run, audit, columns)}) AS one"


def image_columns(shape: Sequence[str]) -> tuple[str, ...]:
    """The columns of an image: those of its target when it was copied, and the audit table's own."""
    return (*shape, *AUDIT_COLUMNS)


def _row(alias: str, columns: Sequence[str]) -> str:
    return f"ROW({', '.join(f'{alias}.{name(column)}' for column in columns)})::text"


def _of_tables(columns: Sequence[str]) -> str:
    """A run's line of a table; its shape without the checksum of names."""
    values = (f"t.{name(one)}" + (" - 'digest_by_name'" if one == "shape" else "") for one in columns)
    return f"ROW({', '.join(values)})::text"


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes, computed here."""
    return hashlib.sha256(data).hexdigest()
