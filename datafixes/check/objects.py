"""Changes of rows through objects: sessions, models, data frames, and what a driver copies."""

import ast
from collections.abc import Iterator

from datafixes.check.constructs import (
    VERBS,
    cells_of,
    chain_of,
    columns_of,
    conditions_of,
    statement_change,
    table_of,
)
from datafixes.check.following import Follower, strings_of, values_of
from datafixes.check.module import Function, Module, argument, attribute, attribute_name, shown
from datafixes.check.sql_deeds import Change, Deed, Shape, Table

_ADDING = ("add", "add_all", "bulk_save_objects")
_OF_SESSION = (*_ADDING, "bulk_insert_mappings", "bulk_update_mappings", "delete", "merge")
_OF_MODEL = {
    "create": "INSERT INTO", "get_or_create": "INSERT INTO", "bulk_create": "INSERT INTO", "bulk_update": "UPDATE",
    "save": "save()", "delete_instance": "delete_instance()",
}  # fmt: skip
_SCOPES = ("begin", "begin_nested")
_DEEPEST = 5


def object_deeds(module: Module, call: ast.Call) -> list[Deed]:
    """What a call of a method does to rows; nothing if it is not known to change any."""
    if not isinstance(call.func, ast.Attribute):
        return []
    name, holder = call.func.attr, call.func.value
    if name in _OF_SESSION and is_session(module, holder):
        return [_of_session(module, call, name)]
    if name in ("update", "delete") and (found := _of_query(module, call, name, holder)) is not None:
        return [found]
    if name == "execute" and not call.args and not call.keywords:
        # Parcel.update(...).execute(), and not service.files().delete(...).execute() of some other library.
        links = [one.call.func for one in chain_of(module, holder)[-1:]]
        named = [
            one for one in links if isinstance(one, ast.Attribute) and not isinstance(one.value, ast.Call)
        ]
        change = statement_change(module, holder) if named and attribute_name(named[0]) in VERBS else None
        return [] if change is None else [change]
    if name in ("to_sql", "write_database"):
        return list(_of_frame(module, call))
    if name in ("copy_from", "copy_records_to_table", "copy_to_table"):
        place, keyword = (1, "table") if name == "copy_from" else (0, "table_name")
        names = strings_of(module, argument(call, place, keyword))
        return [Change("COPY", ("public", names[0]))] if names or name != "copy_from" else []
    if name in _OF_MODEL and any(one.startswith(("peewee", "playhouse")) for one in module.imports.values()):
        of_class = "create" in name or name == "bulk_update"
        return [Change(_OF_MODEL[name], table_of(module, holder) if of_class else ("", ""))]
    return []


def _of_session(module: Module, call: ast.Call, name: str) -> Change:
    given = argument(call, 0, "instance")
    verb = f"session.{name}()"
    if given is None:
        return Change(verb)
    if name in ("bulk_insert_mappings", "bulk_update_mappings"):
        rows = argument(call, 1, "mappings")
        inserted = cells_of(module, [rows]) if rows is not None and name == "bulk_insert_mappings" else None
        return Change(f"{verb} of", table_of(module, given), cells=inserted)
    follower = Follower(module)
    objects = [given] if name in ("add", "delete", "merge") else list(follower.elements(given, 0))
    made = [one for node in objects for one in follower.values(node) if isinstance(one, ast.Call)]
    made = [one for one in made if attribute(one)[:1].isupper()]
    if name not in _ADDING or not made:
        return Change(verb)
    rows_made: list[ast.expr] = [
        ast.Dict(
            [ast.Constant(k.arg) for k in one.keywords if k.arg], [k.value for k in one.keywords if k.arg]
        )
        for one in made
    ]
    return Change(f"{verb} of", table_of(module, made[0].func), cells=cells_of(module, rows_made))


def _of_query(module: Module, call: ast.Call, name: str, holder: ast.expr) -> Change | None:
    for value in values_of(module, holder):
        chain = chain_of(module, value)
        for link in chain:
            if link.name == "query":
                limits = [one for each in chain if each.name in ("filter", "where") for one in each.call.args]
                cells = conditions_of(module, limits) if name == "delete" else None
                columns = columns_of(module, call.args[:1]) if name == "update" else set()
                return Change(f"query.{name}() of", table_of(module, argument(link.call, 0, "entity")),
                              frozenset(columns), cells)  # fmt: skip
        if any(isinstance(one, ast.Attribute) and one.attr == "query" for one in ast.walk(value)):
            return Change(f"query.{name}()")
    return None


def _of_frame(module: Module, call: ast.Call) -> Iterator[Deed]:
    """pandas' to_sql() and polars' write_database(): by default, they create the table."""
    names = strings_of(module, argument(call, 0, "name" if attribute(call) == "to_sql" else "table_name"))
    schemas = strings_of(module, argument(call, None, "schema"))
    table: Table = (schemas[0] if schemas else "public"), (names[0] if names else "")
    mode = argument(call, None, "if_exists") or argument(call, None, "if_table_exists")
    modes = strings_of(module, mode) if mode is not None else ["fail"]
    if modes == ["fail"]:
        yield Shape("creates", table)
    else:
        yield Change("DROP and INSERT INTO" if modes == ["replace"] else "INSERT INTO", table)


def writes_objects(module: Module, call: ast.Call) -> str:
    """How a call writes the changed objects of a session, in words; empty if it does not."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("commit", "flush"):
        return f"session.{call.func.attr}() writes" if is_session(module, call.func.value) else ""
    item = module.parents.get(call)
    if not isinstance(item, ast.withitem) or not _commits(module, call):
        return ""
    return f"{shown(call.func)}() writes" if attributes_set(module, module.parents[item]) else ""


def _commits(module: Module, call: ast.Call) -> bool:
    """Whether ``with call:`` commits a session at its end."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in _SCOPES:
        return is_session(module, call.func.value)
    # Session() only closes at its end.
    return _is_scope(attribute(call).lower())


def attributes_set(module: Module, node: ast.AST) -> dict[str, ast.AST]:
    """The attributes of objects that are set inside of a node, by their names."""
    return {
        target.attr: target
        for one in ast.walk(node)
        if isinstance(one, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for target in (one.targets if isinstance(one, ast.Assign) else [one.target])
        if isinstance(target, ast.Attribute)
        and attribute_name(target.value) not in ("self", "cls", "context", "op")
    }


def is_session(module: Module, node: ast.expr, depth: int = 0) -> bool:
    """Whether an expression is a session."""
    if attribute_name(node).lower().endswith("session"):
        return True
    calls = [one for one in (node, *values_of(module, node)) if isinstance(one, ast.Call)]
    return depth < _DEEPEST and any(_makes_session(module, one, depth + 1) for one in calls)


def _makes_session(module: Module, call: ast.Call, depth: int) -> bool:
    name = attribute(call).lower()
    if name in _SCOPES and isinstance(call.func, ast.Attribute):
        return is_session(module, call.func.value, depth)
    if name.endswith(("session", "sessionlocal", "sessionmaker")) or _is_scope(name):
        return True
    # sessionmaker(...)(), and the same through a name.
    maker = [call.func] if isinstance(call.func, ast.Call) else values_of(module, call.func)
    return any(isinstance(one, ast.Call) and attribute(one) == "sessionmaker" for one in maker)


def _is_scope(name: str) -> bool:
    """Whether a function such as session_scope() makes a session, and commits it at its end."""
    return "session" in name and name.endswith(("scope", "context", "transaction", "manager"))


def function_around(module: Module, node: ast.AST) -> ast.AST:
    """The function in which a node runs, or the file."""
    return next((one for one in module.around(node) if isinstance(one, Function)), module.source.tree)
