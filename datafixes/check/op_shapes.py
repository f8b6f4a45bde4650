"""Changes of tables' definitions by a revision, through Alembic's operations and SQL."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from datafixes.check.following import strings_of, values_of
from datafixes.check.module import Module, argument, attribute
from datafixes.check.sql_reading import tables_created
from datafixes.check.sql_shape import Deed, Shape, shapes_in
from datafixes.check.texts import texts_of

Table = tuple[str, str]
"""A schema and a name."""

EXECUTING = ("exec_driver_sql", "execute", "executemany", "scalar", "scalars")
"""Functions with a statement as first argument."""


@dataclass(frozen=True)
class Shaping:
    """A change of a table's definition, and its call."""

    shape: Shape
    call: ast.Call


def shapings_of(module: Module) -> list[Shaping]:
    """Every change of a table's definition, of upgrade and downgrade."""
    return [Shaping(shape, call) for call in module.calls for shape in _shapes(module, call)]


def created_by(module: Module) -> set[Table]:
    """The tables that a revision creates itself, temporary ones too."""
    found = {table_named(module, call, 0) for call in module.calls_by_name.get("create_table", [])}
    for name in EXECUTING:
        for call in module.calls_by_name.get(name, []):
            for text in texts_of(module, statement_of(call)):
                found |= tables_created(text.value)
    return found - {("public", "")}


def statement_of(call: ast.Call) -> ast.expr | None:
    """The statement that a call executes, if any."""
    name = attribute(call)
    if name in ("execute_batch", "execute_values"):
        return argument(call, 1, "sql")
    if name not in EXECUTING or not isinstance(call.func, ast.Attribute):
        return None
    given = (
        argument(call, 0, keyword) for keyword in ("sqltext", "statement", "clauseelement", "query", "sql")
    )
    return next((one for one in given if one is not None), None)


def table_named(module: Module, call: ast.Call, place: int, keyword: str = "table_name") -> Table:
    """The table of an operation; its name is empty if the file does not show it."""
    names = strings_of(module, argument(call, place, keyword))
    schemas = strings_of(module, argument(call, None, "schema"))
    return (schemas[0] if schemas else "public"), (names[0] if len(names) == 1 else "")


def _shapes(module: Module, call: ast.Call) -> Iterator[Shape]:
    name = attribute(call)
    if name in EXECUTING:
        for text in texts_of(module, statement_of(call)):
            yield from shapes_in(text.value)
        return
    if name not in ("add_column", "alter_column", "drop_column", "drop_table", "rename_table"):
        return
    batch = _batch(module, call)
    table = batch or table_named(
        module, call, 0, "old_table_name" if name == "rename_table" else "table_name"
    )
    place = 0 if batch else 1
    if name == "drop_table":
        yield Shape("drops", table)
    elif name == "rename_table":
        yield Shape("renames", table)
    elif name == "add_column":
        for column in _columns(module, argument(call, place, "column")):
            yield Shape("adds", table, column)
    else:
        for column in strings_of(module, argument(call, place, "column_name")):
            yield from (Shape(deed, table, column) for deed in _deeds(call, name))


def _deeds(call: ast.Call, name: str) -> list[Deed]:
    if name == "drop_column":
        return ["drops"]
    deeds: list[tuple[str, Deed]] = [("type_", "retypes"), ("new_column_name", "renames")]
    return [deed for keyword, deed in deeds if argument(call, None, keyword) is not None]


def _columns(module: Module, node: ast.expr | None) -> list[str]:
    """The names in ``sa.Column("name", ...)``."""
    calls = [one for one in values_of(module, node) if isinstance(one, ast.Call)] if node is not None else []
    return [name for one in calls for name in strings_of(module, argument(one, 0, "name"))]


def _batch(module: Module, call: ast.Call) -> Table | None:
    """The table of ``with op.batch_alter_table("orders") as batch:``, if an operation is part of a batch."""
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return None
    given = values_of(module, call.func.value)
    found = [one for one in given if isinstance(one, ast.Call) and attribute(one) == "batch_alter_table"]
    return table_named(module, found[0], 0) if found else None
