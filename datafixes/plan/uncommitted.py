"""The commits that an upgrade makes and a plan cannot make: what they would do, and which errors only they prevent.

At the end of each transaction of the upgrade, the plan does what a commit would do: deferred constraints are checked,
cursors are closed, and SET LOCAL ends. What it cannot do shows as an error that the upgrade would not meet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from datafixes.audit.images import READING
from datafixes.errors import diagnosis_of, sqlstate
from datafixes.plan.rollback_only import NEVER_COMMITTED, WouldCommit
from datafixes.running.operation import DatafixFailed
from datafixes.script.literal import text
from datafixes.script.parameters import verbatim

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

Commit = Literal["", "of others", "of others, refused", "its own"]
"""The commit that a revision lacks: none, that of those before it (which the upgrade may lack too), or its own."""

# What a commit does. Constraints are named, because ALL would also reach those that a later revision creates. One that
# shares its name with a constraint that is not deferred stays immediate. The guard of a fix is left out: in a plan,
# the version moves on.
_AT_COMMIT = """
WITH late AS (
    SELECT pg_catalog.format('%I.%I', n.nspname, c.conname) AS name, bool_and(c.condeferred) AS deferred
      FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace
     WHERE c.contype IN ('f', 'p', 'u', 'x', 't') AND c.conname <> 'datafixes_moved'
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
     GROUP BY n.nspname, c.conname HAVING bool_or(c.condeferrable)
)
SELECT 1 AS position, 'SET CONSTRAINTS ' || string_agg(name, ', ') || ' IMMEDIATE' AS statement FROM late
UNION ALL
SELECT 2, 'SET CONSTRAINTS ' || string_agg(name, ', ') || ' DEFERRED' FROM late WHERE deferred
UNION ALL
SELECT 3, 'CLOSE ' || pg_catalog.quote_ident(name) FROM pg_catalog.pg_cursors WHERE NOT is_holdable AND name <> ''
 ORDER BY position
"""

_LABELS = "SELECT oid, enumlabel, pg_catalog.format_type(enumtypid, NULL) FROM pg_catalog.pg_enum"
_TEMPORARY = "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()"

_DROPPED_AT_COMMIT = re.compile(r"\bon\s+commit\s+drop\b", re.IGNORECASE)
_SET_LOCAL = re.compile(r"(?:^|;)\s*set\s+local\s+\"?([\w.]+)", re.IGNORECASE)
_SET_CONFIG = re.compile(
    r"^\s*select\s+(?:pg_catalog\.)?set_config\s*\(\s*'([\w.]+)'\s*,[^;]*,\s*'?t(?:rue)?'?\s*\)",
    re.IGNORECASE,
)
_OTHER_NAMES = {"time": "TimeZone", "session": "session_authorization", "schema": "search_path"}

_UNSAFE_LABEL, _DUPLICATE_TABLE, _OUT_OF_LOCKS = "55P04", "42P07", "53200"
_TRANSACTION_ACTIVE, _COPY_FREEZE = "25001", "25000"


@dataclass
class Uncommitted:
    """What the revisions of a plan leave uncommitted.

    Attributes:
        connection: the plan's.
        each: the upgrade commits each revision, and not all of them at once.
        queries_first: its transactions begin with queries, as those of datafixes' own env.py do.
        is_external: env.py has begun the transaction, so autocommit_block() fails in an upgrade too.
    """

    connection: Connection
    each: bool
    queries_first: bool
    is_external: bool
    _labels: set[int] = field(default_factory=set)
    _new_labels: list[tuple[str, str]] = field(default_factory=list)
    _temporary: set[str] = field(default_factory=set)
    _settings: dict[str, str] = field(default_factory=dict)
    _errors: list[BaseException] = field(default_factory=list)
    _steps: int = 0
    _drops: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the statements and the errors of the connection."""
        engine = self.connection.engine
        self._labels = {oid for oid, *_ in self._ask(_LABELS)}
        event.listen(self.connection, "before_cursor_execute", self._sent)
        event.listen(engine, "handle_error", self._failed)
        try:
            yield
        finally:
            event.remove(engine, "handle_error", self._failed)
            event.remove(self.connection, "before_cursor_execute", self._sent)

    def step_ended(self) -> None:
        """Note what a revision leaves uncommitted."""
        self._steps += 1
        self._new_labels = [(label, of) for oid, label, of in self._ask(_LABELS) if oid not in self._labels]
        self._temporary = {name for (name,) in self._ask(_TEMPORARY)}

    def commit(self) -> None:
        """Do what a commit does, but keep nothing.

        Raises:
            DBAPIError: a deferred constraint does not hold.
        """
        for _, statement in self._ask(_AT_COMMIT):
            if statement is not None:
                self.connection.exec_driver_sql(verbatim(self.connection, statement))
        for name, value in self._settings.items():
            self._ask(f"SELECT pg_catalog.set_config({text(name)}, {text(value)}, true)")
        self._settings.clear()

    def lacks(self, error: BaseException, *, is_proof: bool = False) -> Commit:
        """The commit for lack of which a revision failed.

        Args:
            error: what the revision raised.
            is_proof: it was the downgrade, which never shares a transaction with the upgrade.
        """
        if is_of_autocommit_block(error):
            return "" if self.is_external else "its own"
        cause = _cause(error)
        diagnosis, code = diagnosis_of(cause), sqlstate(cause)
        words = diagnosis.message
        if isinstance(error, WouldCommit) or NEVER_COMMITTED in words or code == _COPY_FREEZE:
            return "its own"  # the plan's own cursor is in the way of COPY FREEZE
        if code == _TRANSACTION_ACTIVE:
            # that of a fix itself comes behind the version, which Alembic reads first in an upgrade too
            own = isinstance(error, DatafixFailed)
            return "" if own else self._of_the_first(diagnosis.function)
        if not (is_proof or self._steps):
            return ""
        is_of_others = (
            (isinstance(cause, DBAPIError) and all(cause.orig is not own for own in self._errors))
            or (
                code == _UNSAFE_LABEL
                and any(label in words and of in words for label, of in self._new_labels)
            )
            or (code == _DUPLICATE_TABLE and self._drops and any(name in words for name in self._temporary))
            or code == _OUT_OF_LOCKS
        )
        return self._of_others() if is_of_others else ""

    def _of_others(self) -> Commit:
        return "of others" if self.each else "of others, refused"

    def _of_the_first(self, function: str) -> Commit:
        """Of a statement that must be the first of its transaction, or the first that writes."""
        is_of_settings = function.endswith("_check_hook")  # SET TRANSACTION
        if function == "PreventInTransactionBlock" or (
            is_of_settings and (self.queries_first or not self.each)
        ):
            return ""
        return self._of_others() if self._steps else "its own"

    def _ask(self, statement: str) -> list[Any]:
        return list(self.connection.exec_driver_sql(verbatim(self.connection, statement)))

    def _sent(self, connection: Connection, _: Any, statement: str, *__: Any) -> None:
        """Note, before it is changed, the value of a setting that a commit would give back."""
        if statement in READING or "pg_temp.datafix" in statement:
            return
        self._drops = self._drops or _DROPPED_AT_COMMIT.search(statement) is not None
        for name in (*_SET_LOCAL.findall(statement), *_SET_CONFIG.findall(statement)):
            known = _OTHER_NAMES.get(name.lower(), name.lower())
            if known not in self._settings and known != "transaction":
                cursor = connection.connection.cursor()
                cursor.execute(f"SELECT pg_catalog.current_setting({text(known)}, true)")
                self._settings[known] = (cursor.fetchone() or ("",))[0] or ""

    def _failed(self, context: Any) -> None:
        if context.connection is self.connection:
            self._errors.append(context.original_exception)


def is_of_autocommit_block(error: BaseException) -> bool:
    """Whether Alembic's autocommit_block() refused: it asserts that Alembic began the transaction."""
    frames = [frame.f_code.co_name for frame, _ in walk_tb(error.__traceback__)]
    return isinstance(error, AssertionError) and frames[-1:] == ["autocommit_block"]


def _cause(error: BaseException) -> BaseException:
    """The driver's error behind that of a fix."""
    if not isinstance(error, DatafixFailed):
        return error
    return next(
        (one for one in (error.error.__cause__, error.__cause__) if isinstance(one, DBAPIError)), error
    )
