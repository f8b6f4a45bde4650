"""Changes of tables' definitions by a revision, through Alembic's operations and SQL."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from datafixes.check.following import strings_of, values_of
from datafixes.check.module import Function, Module, argument, parameters
from datafixes.check.sql_deeds import Shape, ShapeDeed, Table
from datafixes.check.sql_shape import mapping_in
from datafixes.check.sql_statements import deeds_of
from datafixes.check.texts import texts_of

_EXECUTING = (
    "exec", "exec_driver_sql", "execute", "executemany", "execute_batch", "execute_values", "scalar", "scalars",
)  # fmt: skip
_COPYING = ("copy", "copy_expert")
_OPERATIONS = ("add_column", "alter_column", "create_table", "drop_column", "drop_table", "rename_table")


@dataclass(frozen=True)
class Shaping:
    """A change of a table's definition, and its call."""

    shape: Shape
    call: ast.Call


def shapings_of(module: Module) -> list[Shaping]:
    """Every change of a table's definition, of upgrade and downgrade."""
    return [Shaping(shape, call) for call in module.calls for shape in shapes_by(module, call)]


def statement_of(module: Module, call: ast.Call) -> ast.expr | None:
    """The statement that a call executes, if any."""
    name = _method(module, call)
    if name in ("execute_batch", "execute_values"):
        return argument(call, 1, "sql")
    if isinstance(call.func, ast.Name) and call.func.id == "exec":
        return None  # Python's own
    if name not in (*_EXECUTING, *_COPYING) or (
        isinstance(call.func, ast.Name) and call.func.id in module.functions
    ):
        return None
    given = (
        argument(call, 0, keyword) for keyword in ("sqltext", "statement", "clauseelement", "query", "sql")
    )
    return next((one for one in given if one is not None), None)


def _method(module: Module, call: ast.Call) -> str:
    """The name of a called method, also of one that a function gets as an argument."""
    if not isinstance(call.func, ast.Name):
        return module.called(call)
    scope = module.scope(call)
    if isinstance(scope, Function) and call.func.id in parameters(scope):
        given = [one.attr for one in values_of(module, call.func) if isinstance(one, ast.Attribute)]
        return given[0] if given else call.func.id
    return module.called(call)


def is_copying(module: Module, call: ast.Call) -> bool:
    """Whether a call may be a driver's COPY; other things can be copied, too."""
    return module.called(call) in _COPYING


def table_named(module: Module, call: ast.Call, place: int, keyword: str = "table_name") -> Table:
    """The table of an operation; its name is empty if the file does not show it."""
    names = strings_of(module, argument(call, place, keyword))
    schemas = strings_of(module, argument(call, None, "schema"))
    return (schemas[0] if schemas else "public"), (names[0] if len(names) == 1 else "")


def shapes_by(module: Module, call: ast.Call) -> Iterator[Shape]:
    """The changes of tables' definitions by a call."""
    name = module.called(call)
    if name in _EXECUTING:
        for text in texts_of(module, statement_of(module, call)):
            yield from (deed for deed in deeds_of(text.value) if isinstance(deed, Shape))
        return
    if name in _OPERATIONS:
        yield from _shapes_of_operation(module, call, name)


def _shapes_of_operation(module: Module, call: ast.Call, name: str) -> Iterator[Shape]:
    batch = _batch(module, call)
    table = batch or table_named(
        module, call, 0, "old_table_name" if name == "rename_table" else "table_name"
    )
    place = 0 if batch else 1
    if name == "create_table":
        yield Shape("creates", table)
    elif name == "drop_table":
        yield Shape("drops", table, if_exists=argument(call, None, "if_exists") is not None)
    elif name == "rename_table":
        yield Shape(
            "renames", table, now=next(iter(strings_of(module, argument(call, 1, "new_table_name"))), "")
        )
    elif name == "add_column":
        for column in _columns(module, argument(call, place, "column")):
            yield Shape("adds", table, column)
    else:
        for column in strings_of(module, argument(call, place, "column_name")):
            if name == "drop_column":
                yield Shape("drops", table, column)
            else:
                yield from _altered(module, call, table, column)


def _altered(module: Module, call: ast.Call, table: Table, column: str) -> Iterator[Shape]:
    deeds: list[tuple[str, ShapeDeed]] = [("type_", "retypes"), ("new_column_name", "renames")]
    now = next(iter(strings_of(module, argument(call, None, "new_column_name"))), "")
    using = [mapping_in(text.value) for text in texts_of(module, argument(call, None, "postgresql_using"))]
    for keyword, deed in deeds:
        if argument(call, None, keyword) is not None:
            if deed == "renames":
                yield Shape(deed, table, column, now)
            else:
                yield Shape(deed, table, column, mapping=next(filter(None, using), ""))


def _columns(module: Module, node: ast.expr | None) -> list[str]:
    """The names in ``sa.Column("name", ...)``."""
    calls = [one for one in values_of(module, node) if isinstance(one, ast.Call)] if node is not None else []
    return [name for one in calls for name in strings_of(module, argument(one, 0, "name"))]


def _batch(module: Module, call: ast.Call) -> Table | None:
    """The table of ``with op.batch_alter_table("orders") as batch:``, if an operation is part of a batch."""
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return None
    given = values_of(module, call.func.value)
    found = [one for one in given if isinstance(one, ast.Call) and module.called(one) == "batch_alter_table"]
    return table_named(module, found[0], 0) if found else None
