"""Revisions that change rows without a fix."""

import ast
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from datafixes.check.constructs import bulk_insert_change, session_change, statement_change, writes_objects
from datafixes.check.finding import Finding
from datafixes.check.following import values_of
from datafixes.check.module import Module, attribute
from datafixes.check.op_shapes import Shaping, Table, created_by, statement_of
from datafixes.check.sql_reading import Change, changes_in
from datafixes.check.texts import texts_of

_SHOWN = 3


@dataclass(frozen=True)
class _Own:
    """What a revision creates itself, and which therefore held no rows before."""

    tables: Set[Table]
    columns: Set[tuple[Table, str]]

    def lose_nothing(self, change: Change) -> bool:
        """Whether a statement sets only new columns."""
        if change.verb != "UPDATE" or not change.columns:
            return False
        return all((change.table, column) in self.columns for column in change.columns)


def unrecorded_changes(module: Module, shapings: Iterable[Shaping]) -> Iterator[Finding]:
    """Findings about statements that change rows outside of a recorded body.

    Args:
        module: the revision.
        shapings: its changes of tables' definitions.
    """
    added = {
        (one.shape.table, one.shape.column)
        for one in shapings
        if one.shape.deed == "adds" and module.goes(one.call, "upgrade")
    }
    own = _Own(created_by(module), added)
    calls = [call for call in module.calls if not module.recorded(call)]
    found = [finding for call in calls for finding in _of_call(module, call, own)]
    yield from found
    # Changed attributes of objects leave no other trace.
    written = [call for call in calls if writes_objects(module, call)]
    if written and not any(one.code in ("FIX201", "FIX202") for one in found):
        yield module.finding(
            "FIX202", written[0], f"session.{attribute(written[0])}() writes changed objects without a fix."
        )


def _of_call(module: Module, call: ast.Call, own: _Own) -> Iterator[Finding]:
    name = attribute(call)
    if name == "bulk_insert":
        yield from _findings(module, call, "FIX202", own, [bulk_insert_change(module, call)])
    elif (statement := statement_of(call)) is not None:
        changes = [change for text in texts_of(module, statement) for change in changes_in(text.value)]
        if changes:
            yield from _findings(module, call, "FIX201", own, changes)
        elif (change := statement_change(module, statement)) is not None:
            yield from _findings(module, call, "FIX202", own, [change])
        elif _from_file(module, statement):
            yield module.finding("FIX205", call, "The SQL that this executes is in another file.")
    elif doing := session_change(module, call):
        yield module.finding("FIX202", call, f"{doing} changes rows without a fix.")


def _findings(
    module: Module, call: ast.Call, code: str, own: _Own, changes: list[Change]
) -> Iterator[Finding]:
    changes = [one for one in changes if one.table not in own.tables]
    losing = [one for one in changes if not own.lose_nothing(one)]
    if losing:
        yield module.finding(code, call, f"{_listed(losing)} without a fix.")
    elif changes:
        columns = sorted({column for one in changes for column in one.columns})
        message = f"{changes[0].words} fills {', '.join(columns)}, which this revision adds."
        yield module.finding("FIX203", call, message)


def _listed(changes: list[Change]) -> str:
    listed = list(dict.fromkeys(one.words for one in changes))
    if len(listed) == 1:
        return f"{listed[0]} changes rows"
    if len(listed) > _SHOWN:
        return f"{', '.join(listed[:_SHOWN])} and {len(listed) - _SHOWN} more change rows"
    return f"{', '.join(listed[:-1])} and {listed[-1]} change rows"


def _from_file(module: Module, node: ast.expr) -> bool:
    """Whether a statement is read from a file, directly or within ``sa.text()``."""
    for value in values_of(module, node):
        if not isinstance(value, ast.Call):
            continue
        if attribute(value) in ("read", "read_text"):
            return True
        if attribute(value) in ("text", "DDL") and value.args:
            inner = values_of(module, value.args[0])
            if any(attribute(one) in ("read", "read_text") for one in inner):
                return True
    return False
