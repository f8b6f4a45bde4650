"""Runs through a revision in the order in which it would run, with the arms of a condition apart."""

import ast
from collections.abc import Callable, Iterable, Iterator

from datafixes.check.binding import children_of
from datafixes.check.following import Follower
from datafixes.check.module import Function, Module
from datafixes.check.own import Own

Visit = Callable[[ast.Call, ast.Call, Own], None]
"""What to do at a call: the call, its place in the revision, and what was made before."""

_MOST_ENTERED, _DEEPEST = 300, 30


class Course:
    """One run.

    Attributes:
        entered: the functions through which it came.
    """

    def __init__(self, module: Module, visit: Visit) -> None:
        self._module, self._visit = module, visit
        self._left = _MOST_ENTERED
        self._inside: list[Function] = []
        self._place: ast.Call | None = None
        self.entered: set[Function] = set()
        self._names = {node.name for node in module.nodes if isinstance(node, Function)}

    def run(self, statements: Iterable[ast.stmt], own: Own) -> None:
        """Run statements."""
        for one in statements:
            self._statement(one, own)

    def function(self, function: Function, own: Own) -> None:
        """Run the body of a function."""
        if function in self._inside or self._left < 0 or len(self._inside) > _DEEPEST:
            return
        self._left -= 1
        self.entered.add(function)
        self._inside.append(function)
        self.run(function.body, own)
        self._inside.pop()

    def _statement(self, node: ast.stmt, own: Own) -> None:
        match node:
            case ast.If():
                self._expressions(node.test, own)
                self._apart([node.body, node.orelse], own)
            case ast.Match():
                self._expressions(node.subject, own)
                self._apart([*(one.body for one in node.cases), []], own)
            case ast.Try() | ast.TryStar():
                self.run(node.body, own)
                self._apart([node.orelse, *(one.body for one in node.handlers)], own)
                self.run(node.finalbody, own)
            case ast.For() | ast.AsyncFor():
                self._expressions(node.iter, own)
                self.run([*node.body, *node.orelse], own)
            case ast.While():
                self._expressions(node.test, own)
                self.run([*node.body, *node.orelse], own)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._expressions(item.context_expr, own)
                self.run(node.body, own)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass  # runs where it is called
            case _:
                self._expressions(node, own)

    def _apart(self, arms: list[list[ast.stmt]], own: Own) -> None:
        before = own.copy()
        for number, arm in enumerate(arms):
            made = before.copy() if number else own
            self.run(arm, made)
            if number:
                own.add(made)

    def _expressions(self, root: ast.AST, own: Own) -> None:
        for node in _in_order(root):
            if isinstance(node, ast.Call):
                self._call(node, own)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self._reference(node, own)

    def _reference(self, node: ast.Name, own: Own) -> None:
        """A function of this file that is handed on: it is called somewhere."""
        if node.id not in self._names:
            return
        home = self._module.home(node)
        parent = next(self._module.around(node), None)
        if (isinstance(parent, ast.Call) and parent.func is node) or home is not self._module:
            return
        scopes = [home.nested.get(one, {}) for one in self._module.around(node)]
        found = next((one[node.id] for one in (*scopes, home.functions) if node.id in one), None)
        if found is not None:
            self.function(found, own)

    def _call(self, call: ast.Call, own: Own) -> None:
        for function in Follower(self._module).functions(call.func):
            outside = self._module.home(function) is not self._module
            before, place = self._module.entered.get(function), self._place
            self._module.entered[function] = call
            if outside and place is None:
                self._place = call
            self.function(function, own)
            self._place = place
            if before is None:
                self._module.entered.pop(function, None)
            else:
                self._module.entered[function] = before
        self._visit(call, self._place or call, own)


def _in_order(root: ast.AST) -> Iterator[ast.AST]:
    """The nodes of an expression, arguments before their call. Not recursive: an expression may be very deep."""
    waiting: list[tuple[ast.AST, bool]] = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        if done or isinstance(node, ast.Name):
            yield node
        else:
            waiting.append((node, True))
            waiting.extend((one, False) for one in reversed(children_of(node)))
