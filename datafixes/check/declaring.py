"""The fixes that a revision declares, and findings about incomplete declarations."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from datafixes.check.finding import Finding
from datafixes.check.following import Follower, strings_of, values_of
from datafixes.check.module import Module, argument, attribute
from datafixes.check.sql_deeds import Table
from datafixes.check.texts import texts_of
from datafixes.declaration.table import KINDS

_ABSURD = 1_000_000  # rows of one transaction, each of which is written twice more
_DEEPEST = 8
_COUNTING = ("count", "enumerate", "range")
_CLASSES = ("AtMost", "DataFix", "RecordedFix", "Rows", "Table", "Update", "Delete", "Insert", "sql")


@dataclass(frozen=True, eq=False)
class DeclaredFix:
    """A fix, as far as its declaration can be analysed.

    Attributes:
        call: the declaration.
        names: its name; empty if the file does not show it.
        tables: the tables whose rows it copies.
    """

    call: ast.Call
    names: tuple[str, ...]
    tables: tuple[Table, ...]

    @property
    def words(self) -> str:
        """Its name, for a sentence."""
        return f"The fix {self.names[0]}" if self.names else "This fix"


def class_of(module: Module, call: ast.Call) -> str:
    """The class of this library that a call creates; empty for any other call."""
    if not module.source.mentions_fixes:
        return ""
    first, _, rest = module.dotted(call.func).partition(".")
    last = rest.rpartition(".")[2]
    return last if first == "datafixes" and last in _CLASSES else ""


def fixes_of(module: Module) -> list[DeclaredFix]:
    """Every fix that a revision declares."""
    return [
        DeclaredFix(
            call, tuple(strings_of(module, argument(call, None, "name"))), tuple(_tables(module, call))
        )
        for call in module.calls
        if class_of(module, call) in ("DataFix", "RecordedFix")
    ]


def incomplete_fixes(module: Module, fixes: list[DeclaredFix]) -> Iterator[Finding]:
    """Findings about fixes without a reason or an expectation."""
    for fix in fixes:
        if any(keyword.arg is None for keyword in fix.call.keywords):
            continue  # **arguments: unknown
        reason = argument(fix.call, None, "reason")
        texts = texts_of(module, reason)
        if reason is None or (texts and all(text.whole and not text.value.strip() for text in texts)):
            yield module.finding("FIX301", reason or fix.call, f"{fix.words} has no reason.")
        if class_of(module, fix.call) == "DataFix":
            yield from _expectation_of_rows(module, fix)
        else:
            yield from _expectation_of_tables(module, fix)


def _expectation_of_rows(module: Module, fix: DeclaredFix) -> Iterator[Finding]:
    rows = argument(fix.call, None, "rows")
    message = f"{fix.words} does not say which rows it expects."
    if rows is None:
        yield module.finding("FIX302", fix.call, message)
        return
    for one in created(module, rows, "Rows"):
        expect = argument(one, None, "expect")
        known = any(keyword.arg is None for keyword in one.keywords)
        if (expect is None and not known) or (expect is not None and _is_nothing(module, expect)):
            yield module.finding("FIX302", expect or one, message)


def _expectation_of_tables(module: Module, fix: DeclaredFix) -> Iterator[Finding]:
    tables = argument(fix.call, None, "tables")
    message = f"{fix.words} does not say how many rows it expects."
    if tables is None:
        yield module.finding("FIX302", fix.call, message)
        return
    made = _tables_made(module, tables)
    if made is None or any(keyword.arg is None for one in made for keyword in one.keywords):
        return
    counts = [argument(one, place, kind) for one in made for place, kind in enumerate(KINDS, 4)]
    if all(count is None or _is_nothing(module, count) for count in counts):
        yield module.finding("FIX302", fix.call, message)


def bounds_without_limit(module: Module) -> Iterator[Finding]:
    """Findings about bounds and tolerances that any number of rows would meet."""
    places = {"AtMost": (0, "rows"), "Rows": (None, "tolerance"), "Table": (7, "tolerance")}
    for call in [] if any(is_batched(module, one) for one in module.calls) else module.calls:
        place, name = places.get(class_of(module, call), (None, ""))
        given = argument(call, place, name) if name else None
        largest = max(_numbers(module, given), default=0) if given is not None else 0
        if given is not None and largest > _ABSURD:
            told = f"{'AtMost' if name == 'rows' else name} is {ast.unparse(given)[:40]}: it limits nothing."
            yield module.finding("FIX306", given, told)


def _numbers(module: Module, node: ast.expr, depth: int = 0) -> Iterator[int]:
    """The whole numbers that an expression may stand for, as far as they can be computed."""
    for one in values_of(module, node) if depth < _DEEPEST else []:
        match one:
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                yield number
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                yield from (-number for number in _numbers(module, operand, depth + 1))
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Pow() as op, right=right):
                for a in _numbers(module, left, depth + 1):
                    yield from (_computed(a, op, b) for b in _numbers(module, right, depth + 1))
            case ast.Attribute() if module.dotted(one) == "sys.maxsize":
                yield sys.maxsize


def _computed(a: int, op: ast.operator, b: int) -> int:
    if isinstance(op, ast.Pow):  # a file may ask for a number that would take for ever
        return a**b if 0 <= b <= 64 and abs(a) <= _ABSURD else _ABSURD + 1
    return a * b if isinstance(op, ast.Mult) else a + b if isinstance(op, ast.Add) else a - b


def numbers_brought(module: Module, fixes: list[DeclaredFix]) -> Iterator[Finding]:
    """Findings about inserts that choose the numbers of their keys."""
    for fix in fixes:
        change, rows = argument(fix.call, None, "change"), argument(fix.call, None, "rows")
        if change is None or rows is None:
            continue
        keys = {name for one in created(module, rows, "Rows") for name in _keys(module, one)}
        for insert in created(module, change, "Insert"):
            found = [
                name for name, value in _cells(module, insert) if name in keys and _is_number(module, value)
            ]
            if found:
                message = (
                    f"{fix.words} inserts its own {found[0]}: a sequence for that column would not know."
                )
                yield module.finding("FIX409", insert, message)


def _keys(module: Module, rows: ast.Call) -> list[str]:
    key = argument(rows, None, "key")
    parts = [] if key is None else values_of(module, key)
    names = [
        one for part in parts for one in (part.elts if isinstance(part, ast.List | ast.Tuple) else [part])
    ]
    return [name for one in names for name in strings_of(module, one)]


def _cells(module: Module, insert: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Column and value of each row that can be analysed."""
    rows = argument(insert, 1, "rows")
    for given in [] if rows is None else values_of(module, rows):
        if isinstance(given, ast.ListComp | ast.GeneratorExp):
            made = [given.elt]
        else:
            made = given.elts if isinstance(given, ast.List | ast.Tuple) else []
        for row in (row for one in made for row in values_of(module, one) if isinstance(row, ast.Dict)):
            for key, value in zip(row.keys, row.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, value


def _is_number(module: Module, value: ast.expr) -> bool:
    """Whether a value is an integer, or computed from one."""
    match value:
        case ast.Constant(value=int() as number):
            return not isinstance(number, bool)
        case ast.UnaryOp(operand=operand):
            return _is_number(module, operand)
        case ast.BinOp(left=left, right=right):
            return _is_number(module, left) or _is_number(module, right)
        case ast.Name():
            bindings = Follower(module).bindings(value)
            if any(isinstance(one.value, ast.Call) and attribute(one.value) in _COUNTING for one in bindings):
                return True
    return any(one is not value and _is_number(module, one) for one in values_of(module, value))


def _is_nothing(module: Module, node: ast.expr) -> bool:
    """Whether an expectation names no rows: 0, None, an empty collection, or a bound that is no number from 1 on."""
    values = values_of(module, node)
    return bool(values) and all(
        (isinstance(one, ast.Constant) and one.value in (0, None, ""))
        or (isinstance(one, ast.List | ast.Tuple | ast.Set) and not one.elts)
        or (isinstance(one, ast.Dict) and not one.keys)
        or (isinstance(one, ast.Call) and class_of(module, one) == "AtMost" and not _may_limit(module, one))
        for one in values
    )


def _may_limit(module: Module, call: ast.Call) -> bool:
    """Whether the bound may be a number of rows, as far as the file shows it."""
    given = argument(call, 0, "rows")
    if given is None:
        return any(keyword.arg is None for keyword in call.keywords)
    values = values_of(module, given)
    known = all(isinstance(one, ast.Constant | ast.UnaryOp) for one in values)
    return not values or not known or any(number > 0 for number in _numbers(module, given))


def most_rows(module: Module, expect: ast.expr) -> int:
    """The largest number of rows that an expectation allows; 0 if it is not known, or limits nothing (FIX306)."""
    bounds = [argument(one, 0, "rows") for one in created(module, expect, "AtMost")]
    at_most = [number for one in bounds if one is not None for number in _numbers(module, one)]
    return max((*_numbers(module, expect), *(one for one in at_most if one <= _ABSURD)), default=0)


def is_batched(module: Module, call: ast.Call) -> bool:
    """Whether a call declares a fix in batches."""
    given = argument(call, None, "batches") if class_of(module, call) == "DataFix" else None
    return given is not None and not (isinstance(given, ast.Constant) and given.value is None)


def created(module: Module, node: ast.expr, *classes: str) -> list[ast.Call]:
    """The calls of classes of this library that an expression may stand for."""
    return [
        one
        for one in values_of(module, node)
        if isinstance(one, ast.Call) and class_of(module, one) in classes
    ]


def _tables_made(module: Module, node: ast.expr) -> list[ast.Call] | None:
    """The ``Table(...)`` of a list; None if it is not a list, or contains something else."""
    found: list[ast.Call] = []
    for value in values_of(module, node):
        if not isinstance(value, ast.List | ast.Tuple):
            return None
        for element in value.elts:
            made = created(module, element, "Table")
            if not made:
                return None
            found += made
    return found


def _tables(module: Module, fix: ast.Call) -> Iterator[Table]:
    """The tables whose rows a fix copies, as far as the file shows their names."""
    change, tables = argument(fix, None, "change"), argument(fix, None, "tables")
    made = [] if change is None else created(module, change, "Update", "Delete", "Insert")
    made += (tables is not None and _tables_made(module, tables)) or []
    places = {"Update": 3, "Delete": 2, "Insert": 2, "Table": 2}
    for one in made:
        schemas = strings_of(module, argument(one, places[class_of(module, one)], "schema"))
        for name in strings_of(module, argument(one, 0, "table")):
            yield (schemas[0] if schemas else "public"), name
