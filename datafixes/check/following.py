"""The possible values of an expression, as far as the file shows them: names are followed to their assignments."""

import ast
import itertools
from collections.abc import Iterable, Iterator

from datafixes.check.binding import Binding
from datafixes.check.imported import class_named, imported_function, imported_values
from datafixes.check.module import Function, Module, argument, attribute, attribute_name, parameters

_DEEPEST, _MOST, _STEPS = 12, 40, 3_000

READING = ("get_data", "open", "read", "read_bytes", "read_text", "readline", "readlines")
"""Functions that return the content of a file, or the file."""

_SPLITTING = ("split", "splitlines", "rsplit")
_LISTING = ("chain", "iter", "list", "reversed", "set", "sorted", "tuple")


def values_of(module: Module, node: ast.expr) -> list[ast.expr]:
    """The expressions, other than names, that an expression may stand for."""
    return list(itertools.islice(Follower(module).values(node), _MOST))


def strings_of(module: Module, node: ast.expr | None) -> list[str]:
    """The plain texts that an expression may stand for."""
    values = [] if node is None else values_of(module, node)
    return [one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)]


class Follower:
    """Follows expressions for a limited number of steps: a file may lead in circles, or to very many places.

    Attributes:
        module: the file.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self._steps = _STEPS

    def may_go_on(self, depth: int) -> bool:
        """Take a step, if one is left."""
        self._steps -= 1
        return self._steps >= 0 and depth <= _DEEPEST

    def values(self, node: ast.expr, depth: int = 0) -> Iterator[ast.expr]:
        """The expressions, other than names, that an expression may stand for."""
        if not self.may_go_on(depth):
            return
        match node:
            case ast.Name():
                for binding in self.bindings(node):
                    yield from self._bound(binding, depth + 1)
            case ast.IfExp():
                yield from self._each([node.body, node.orelse], depth + 1)
            case ast.BoolOp():
                yield from self._each(node.values, depth + 1)
            case ast.NamedExpr() | ast.Await():
                yield from self.values(node.value, depth + 1)
            case ast.Subscript():
                yield from self._parts(node, depth + 1)
            case ast.Call() if functions := self.functions(node.func, depth + 1):
                yield from (one for function in functions for one in self._returned(function, depth + 1))
            case ast.Attribute() if values := self._attribute(node):
                yield from self._each(values, depth + 1)
            case _:
                yield node

    def _attribute(self, node: ast.Attribute) -> list[ast.expr]:
        """The values of an attribute of a class or of another module."""
        if node.attr == "value" and isinstance(node.value, ast.Attribute):
            return [node.value]  # of an enum
        home = self.module.home(node)
        if isinstance(node.value, ast.Name) and (found := class_named(home, node.value.id)) is not None:
            given = [one for one in found.body if isinstance(one, ast.Assign)]
            return [
                one.value
                for one in given
                if any(attribute_name(target) == node.attr for target in one.targets)
            ]
        return imported_values(self.module, node)

    def _each(self, nodes: Iterable[ast.expr], depth: int) -> Iterator[ast.expr]:
        for one in nodes:
            yield from self.values(one, depth)

    def elements(self, node: ast.expr, depth: int) -> Iterator[ast.expr]:
        """The possible elements of a loop over an expression."""
        for value in self.values(node, depth):
            match value:
                case ast.List() | ast.Tuple() | ast.Set():
                    for one in value.elts:
                        if isinstance(one, ast.Starred):
                            yield from self.elements(one.value, depth + 1)
                        else:
                            yield one
                case ast.Dict():
                    yield from (key for key in value.keys if key is not None)
                case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                    yield value.elt
                case ast.Call():
                    yield from self._called_elements(value, depth + 1)

    def _called_elements(self, call: ast.Call, depth: int) -> Iterator[ast.expr]:
        name = attribute(call)
        holder = call.func.value if isinstance(call.func, ast.Attribute) else None
        if holder is not None and name in ("items", "values"):
            yield from self._entries(holder, name, depth)
        elif name in _SPLITTING:
            # Each part of a text: the text itself contains all of them.
            inner = [
                one for one in (holder, *call.args) if one is not None and not isinstance(one, ast.Constant)
            ]
            yield from inner or ([] if holder is None else [holder])
        elif name in ("filter", "map") and len(call.args) > 1:
            yield from self.elements(call.args[1], depth)
        elif name == "enumerate" and call.args:
            for one in self.elements(call.args[0], depth):
                yield ast.Tuple([ast.Constant(None), one], ast.Load())
        elif name in _LISTING and call.args:
            yield from self.elements(call.args[0], depth)
        elif name in READING:
            yield call

    def bindings(self, node: ast.Name) -> list[Binding]:
        """The values that a name may have at a place."""
        for scope in self.module.around(node):
            if isinstance(scope, Function):
                if found := self.module.home(node).bindings.get(scope, {}).get(node.id):
                    return self._in_force(found, node) if scope is self.module.scope(node) else found
                if given := self._arguments(scope, node.id):
                    return given
        home = self.module.home(node)
        found = home.bindings.get(home.source.tree, {}).get(node.id)
        return found or [Binding(one) for one in imported_values(self.module, node)]

    def functions(self, node: ast.expr, depth: int = 0) -> list[Function]:
        """The functions of this file, or of files that it imports, that an expression may stand for."""
        if isinstance(node, ast.Attribute):
            found = imported_function(self.module, node)
            return [] if found is None else [found]
        if not isinstance(node, ast.Name):
            return []
        home = self.module.home(node)
        for scope in self.module.around(node):
            if node.id in home.nested.get(scope, {}):
                return [home.nested[scope][node.id]]
        if node.id in home.functions:
            return [home.functions[node.id]]
        if (found := imported_function(self.module, node)) is not None:
            return [found]
        return list(self._named_functions(node, depth))

    def _named_functions(self, node: ast.Name, depth: int) -> Iterator[Function]:
        """The functions that a variable holds."""
        for binding in self.bindings(node):
            given = self.elements(binding.value, depth + 1) if binding.element else [binding.value]
            for one in given:
                if isinstance(one, ast.Name) and self.may_go_on(depth + 1):
                    yield from self.functions(one, depth + 1)

    def _in_force(self, bindings: list[Binding], node: ast.Name) -> list[Binding]:
        """The assignments that may still hold at a place: from the last one that must have run."""
        around = set(self.module.around(node))
        before = [one for one in bindings if _came_before(one.by, node, around)]
        before.sort(key=lambda one: getattr(one.by, "lineno", 0))
        for at in range(len(before) - 1, -1, -1):
            by = before[at].by
            passed = (
                isinstance(by, ast.Assign | ast.AnnAssign) and next(self.module.around(by), None) in around
            )
            if passed or (isinstance(by, ast.For | ast.AsyncFor) and by in around):
                return before[at:]
        return before or bindings

    def _arguments(self, function: Function, name: str) -> list[Binding]:
        """The arguments of this file's calls for a parameter of a function."""
        every = parameters(function)
        if name not in every:
            return []
        names = every[: len(every) - len(function.args.kwonlyargs)]
        place = names.index(name) if name in names else None
        calls = self.module.calls_by_name.get(function.name, [])
        if (entered := self.module.entered.get(function)) is not None:
            calls = [entered]
        given = [argument(call, place, name) for call in calls if isinstance(call.func, ast.Name) or entered]
        found = [one for one in given if one is not None]
        if not found and place is not None and (defaults := function.args.defaults):
            at = place - len(names) + len(defaults)
            found = [defaults[at]] if at >= 0 else []
        return [Binding(one) for one in found]

    def _returned(self, function: Function, depth: int) -> Iterator[ast.expr]:
        for one in ast.walk(function):
            if isinstance(one, ast.Return) and one.value is not None:
                yield from self.values(one.value, depth)
            elif isinstance(one, ast.Yield) and one.value is not None:
                yield ast.List([one.value], ast.Load())

    def _bound(self, binding: Binding, depth: int) -> Iterator[ast.expr]:
        given = self.elements(binding.value, depth) if binding.element else iter([binding.value])
        for one in given:
            for value in self.values(one, depth):
                if binding.place is None:
                    yield value
                elif isinstance(value, ast.Tuple | ast.List) and binding.place < len(value.elts):
                    yield from self.values(value.elts[binding.place], depth)

    def _entries(self, holder: ast.expr, which: str, depth: int) -> Iterator[ast.expr]:
        for one in self.values(holder, depth):
            if isinstance(one, ast.Dict):
                for key, value in zip(one.keys, one.values, strict=True):
                    yield value if which == "values" else ast.Tuple([key or value, value], ast.Load())

    def _parts(self, node: ast.Subscript, depth: int) -> Iterator[ast.expr]:
        """The element at a place of a list or a mapping; if the place is unknown, all elements."""
        place = node.slice.value if isinstance(node.slice, ast.Constant) else None
        for holder in self.values(node.value, depth):
            chosen: list[ast.expr] = []
            if isinstance(holder, ast.Dict):
                for key, value in zip(holder.keys, holder.values, strict=True):
                    if place is None or (isinstance(key, ast.Constant) and key.value == place):
                        chosen.append(value)
            elif isinstance(holder, ast.List | ast.Tuple):
                known = isinstance(place, int) and -len(holder.elts) <= place < len(holder.elts)
                chosen = [holder.elts[place]] if known and isinstance(place, int) else holder.elts
            for one in chosen:
                yield from self.values(one, depth)


def _came_before(by: ast.AST | None, node: ast.Name, around: set[ast.AST]) -> bool:
    """Whether a name was assigned above a place."""
    if not isinstance(by, ast.stmt):
        return True
    return by.lineno < node.lineno and (by not in around or isinstance(by, ast.For | ast.AsyncFor))
