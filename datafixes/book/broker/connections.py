"""Tracks the connections of an HTTP session, so that an endless answer can be cut."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def noting_connections(session: Any) -> list[Any]:
    """A list that receives every connection of a session, including those in use."""
    made: list[Any] = []

    def noting(pool_class: Callable[..., Any]) -> Callable[..., Any]:
        def pool(*arguments: Any, **named: Any) -> Any:
            found = pool_class(*arguments, **named)
            connect = found.ConnectionCls

            def connection(*arguments: Any, **named: Any) -> Any:
                made.append(connect(*arguments, **named))
                return made[-1]

            found.ConnectionCls = connection
            return found

        return pool

    for adapter in session.adapters.values():
        manager: Any = getattr(adapter, "poolmanager", None)
        if manager is not None:
            classes = manager.pool_classes_by_scheme
            manager.pool_classes_by_scheme = {scheme: noting(one) for scheme, one in classes.items()}
    return made


def cut(connections: list[Any]) -> None:
    """Cut them: a thread that still reads from one gets an error."""
    for connection in connections:
        with suppress(OSError, AttributeError):  # not connected
            connection.sock.shutdown(socket.SHUT_RDWR)
