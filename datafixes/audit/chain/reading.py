"""Reads bytes from the server as they are, and hashes images on this side: in constant memory, believing nobody's hash."""

from __future__ import annotations

import hashlib
from contextlib import closing
from struct import Struct
from typing import TYPE_CHECKING, Any

from datafixes.audit.chain.forms import BLOCK_BITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_OPENING = len(_SIGNATURE) + 8
_ROW = Struct(">hiqi")
"""Two columns: the length and the value of a number, the length of the bytes that follow."""
_NULL = -1
_NUMBER = Struct(">q").pack
_sha256 = hashlib.sha256


class _Rows:
    """A file to which a driver writes the binary format of COPY; it hands on each row, and keeps a part of one at most."""

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self._take = take
        self._left = b""
        self._opened = False

    def write(self, data: bytes) -> None:
        """Take what the server sent."""
        held = self._left + bytes(data) if self._left else bytes(data)
        start, size = 0, len(held)
        if not self._opened:
            if size < _OPENING:
                self._left = held
                return
            start, self._opened = _OPENING, True
        while size - start >= _ROW.size:
            _, _, number, length = _ROW.unpack_from(held, start)
            end = start + _ROW.size + max(length, 0)
            if end > size:
                break
            if length != _NULL:
                self._take(number, held[start + _ROW.size : end])
            start = end
        self._left = held[start:]


def read_rows(connection: Connection, query: str, take: Callable[[int, bytes], None]) -> None:
    """Read the rows of a query for a number and bytes, one by one; rows without bytes are left out.

    Args:
        connection: the database, through psycopg2 or psycopg.
        query: the query.
        take: called for each row.
    """
    read_bytes(connection, f"COPY ({query}) TO STDOUT (FORMAT binary)", _Rows(take))


def read_bytes(connection: Connection, statement: str, file: Any) -> None:
    """Write what a COPY sends to a file, as it comes."""
    cursor: Any = connection.connection.cursor()
    with closing(cursor):
        if hasattr(cursor, "copy_expert"):  # psycopg2
            cursor.copy_expert(statement, file)
            return
        with cursor.copy(statement) as copy:
            for data in copy:
                file.write(bytes(data))


class Leaves:
    """The digest of the images of a run in one table, as the sealer has it from the server.

    Attributes:
        images: how many there were so far.
    """

    def __init__(self, key: bytes, position: int) -> None:
        self.images = 0
        self._key = key + position.to_bytes(4, "big")
        self._all = hashlib.sha256()
        self._number = 0
        self._block = hashlib.sha256()

    def take(self, audit_id: int, image: bytes) -> None:
        """Take the next image."""
        if (number := audit_id >> BLOCK_BITS) != self._number:
            self._end_block()
            self._number = number
        self._block.update(_sha256(_sha256(self._key + _NUMBER(audit_id)).digest() + image).digest())
        self.images += 1

    def hexdigest(self) -> str:
        """The digest of all images, after the last."""
        self._end_block()
        return self._all.hexdigest()

    def _end_block(self) -> None:
        if self.images:
            self._all.update(self._block.digest())
            self._block = hashlib.sha256()
