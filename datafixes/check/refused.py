"""Declarations that are refused when their file is loaded: found by making them, from what the file shows."""

import ast
import datetime as dt
import decimal
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from datafixes.check.declaring import DeclaredFix, class_of
from datafixes.check.finding import Finding
from datafixes.check.module import Module
from datafixes.declaration.expressions import sql
from datafixes.declaration.fix import DataFix, Delete, Insert, Update
from datafixes.declaration.recorded import RecordedFix
from datafixes.declaration.rows import AtMost, Rows
from datafixes.declaration.table import Table
from datafixes.errors import DeclarationError

_CLASSES: dict[str, Any] = {
    "AtMost": AtMost, "DataFix": DataFix, "Delete": Delete, "Insert": Insert, "RecordedFix": RecordedFix,
    "Rows": Rows, "Table": Table, "Update": Update, "sql": sql,
}  # fmt: skip
_KNOWN: dict[str, Any] = {
    "datetime.date": dt.date, "datetime.datetime": dt.datetime, "datetime.time": dt.time,
    "datetime.timedelta": dt.timedelta,
    "datetime.UTC": dt.UTC, "datetime.timezone.utc": dt.UTC, "decimal.Decimal": decimal.Decimal, "uuid.UUID": uuid.UUID,
}  # fmt: skip
# These say the same of the same declaration, and what to do.
_SAID_ALREADY = ("FIX301", "FIX302", "FIX306", "FIX401")


class _Unknown(Exception):
    """The file does not show the value."""


class _Refused(Exception):
    """A call fails."""

    def __init__(self, call: ast.Call, words: str) -> None:
        super().__init__(words)
        self.call = call


def refused_declarations(
    module: Module, fixes: Sequence[DeclaredFix], found: Sequence[Finding]
) -> Iterator[Finding]:
    """Findings about declarations whose values or arguments are refused.

    Args:
        module: the revision.
        fixes: its fixes.
        found: the findings so far.
    """
    for fix in fixes:
        lines = range(fix.call.lineno, (fix.call.end_lineno or fix.call.lineno) + 1)
        if any(one.code in _SAID_ALREADY and one.line in lines for one in found):
            continue
        for call in (
            one for one in ast.walk(fix.call) if isinstance(one, ast.Call) and class_of(module, one)
        ):
            try:
                _value(module, call)
            except _Refused as refused:
                if refused.call is call:
                    yield module.finding("FIX307", call, f"{fix.words} is refused: {refused}")
            except _Unknown:
                continue


def _value(module: Module, node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List() | ast.Tuple():
            values = [_value(module, one) for one in node.elts]
            return values if isinstance(node, ast.List) else tuple(values)
        case ast.Dict():
            if None in node.keys:
                raise _Unknown
            return {
                _value(module, k): _value(module, v) for k, v in zip(node.keys, node.values, strict=True) if k
            }
        case ast.Call():
            return _made(module, node)
        case ast.Attribute() | ast.Name() if module.dotted(node) in _KNOWN:
            return _KNOWN[module.dotted(node)]
    raise _Unknown


def _made(module: Module, call: ast.Call) -> Any:
    name = class_of(module, call)
    made = _CLASSES.get(name) or _KNOWN.get(module.dotted(call.func))
    if made is None or any(word.arg is None for word in call.keywords):
        raise _Unknown
    arguments = [_value(module, one) for one in call.args]
    named = {word.arg: _value(module, word.value) for word in call.keywords if word.arg}
    try:
        return made(*arguments, **named)
    except DeclarationError as error:
        raise _Refused(call, error.one_line()) from None
    except (TypeError, ValueError, ArithmeticError) as error:
        if not name:
            raise _Unknown from None
        raise _Refused(call, f"{str(error).replace('__init__', '').replace('.(', '(')}.") from None
