"""Risks in the SQL and the values of fixes."""

import ast
from collections.abc import Iterator

from datafixes.check.declaring import class_of
from datafixes.check.finding import Finding
from datafixes.check.following import values_of
from datafixes.check.module import Module, argument
from datafixes.check.op_shapes import statement_of
from datafixes.check.sql_hazards import hazards_of, hazards_of_expression
from datafixes.check.sql_statements import changes_in
from datafixes.check.texts import Text, texts_of
from datafixes.declaration.expressions import check_text, lacks_zone
from datafixes.errors import DeclarationError

# By class: the arguments that are one condition, with their positions, and the one that holds values.
_CONDITIONS: dict[str, tuple[tuple[str, int | None], ...]] = {
    "Update": (("where", 2),),
    "Delete": (("where", 1),),
    "Insert": (("where", 3),),
    "Rows": (("already", None), ("ensure", None)),
    "Table": (("ensure", 9),),
    "RecordedFix": (("ensure", None),),
    "sql": (("text", 0),),
}
_IDENTITIES: dict[str, int | None] = {"Rows": None, "Table": 8}

_NOW = ("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today")
_MOVING = ("os.urandom", "time.time", "time.time_ns", "uuid.uuid1", "uuid.uuid4")


def hazards_of_fixes(module: Module) -> Iterator[Finding]:
    """Findings about conditions, expressions and values of declarations, and about statements of recorded bodies."""
    for call in module.calls:
        kind = class_of(module, call)
        if kind:
            for node in _expressions(module, call, kind):
                yield from _of_expression(module, node)
            for value in _values(module, call, kind):
                yield from _of_value(module, value)
        elif module.recorded(call) and (statement := statement_of(module, call)) is not None:
            yield from _of_statement(module, call, statement)


def _expressions(module: Module, call: ast.Call, kind: str) -> Iterator[ast.expr]:
    for name, place in _CONDITIONS.get(kind, ()):
        if (given := argument(call, place, name)) is not None:
            yield given
    if kind in _IDENTITIES and (identity := argument(call, _IDENTITIES[kind], "identity")) is not None:
        for one in values_of(module, identity):
            if isinstance(one, ast.Dict):
                yield from one.values


def _of_expression(module: Module, node: ast.expr) -> Iterator[Finding]:
    for text in texts_of(module, node):
        if text.whole and (refusal := _refusal(text.value)):
            yield module.finding("FIX401", node, refusal)
        for code, message in _known(text, hazards_of_expression(text.value)):
            yield module.finding(code, node, message)


def _refusal(text: str) -> str:
    try:
        check_text("SQL", text)
    except DeclarationError as error:
        return error.one_line().partition(" Write ")[0]
    return ""


def _known(text: Text, hazards: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the finding that a text cannot be read, if the file does not show all of it."""
    return [(code, message) for code, message in hazards if text.whole or code != "FIX408"]


def _values(module: Module, call: ast.Call, kind: str) -> Iterator[ast.expr]:
    """The plain values that a fix writes."""
    if kind == "Update":
        yield from _values_of_mapping(module, argument(call, 1, "set"))
    elif kind == "Insert" and (rows := argument(call, 1, "rows")) is not None:
        for given in values_of(module, rows):
            if isinstance(given, ast.List | ast.Tuple):
                for row in given.elts:
                    yield from _values_of_mapping(module, row)


def _values_of_mapping(module: Module, node: ast.expr | None) -> Iterator[ast.expr]:
    for given in [] if node is None else values_of(module, node):
        if isinstance(given, ast.Dict):
            yield from given.values


def _of_value(module: Module, node: ast.expr) -> Iterator[Finding]:
    for value in values_of(module, node):
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and lacks_zone(value.value):
            yield module.finding("FIX402", node, f"The time '{value.value}' has no zone.")
        if not isinstance(value, ast.Call):
            continue
        name = module.dotted(value.func)
        if _is_moving(name):
            message = f"{ast.unparse(value.func)}() differs each time the file is loaded."
            yield module.finding("FIX405", node, message)
        elif _lacks_zone(name, value):
            yield module.finding("FIX402", node, f"The time {ast.unparse(value)[:60]} has no zone.")


def _is_moving(name: str) -> bool:
    return name.startswith(("random.", "secrets.")) or name in (*_NOW, *_MOVING)


def moving_values(module: Module) -> set[ast.expr]:
    """The functions whose calls are FIX405."""
    return {
        value.func
        for call in module.calls
        for node in _values(module, call, class_of(module, call))
        for value in values_of(module, node)
        if isinstance(value, ast.Call) and _is_moving(module.dotted(value.func))
    }


def _lacks_zone(name: str, call: ast.Call) -> bool:
    places = {"datetime.datetime": 8, "datetime.time": 5}
    if name in places:
        given = {keyword.arg for keyword in call.keywords}
        return not given & {"tzinfo", None} and len(call.args) < places[name]
    if name in ("datetime.datetime.fromisoformat", "datetime.time.fromisoformat") and call.args:
        text = call.args[0]
        return isinstance(text, ast.Constant) and lacks_zone(text.value)
    return False


def _of_statement(module: Module, call: ast.Call, statement: ast.expr) -> Iterator[Finding]:
    for text in texts_of(module, statement):
        for change in changes_in(text.value):
            if change.verb == "TRUNCATE":
                yield module.finding(
                    "FIX204", call, f"{change.words} leaves no rows to copy, so it is refused."
                )
        if not text.value.strip():
            continue
        for code, message in _known(text, hazards_of(text.value, times=True)):
            yield module.finding(code, call, message)
