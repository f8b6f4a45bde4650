"""SQLAlchemy statements and sessions that change rows."""

import ast
from dataclasses import dataclass

from datafixes.check.following import strings_of, values_of
from datafixes.check.module import Module, argument, attribute
from datafixes.check.sql_reading import Change

_VERBS = {"insert": "INSERT INTO", "update": "UPDATE", "delete": "DELETE FROM"}
_OF_SESSION = {
    "add": "add()", "add_all": "add_all()", "bulk_insert_mappings": "bulk_insert_mappings()", "merge": "merge()",
    "bulk_save_objects": "bulk_save_objects()", "bulk_update_mappings": "bulk_update_mappings()", "delete": "delete()",
}  # fmt: skip
_LONGEST = 50


@dataclass(frozen=True)
class _Link:
    """One call of a chain such as ``table.update().where(...).values(...)``."""

    call: ast.Call
    name: str


def statement_change(module: Module, node: ast.expr) -> Change | None:
    """The change of a SQLAlchemy statement, or None."""
    for value in values_of(module, node):
        chain = _chain(module, value)
        for link in chain:
            if link.name not in _VERBS:
                continue
            if isinstance(link.call.func, ast.Name) and not _of_sqlalchemy(module, link.call):
                continue
            of = link.call.func.value if isinstance(link.call.func, ast.Attribute) else None
            table = argument(link.call, 0, "table") if of is None or _of_sqlalchemy(module, link.call) else of
            columns = _columns(module, chain) if link.name == "update" else frozenset()
            return Change(_VERBS[link.name], _table(module, table), columns)
    return None


def bulk_insert_change(module: Module, call: ast.Call) -> Change:
    """The change of ``op.bulk_insert(table, rows)``."""
    return Change("INSERT INTO", _table(module, argument(call, 0, "table")))


def session_change(module: Module, call: ast.Call) -> str:
    """How a call of a session or of its query changes rows, in a word; empty if it does not."""
    if not isinstance(call.func, ast.Attribute):
        return ""
    name, holder = call.func.attr, call.func.value
    if name in _OF_SESSION and _is_session(module, holder):
        return f"session.{_OF_SESSION[name]}"
    if name in ("update", "delete") and any(
        link.name == "query" for value in values_of(module, holder) for link in _chain(module, value)
    ):
        return f"query.{name}()"
    return ""


def writes_objects(module: Module, call: ast.Call) -> bool:
    """Whether a call writes the changed objects of a session."""
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr in ("commit", "flush")
        and _is_session(module, call.func.value)
    )


def _chain(module: Module, node: ast.expr) -> list[_Link]:
    """The calls of a chain, from its end to its beginning, through the names that hold parts of it."""
    found: list[_Link] = []
    seen: set[ast.expr] = set()
    while node not in seen and len(found) < _LONGEST:
        seen.add(node)
        if isinstance(node, ast.Call):
            known = module.dotted(node.func) if isinstance(node.func, ast.Name) else ""
            found.append(_Link(node, known.rpartition(".")[2] or attribute(node)))
            node = node.func
        elif isinstance(node, ast.Attribute):
            node = node.value
        elif isinstance(node, ast.Name):
            node = next((one for one in values_of(module, node) if one not in seen), node)
    return found


def _of_sqlalchemy(module: Module, call: ast.Call) -> bool:
    return module.dotted(call.func).startswith("sqlalchemy")


def _columns(module: Module, chain: list[_Link]) -> frozenset[str]:
    """The columns that ``values(...)`` sets; an empty name for an unknown column."""
    found: set[str] = set()
    for link in chain:
        if link.name != "values":
            continue
        found |= {keyword.arg or "" for keyword in link.call.keywords}
        for given in link.call.args:
            for one in values_of(module, given):
                if isinstance(one, ast.Dict):
                    found |= {_column(module, key) for key in one.keys}
                else:
                    found.add("")
    return frozenset(found or {""})


def _column(module: Module, key: ast.expr | None) -> str:
    if isinstance(key, ast.Attribute):
        return key.attr
    names = strings_of(module, key)
    return names[0] if len(names) == 1 else ""


def _table(module: Module, node: ast.expr | None) -> tuple[str, str]:
    """The table of ``sa.table("orders", ...)``, or else the name of the expression, usually a model."""
    if node is None:
        return "", ""
    for value in values_of(module, node):
        if isinstance(value, ast.Call) and attribute(value) in ("table", "Table", "create_table"):
            names = strings_of(module, argument(value, 0, "name"))
            schemas = strings_of(module, argument(value, None, "schema"))
            if names:
                return (schemas[0] if schemas else "public"), names[0]
    if isinstance(node, ast.Attribute):
        return "", node.value.id if node.attr == "__table__" and isinstance(
            node.value, ast.Name
        ) else node.attr
    return "", node.id if isinstance(node, ast.Name) else ""


def _is_session(module: Module, node: ast.expr) -> bool:
    last = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    if last.lower().endswith("session"):
        return True
    return any(
        isinstance(one, ast.Call) and attribute(one).endswith("Session") for one in values_of(module, node)
    )
