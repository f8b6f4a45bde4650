"""What a call does: to rows, to tables' definitions, or something that its file does not show."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from datafixes.check.constructs import bulk_insert_change, chain_of, statement_change
from datafixes.check.following import READING, Follower, values_of
from datafixes.check.imported import is_of_project
from datafixes.check.module import Module, attribute, attribute_name, shown
from datafixes.check.objects import object_deeds
from datafixes.check.op_shapes import is_copying, shapes_by, statement_of
from datafixes.check.sql_deeds import Change, Deed
from datafixes.check.sql_reading import UNKNOWN
from datafixes.check.sql_statements import deeds_of
from datafixes.check.texts import texts_of

_QUERYING = {
    "select", "query", "exists", "union", "union_all", "intersect", "except_", "nextval", "next_value",
}  # fmt: skip
_DEFINING = re.compile(r"(Create|Drop|Add|Set|Alter|Comment|Sequence|DDL)([A-Z]\w*)?|to_sql_statement_\w+")
_RUNNING = re.compile(r"execut|run_?sql|sql_?(file|script)|query", re.IGNORECASE)
_CONNECTING = {"get_bind", "connect", "connection", "cursor", "begin", "get_context", "session"}
_NAMED_CONNECTIONS = {"op", "bind", "conn", "connection", "session", "cursor", "engine"}
_HARMLESS = {
    "create_all",
    "drop_all",
    "create",
    "drop",
    "reflect",
    "inspect",
    "prepare",
    "from_engine",
    "has_table",
}
_MOST = 30


@dataclass(frozen=True)
class Unsure:
    """Something that the file does not show.

    Attributes:
        code: the code of its finding.
        message: the finding.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Done:
    """What a call does, and the code of a finding about it."""

    deed: Deed | Unsure
    code: str


def deeds_by(module: Module, call: ast.Call) -> Iterator[Done]:
    """What a call does, in its order."""
    name = module.called(call)
    if name == "bulk_insert":
        yield Done(bulk_insert_change(module, call), "FIX202")
    elif (statement := statement_of(module, call)) is not None:
        yield from _of_statement(module, call, statement)
    elif found := object_deeds(module, call):
        yield from (Done(one, "FIX202") for one in found)
    elif shapes := list(shapes_by(module, call)):
        yield from (Done(one, "") for one in shapes)
    else:
        yield from _of_foreign(module, call)


def _of_statement(module: Module, call: ast.Call, statement: ast.expr) -> Iterator[Done]:
    texts = [text.value for text in texts_of(module, statement)]
    deeds = [deed for text in texts for deed in deeds_of(text)]
    if deeds:
        given = _parameters(module, call, statement)
        yield from (Done(_with_parameters(one, given), "FIX201") for one in deeds)
    elif (change := statement_change(module, statement)) is not None:
        yield Done(change, "FIX202")
    elif is_copying(module, call) or any(text.replace(UNKNOWN, "").strip("; \n") for text in texts):
        return
    elif is_of_file(module, statement):
        yield Done(Unsure("FIX205", "The SQL that this executes is in another file."), "FIX205")
    elif not _is_query(module, statement):
        message = f"The SQL of {shown(statement)} is not in this file."
        yield Done(Unsure("FIX207", message), "FIX207")


def _parameters(module: Module, call: ast.Call, statement: ast.expr) -> dict[str, str]:
    """The parameters of a statement whose values are in this file."""
    follower = Follower(module)
    rows = [value for one in call.args[1:2] for value in follower.values(one)]
    rows += [value for row in rows for one in follower.elements(row, 1) for value in follower.values(one)]
    pairs = [
        (key.value, value)
        for row in rows
        if isinstance(row, ast.Dict)
        for key, value in zip(row.keys, row.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]
    for link in chain_of(module, statement):
        pairs += [(one.arg, one.value) for one in link.call.keywords if link.name == "bindparams" and one.arg]
    return {
        f":{name}": str(one.value)
        for name, value in pairs
        for one in values_of(module, value)
        if isinstance(one, ast.Constant)
    }


def _with_parameters(deed: Deed, given: dict[str, str]) -> Deed:
    """A change with the values of its parameters; if none of its values is known, its rows are not."""
    if not isinstance(deed, Change) or deed.cells is None:
        return deed
    cells = {
        (column, given.get(value, UNKNOWN) if value[:1] == ":" else value) for column, value in deed.cells
    }
    known = any(UNKNOWN not in value for _, value in cells)
    return replace(deed, cells=frozenset(cells) if known else None)


def is_of_file(module: Module, node: ast.expr) -> bool:
    """Whether a statement is read from a file."""
    follower = Follower(module)
    waiting, seen = [node], {attribute_name(node)}
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        values = list(follower.values(one))
        # The variable of a loop over a file, or over parts of its text.
        values += (
            [binding.value for binding in follower.bindings(one) if binding.element]
            if isinstance(one, ast.Name)
            else []
        )
        for part in (part for value in values for part in ast.walk(value)):
            if isinstance(part, ast.Call) and attribute(part) in READING:
                return True
            if isinstance(part, ast.Name) and part.id not in seen:
                seen.add(part.id)
                waiting.append(part)
    return False


def _is_query(module: Module, node: ast.expr) -> bool:
    """Whether a statement only reads, or only changes definitions."""
    values = values_of(module, node) or [node]
    for value in values:
        names = [one.name for one in chain_of(module, value)]
        if not names and not isinstance(value, ast.Compare | ast.BoolOp):
            return False
        if not any(name in _QUERYING or _DEFINING.fullmatch(name) for name in names):
            return False
    return True


def _of_foreign(module: Module, call: ast.Call) -> Iterator[Done]:
    """A function of another module: a statement that it gets is in this file, what it does with a connection is not."""
    origin = module.dotted(call.func)
    root = call.func
    while isinstance(root, ast.Attribute):
        root = root.value
    if (
        not isinstance(root, ast.Name)
        or root.id not in module.home(call).imports
        or not is_of_project(origin)
    ):
        return
    name = attribute_name(call.func)
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if _RUNNING.search(name):
        deeds = [deed for one in given for text in texts_of(module, one) for deed in deeds_of(text.value)]
        if any(isinstance(one, Change) for one in deeds):
            yield from (Done(one, "FIX201") for one in deeds)
            return
    if (
        name in _HARMLESS
        or name.endswith(("Session", "sessionmaker", "Type", "Enum"))
        or Follower(module).functions(call.func)
    ):
        return
    if any(_is_connection(module, one) for one in given):
        message = f"{shown(call.func)}() gets the connection, and its file is not there."
        yield Done(Unsure("FIX208", message), "FIX208")


def _is_connection(module: Module, node: ast.expr) -> bool:
    if isinstance(node, ast.Name) and node.id in _NAMED_CONNECTIONS:
        return True
    return any(isinstance(one, ast.Call) and attribute(one) in _CONNECTING for one in values_of(module, node))
