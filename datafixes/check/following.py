"""The possible values of an expression, as far as the file shows them: names are followed to their assignments."""

import ast
import itertools
from collections.abc import Iterator

from datafixes.check.module import Binding, Function, Module, argument, attribute

_DEEPEST, _MOST, _STEPS = 12, 40, 3_000


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
                yield from self.values(node.body, depth + 1)
                yield from self.values(node.orelse, depth + 1)
            case ast.BoolOp():
                for one in node.values:
                    yield from self.values(one, depth + 1)
            case ast.NamedExpr() | ast.Await():
                yield from self.values(node.value, depth + 1)
            case ast.Subscript():
                yield from self._parts(node, depth + 1)
            case ast.Call(func=ast.Name(id=name)) if name in self.module.functions:
                yield from self._returned(self.module.functions[name], depth + 1)
            case _:
                yield node

    def elements(self, node: ast.expr, depth: int) -> Iterator[ast.expr]:
        """The possible elements of a loop over an expression."""
        for value in self.values(node, depth):
            match value:
                case ast.List() | ast.Tuple() | ast.Set():
                    yield from (one.value if isinstance(one, ast.Starred) else one for one in value.elts)
                case ast.Dict():
                    yield from (key for key in value.keys if key is not None)
                case ast.Call(func=ast.Attribute(value=holder, attr="items" | "values" as which)):
                    yield from self._entries(holder, which, depth + 1)
                case ast.Call(args=[inner, *_]) if attribute(value) in ("reversed", "sorted", "list"):
                    yield from self.elements(inner, depth + 1)

    def bindings(self, node: ast.Name) -> list[Binding]:
        """The values that a name may have at a place."""
        for scope in self.module.around(node):
            if isinstance(scope, Function):
                if found := self.module.bindings.get(scope, {}).get(node.id):
                    return self._in_force(found, node) if scope is self.module.scope(node) else found
                if given := self._arguments(scope, node.id):
                    return given
        return self.module.bindings.get(self.module.source.tree, {}).get(node.id, [])

    def _in_force(self, bindings: list[Binding], node: ast.Name) -> list[Binding]:
        """The assignments that may still hold at a place: from the last one that must have run."""
        around = set(self.module.around(node))
        before = [one for one in bindings if _came_before(one.by, node, around)]
        before.sort(key=lambda one: getattr(one.by, "lineno", 0))
        for at in range(len(before) - 1, -1, -1):
            by = before[at].by
            passed = isinstance(by, ast.Assign | ast.AnnAssign) and self.module.parents.get(by) in around
            if passed or (isinstance(by, ast.For | ast.AsyncFor) and by in around):
                return before[at:]
        return before or bindings

    def _arguments(self, function: Function, name: str) -> list[Binding]:
        """The arguments of this file's calls for a parameter of a function."""
        names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        if name not in names and name not in [one.arg for one in function.args.kwonlyargs]:
            return []
        place = names.index(name) if name in names else None
        calls = self.module.calls_by_name.get(function.name, [])
        given = [argument(call, place, name) for call in calls if isinstance(call.func, ast.Name)]
        return [Binding(one) for one in given if one is not None]

    def _returned(self, function: Function, depth: int) -> Iterator[ast.expr]:
        for one in ast.walk(function):
            if isinstance(one, ast.Return) and one.value is not None:
                yield from self.values(one.value, depth)

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
