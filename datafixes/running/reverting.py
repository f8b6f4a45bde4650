"""How a fix is reverted: all or some of its rows, and what happens to rows that somebody changed since."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from datafixes.audit.recalling import recall
from datafixes.declaration.expressions import Value
from datafixes.declaration.project_fixes import fix_named, fixes_of, nearest
from datafixes.declaration.recalled import RecalledFix
from datafixes.declaration.recorded import Fix
from datafixes.errors import DatafixError, DeclarationError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_logger = logging.getLogger("alembic.datafixes")


@dataclass(frozen=True)
class Revert:
    """How a fix is reverted.

    Attributes:
        on_conflict: the author's choice for rows that somebody changed since.
        undoes: the revision whose run is reverted, or an empty string.
        rows: the keys of the rows to revert, by table if there are several; None: all.
        run: the number of the run to revert, instead of the fix and the revision.
        audit_schema: the schema of its ledger, if no declaration gives it.
        reason: why it is reverted; empty: the reason of the run that is reverted.
    """

    on_conflict: str = "refuse"
    undoes: str = ""
    rows: Any = None
    run: int | None = None
    audit_schema: str = ""
    reason: str = ""


def known_fix(given: Fix | str | None, how: Revert, scripts: Any, connection: Connection | None) -> Fix:
    """The fix to revert: its declaration, or what the ledger keeps of it.

    The ledger decides: a declaration that has changed since the fix ran is ignored, with a warning.

    Args:
        given: its declaration, or its name, or None if the run is given by number.
        how: which run.
        scripts: Alembic's ScriptDirectory, or None.
        connection: the ledger's database, or None for a printed script.

    Raises:
        DBAPIError: the connection was lost.
    """
    declared = _declared(scripts, given) if isinstance(given, str) else given
    is_another = declared is not None and how.audit_schema not in ("", declared.schema_of_audit)
    if declared is None or is_another or how.run is not None:
        name = (
            declared.name if declared is not None else given if isinstance(given, str) else f"run {how.run}"
        )
        named = RecalledFix(name, how.run, how.audit_schema, is_named=given is not None)
        return named if connection is None else recall(connection, named)
    if connection is None:
        return declared
    kept = _kept(connection, declared)
    if kept.fingerprint in ("", declared.fingerprint):
        return declared
    _logger.warning(
        "datafix %s: its declaration has changed since it ran: fingerprint %s then, %s in the file now. "
        "The revert follows the ledger.",
        declared.name, kept.fingerprint[:12], declared.fingerprint[:12],
    )  # fmt: skip
    return kept


def _declared(scripts: Any, name: str) -> Fix | None:
    if scripts is not None:
        with suppress(DatafixError):  # no file declares it, or two do
            return fix_named(fixes_of(scripts), name).fix
    return None


def _kept(connection: Connection, declared: Fix) -> RecalledFix:
    wanted = RecalledFix(declared.name, None, declared.schema_of_audit)
    try:
        with connection.begin_nested():
            return recall(connection, wanted)
    except DatafixError:  # no run: the engine reports it
        return wanted
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return wanted  # no right to read: the same


def chosen_rows(fix: Fix, rows: Any) -> dict[str, list[tuple[Value, ...]]] | None:
    """The keys of the rows to revert, by table; under an empty name if the fix has one table.

    Raises:
        DeclarationError: they do not identify rows of a table.
    """
    if rows is None:
        return None
    tables = [table.table for table in fix.tables]
    by_table = rows if isinstance(rows, Mapping) else {"": rows}
    if not isinstance(rows, Mapping) and len(tables) > 1:
        raise DeclarationError(
            f"datafix {fix.name}: it has several tables, so name the table of the rows.",
            hint=f"rows={{{tables[0]!r}: [...]}}",
        )
    for table, keys in by_table.items():
        if tables and table.rpartition(".")[2] not in ("", *tables):
            raise DeclarationError(
                f"datafix {fix.name}: {table} is not one of its tables.{nearest(table, tables)}"
            )
        if isinstance(keys, str) or not keys:
            raise DeclarationError(f"datafix {fix.name}: rows={keys!r}: must be a list of keys.")
    return {
        table: [key if isinstance(key, tuple) else (key,) for key in keys] for table, keys in by_table.items()
    }
