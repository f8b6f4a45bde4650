"""The connections of an HTTP session, so that one can be cut in the middle of an answer that does not end."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def noting_connections(session: Any) -> list[Any]:
    """A list that will hold every connection of a session: nothing else knows those that are in use."""
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
    """End them now: whoever still reads from one meets an error instead of the next byte."""
    for connection in connections:
        with suppress(OSError, AttributeError):  # not connected, or not any more
            connection.sock.shutdown(socket.SHUT_RDWR)
