"""SQLAlchemy's statements, and peewee's, that change rows; the tables that models stand for."""

import ast
from dataclasses import dataclass

from datafixes.check.following import Follower, strings_of, values_of
from datafixes.check.imported import class_named, imported_class
from datafixes.check.module import Module, argument, attribute, attribute_name
from datafixes.check.sql_deeds import Cells, Change, Table

VERBS = {
    "insert": "INSERT INTO", "insert_many": "INSERT INTO", "insert_from": "INSERT INTO", "replace_many": "INSERT INTO",
    "update": "UPDATE", "delete": "DELETE FROM",
}  # fmt: skip
"""What the methods of tables and models begin."""

_OVERWRITING = ("on_conflict_do_update", "on_conflict", "on_conflict_replace", "from_select", "replace_many")
_LONGEST = 50


@dataclass(frozen=True)
class Link:
    """One call of a chain such as ``table.update().where(...).values(...)``."""

    call: ast.Call
    name: str


def statement_change(module: Module, node: ast.expr) -> Change | None:
    """The change of a statement that is an expression, or None."""
    for value in values_of(module, node):
        chain = chain_of(module, value)
        for link in chain:
            if link.name not in VERBS:
                continue
            if isinstance(link.call.func, ast.Name) and not _of_sqlalchemy(module, link.call):
                continue
            of = link.call.func.value if isinstance(link.call.func, ast.Attribute) else None
            table = argument(link.call, 0, "table") if of is None or _of_sqlalchemy(module, link.call) else of
            return _change(module, link, table, chain)
    return None


def _change(module: Module, link: Link, table: ast.expr | None, chain: list[Link]) -> Change:
    name, verb = table_of(module, table), VERBS[link.name]
    if verb == "UPDATE":
        return Change(verb, name, _columns(module, link, chain))
    names = {one.name for one in chain}
    if verb == "DELETE FROM":
        conditions = [
            given for one in chain if one.name in ("where", "filter", "filter_by") for given in one.call.args
        ]
        return Change(verb, name, cells=conditions_of(module, conditions))
    if names & set(_OVERWRITING) or link.name == "insert_from":
        return Change(verb, name)
    rows = [one.call for one in chain if one.name == "values" or one is link]
    return Change(verb, name, cells=cells_of(module, [given for call in rows for given in _row_of(call)]))


def _row_of(call: ast.Call) -> list[ast.expr]:
    """The arguments of ``values()``; those by name as one mapping."""
    names = [one for one in call.keywords if one.arg is not None]
    by_name = ast.Dict([ast.Constant(one.arg) for one in names], [one.value for one in names])
    return [*call.args, by_name]


def bulk_insert_change(module: Module, call: ast.Call) -> Change:
    """The change of ``op.bulk_insert(table, rows)``."""
    rows = argument(call, 1, "rows")
    cells = None if rows is None else cells_of(module, [rows])
    return Change("INSERT INTO", table_of(module, argument(call, 0, "table")), cells=cells)


def cells_of(module: Module, given: list[ast.expr]) -> Cells | None:
    """The literal values of rows; None if the file contains none of them."""
    follower = Follower(module)
    rows = [value for one in given for value in follower.values(one)]
    rows += [value for row in rows for one in follower.elements(row, 1) for value in follower.values(one)]
    found = {
        (key.value, str(value.value))
        for row in rows
        if isinstance(row, ast.Dict)
        for key, value in zip(row.keys, row.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and isinstance(value, ast.Constant)
    }
    return frozenset(found) or None


def conditions_of(module: Module, conditions: list[ast.expr]) -> Cells | None:
    """The values to which conditions limit a statement; None if they are of another kind."""
    found: set[tuple[str, str]] = set()
    for one in conditions:
        match one:
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                values = values_of(module, right)
            case ast.Call(func=ast.Attribute(value=left, attr="in_"), args=[given]):
                follower = Follower(module)
                values = [value for each in follower.elements(given, 0) for value in follower.values(each)]
            case _:
                return None
        if not values or not all(isinstance(value, ast.Constant) for value in values):
            return None
        found |= {
            (column_of(module, left), str(value.value)) for value in values if isinstance(value, ast.Constant)
        }
    return frozenset(found) or None


def chain_of(module: Module, node: ast.expr) -> list[Link]:
    """The calls of a chain, from its end to its beginning, through the names that hold parts of it."""
    found: list[Link] = []
    seen: set[ast.expr] = set()
    while node not in seen and len(found) < _LONGEST:
        seen.add(node)
        if isinstance(node, ast.Call):
            known = module.dotted(node.func) if isinstance(node.func, ast.Name) else ""
            found.append(Link(node, known.rpartition(".")[2] or attribute(node)))
            node = node.func
        elif isinstance(node, ast.Attribute):
            node = node.value
        elif isinstance(node, ast.Name):
            node = next((one for one in values_of(module, node) if one not in seen), node)
    return found


def _of_sqlalchemy(module: Module, call: ast.Call) -> bool:
    return module.dotted(call.func).startswith(("sqlalchemy", "sqlmodel"))


def _columns(module: Module, update: Link, chain: list[Link]) -> frozenset[str]:
    """The columns that ``values(...)`` sets; an empty name for an unknown column."""
    found: set[str] = set()
    for link in chain:
        if link.name == "values" or (link is update and link.call.keywords):
            found |= {keyword.arg or "" for keyword in link.call.keywords}
            found |= columns_of(module, link.call.args if link.name == "values" else [])
    return frozenset(found or {""})


def columns_of(module: Module, given: list[ast.expr]) -> set[str]:
    """The columns that mappings set; an empty name for an unknown column."""
    found: set[str] = set()
    for one in (value for node in given for value in values_of(module, node)):
        found |= {column_of(module, key) for key in one.keys} if isinstance(one, ast.Dict) else {""}
    return found


def column_of(module: Module, key: ast.expr | None) -> str:
    """The column of ``orders.c.total``, or of its name."""
    if isinstance(key, ast.Attribute):
        return key.attr
    if isinstance(key, ast.Subscript):
        key = key.slice
    names = strings_of(module, key)
    return names[0] if len(names) == 1 else ""


def table_of(module: Module, node: ast.expr | None) -> Table:
    """The table of ``sa.table("orders", ...)`` or of a model; else the name of the expression, without a schema."""
    if node is None:
        return "", ""
    for value in (node, *values_of(module, node)):
        if isinstance(value, ast.Call) and attribute(value) in ("table", "Table", "create_table"):
            names = strings_of(module, argument(value, 0, "name"))
            schemas = strings_of(module, argument(value, None, "schema"))
            if names:
                return (schemas[0] if schemas else "public"), names[0]
        if isinstance(value, ast.Subscript) and attribute_name(value.value) == "tables":
            schema, _, name = next(iter(strings_of(module, value.slice)), "").rpartition(".")
            return schema or "public", name
    if isinstance(node, ast.Attribute) and node.attr == "__table__":
        return table_of(module, node.value)
    model = _class_of(module, node)
    if model is not None and (named := _named_by(module, model)) is not None:
        return named
    reflected = [one.attr for one in values_of(module, node) if isinstance(one, ast.Attribute)]
    return "", reflected[0] if reflected else (module.dotted(node).rpartition(".")[2] or attribute_name(node))


def _class_of(module: Module, node: ast.expr) -> ast.ClassDef | None:
    if isinstance(node, ast.Name) and (found := class_named(module.home(node), node.id)) is not None:
        return found
    return imported_class(module, node)


def _named_by(module: Module, model: ast.ClassDef) -> Table | None:
    """The table that a model names."""
    given = {
        target.id: one.value
        for one in model.body
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    names = strings_of(module, given.get("__tablename__"))
    if not names and isinstance(given.get("__table__"), ast.Call):
        return table_of(module, given["__table__"])
    if not names:
        return None
    schemas = [
        schema
        for node in ast.walk(given.get("__table_args__", ast.Constant(None)))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "schema"
        for schema in strings_of(module, value)
    ]
    return (schemas[0] if schemas else "public"), names[0]
