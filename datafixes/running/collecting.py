"""Replaces the connection while statements are collected instead of sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import DDLElement

from datafixes.errors import UnsafeTransaction

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext


@contextmanager
def collecting(alembic: MigrationContext, collect: Callable[[str], None], label: str) -> Iterator[None]:
    """Pass to ``collect`` what Alembic's operations would print, and what is executed on the connection."""
    impl: Any = alembic.impl

    def execute(construct: Any, *_: Any, multiparams: Any = None, params: Any = None, **__: Any) -> None:
        if multiparams or params:
            raise no_script(label, "it passes parameters")
        collect(_as_sql(construct, impl.dialect, label))

    connection = impl.connection
    # Patched on the instance, temporarily: Alembic's own printing replaces tabs and doubles percent signs.
    impl._exec, impl.static_output = execute, collect
    impl.connection = alembic.connection = _ScriptConnection(execute, impl.dialect, label)  # type: ignore[assignment]
    try:
        yield
    finally:
        del impl._exec, impl.static_output
        impl.connection = alembic.connection = connection


def _as_sql(construct: Any, dialect: Any, label: str) -> str:
    construct = text(construct) if isinstance(construct, str) else construct
    if isinstance(construct, DDLElement):
        return str(construct.compile(dialect=dialect))
    try:
        construct.compile(dialect=dialect).construct_params()  # a :name without a value would become NULL
        compiled = str(construct.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    except SQLAlchemyError as error:
        raise no_script(label, f"{type(error).__name__}: {error}") from error
    return compiled.replace("%%", "%") if dialect.paramstyle in ("format", "pyformat") else compiled


class _ScriptConnection:
    """Replaces the connection in a body that becomes a script: it takes statements, and returns no results."""

    def __init__(self, execute: Callable[..., None], dialect: Any, label: str) -> None:
        self.dialect = dialect
        self._execute = execute
        self._label = label

    def execute(self, construct: Any, parameters: Any = None, **_: Any) -> _NoResult:
        """Take a statement without parameters."""
        self._execute(construct, params=parameters)
        return _NoResult(self._label)

    def exec_driver_sql(self, statement: str, parameters: Any = None, **_: Any) -> _NoResult:
        """Take a statement in the driver's own form."""
        doubled = self.dialect.paramstyle in ("format", "pyformat")
        self._execute(
            text((statement.replace("%%", "%") if doubled else statement).replace(":", r"\:")),
            params=parameters,
        )
        return _NoResult(self._label)

    def __getattr__(self, name: str) -> NoReturn:
        raise no_script(self._label, f"it uses the connection's {name}")


class _NoResult:
    def __init__(self, label: str) -> None:
        self._label = label

    def __getattr__(self, name: str) -> NoReturn:
        raise no_script(self._label, f"it reads results from the database ({name})")

    def __iter__(self) -> NoReturn:
        raise no_script(self._label, "it reads results from the database")


def no_script(label: str, why: str) -> UnsafeTransaction:
    """The error for a body that cannot become a script."""
    return UnsafeTransaction(
        f"{label}: its body cannot become a script: {' '.join(why.split())}",
        hint="Apply it online, or write the body in SQL.",
    )
