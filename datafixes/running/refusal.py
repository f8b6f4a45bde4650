"""Makes a refusal final: code that catches it meets it again at the next statement, and cannot commit.

The fuse in the database is not enough. A migration that catches the error can roll back to a savepoint older than the
fuse, or the client begins another transaction; `alembic_version` would then move without the fix.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.engine import Connection

from datafixes.errors import DatafixError, DeclarationError

if TYPE_CHECKING:
    from alembic.config import Config


class _Once(logging.Filter):
    """Alembic's command line logs what ends it and prints it too, as ``FAILED: ...``; of a refusal, that is enough."""

    told = ""
    is_printed = True

    def filter(self, record: logging.LogRecord) -> bool:
        return not (self.is_printed and self.told and record.getMessage() == self.told)


_once = _Once()
logging.getLogger("alembic.util.messaging").addFilter(_once)


def said_by(config: Config) -> None:
    """Note whether Alembic's command line prints: ``alembic --quiet`` only logs."""
    _once.is_printed = not config.messaging_opts.get("quiet", False)


def said_once(message: str) -> str:
    """Let Alembic print a message, without logging it too."""
    _once.told = message
    return message


def _with_its_place(error: DeclarationError) -> str:
    from datafixes.declaration.project_fixes import wrong_declaration  # needed only then

    known = wrong_declaration(error)
    return error.message if known is None or known.message == error.message else said_once(known.one_line())


# Alembic shows errors of its own class in one line. Any env.py and any of its commands may read a wrong declaration.
DeclarationError.__bases__ = (DatafixError, CommandError)
DeclarationError.__str__ = _with_its_place  # type: ignore[method-assign, assignment]


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
