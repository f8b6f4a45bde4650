"""Makes a refusal final: code that catches it meets it again at the next statement, and cannot commit.

The fuse in the database is not enough. A migration that catches the error can roll back to a savepoint older than the
fuse, or the client begins another transaction; `alembic_version` would then move without the fix.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection


def stands(connection: Connection, error: Exception, over: Callable[[], bool] | None = None) -> None:
    """Raise an error again at every later statement and every commit on a connection.

    Args:
        connection: where the error happened.
        error: what to raise again.
        over: whether the refusal may end; by default, when the transaction has been rolled back.
    """
    rolled_back: list[bool] = []

    def again(*_: Any) -> None:
        if not (over() if over else rolled_back):
            raise error

    event.listen(connection, "before_cursor_execute", again)
    event.listen(connection, "commit", again)
    event.listen(connection, "rollback", lambda *_: rolled_back.append(True))
