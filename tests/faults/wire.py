"""A wire between a client and a server that a test can cut: a proxy on loopback in front of the server's socket."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from tests.named import SUPERUSER
from tests.servers import Database

_FIX = b"CALL pg_temp.datafix_run"
"""The line that runs a fix; what a client says before is no part of it."""


@dataclass
class Wire:
    """Passes everything on until a client says `word`, on a connection that has sent a fix; then it is cut.

    Attributes:
        word: what the client says at the moment of the cut.
        delivered: whether the server still hears it, and does what it says; the answer never arrives.
        once: it is mended at once: new connections are taken, and not cut.
        cuts: how often it was cut: every connection goes, and none is taken any more.
    """

    word: bytes
    delivered: bool
    database: Database
    once: bool = False
    cuts: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _open: list[socket.socket] = field(default_factory=list)
    _silent: list[socket.socket] = field(default_factory=list)

    def url(self, driver: str) -> str:
        """The database at the other end."""
        near = replace(self.database.address, host="127.0.0.1", port=self._listener.getsockname()[1])
        return near.url(self.database.name, SUPERUSER, driver)

    def serve(self) -> None:
        """Take connections until the wire is cut."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self.database.address.socket()
            self._open += [client, server]
            for work in (self._to_server, self._to_client):
                threading.Thread(target=work, args=(client, server), daemon=True).start()

    def cut(self) -> None:
        """End every connection at once, without a word."""
        for end in (*self._open, *([] if self.once else [self._listener])):
            with suppress(OSError):
                # With a reset, as from a firewall that has forgotten the connection.
                if end.family == socket.AF_INET:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # This wakes the thread that listens there; closing alone would not.
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        said = b""
        for part in _heard(client):
            said += part
            fix = said.find(_FIX)
            if fix >= 0 and said.find(self.word, fix) >= 0 and not (self.once and self.cuts):
                self._silent += [client] if self.once else self._open
                self.cuts += 1  # from here on no answer gets through
                if self.delivered:
                    _send(server, part)
                self.cut()
                return
            _send(server, part)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        for part in _heard(server):
            if client not in self._silent:
                _send(client, part)


def _heard(end: socket.socket) -> Iterator[bytes]:
    try:
        while part := end.recv(65536):
            yield part
    except OSError:
        return


def _send(end: socket.socket, part: bytes) -> None:
    with suppress(OSError):
        end.sendall(part)


@contextmanager
def wire(database: Database, word: bytes, *, delivered: bool, once: bool = False) -> Iterator[Wire]:
    """A wire to a database, until the end of the context."""
    laid = Wire(word, delivered, database, once)
    serving = threading.Thread(target=laid.serve, daemon=True)
    serving.start()
    try:
        yield laid
    finally:
        laid.once = False
        laid.cut()
