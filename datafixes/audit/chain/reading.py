"""Reads bytes from the server as they are, and hashes images on this side: in constant memory, believing nobody's hash."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

from datafixes.audit.chain.forms import BLOCK_BITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_OPENING = len(_SIGNATURE) + 8
_ROW = b"\0\2"
"""How a row of two columns begins. The length and the value of a number and the length of the bytes follow."""
_BLOCK = 8 - BLOCK_BITS // 8
_sha256 = hashlib.sha256


class _Rows:
    """A file to which a driver writes the binary format of COPY, and which hands on each row.

    The server sends one row a message, and libpq hands on whole ones; the first has the head of the format before it.
    """

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[bytes, bytes], None]) -> None:
        self._take = take

    def write(self, data: bytes) -> None:
        """Take what the server sent."""
        if data.startswith(_ROW):
            if len(data) > 18:
                self._take(data[6:14], data[18:])
        elif data.startswith(_SIGNATURE):
            self.write(data[_OPENING:])


def read_rows(connection: Connection, query: str, take: Callable[[bytes, bytes], None]) -> None:
    """Read the rows of a query for a bigint and bytes, one by one; rows without bytes are left out.

    Args:
        connection: the database, through psycopg2 or psycopg.
        query: the query.
        take: called for each row, with the number as PostgreSQL sends it.
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
        self._number = bytes(_BLOCK)
        self._block = hashlib.sha256()

    def take(self, number: bytes, image: bytes) -> None:
        """Take the next image; see :func:`number_of`."""
        self._add(number, _sha256(_sha256(self._key + number).digest() + image).digest())

    def _add(self, number: bytes, leaf: bytes) -> None:
        if number[:_BLOCK] != self._number:
            self._end_block()
            self._number = number[:_BLOCK]
        self._block.update(leaf)
        self.images += 1

    def hexdigest(self) -> str:
        """The digest of all images, after the last."""
        self._end_block()
        return self._all.hexdigest()

    def _end_block(self) -> None:
        if self.images:
            self._all.update(self._block.digest())
            self._block = hashlib.sha256()


def number_of(audit_id: int) -> bytes:
    """The number of an image as PostgreSQL sends it: eight bytes, of which the first six are those of its block."""
    return audit_id.to_bytes(8, "big", signed=True)
