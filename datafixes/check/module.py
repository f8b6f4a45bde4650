"""A revision file for analysis: the meaning of its names, its functions, its recorded blocks."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from datafixes.check.binding import Binding, assignments_in, children_of
from datafixes.check.finding import Finding
from datafixes.check.source import Source

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """A revision file.

    Attributes:
        source: the file.
        followed: the other files to which its names lead, by their trees: their nodes can be asked about here too.
        files: the file of an imported name, and the name there; None where there is none.
        entered: the calls through which functions are being read; otherwise, all calls count.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

        self.followed: dict[ast.AST, Module] = {}
        self.files: dict[str, tuple[Path, str] | None] = {}
        self.entered: dict[Function, ast.Call] = {}

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The parent of each node, in the order of ast.walk(), but without operators and contexts."""
        found: dict[ast.AST, ast.AST] = {}
        waiting: list[ast.AST] = [self.source.tree]
        for node in waiting:
            children = children_of(node)
            found |= dict.fromkeys(children, node)
            waiting += children
        return found

    @property
    def nodes(self) -> Iterable[ast.AST]:
        """Every node but the file itself: a file is walked once."""
        return self.parents

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The module-level functions."""
        return {node.name: node for node in self.source.tree.body if isinstance(node, Function)}

    @cached_property
    def classes(self) -> list[ast.ClassDef]:
        """Every class."""
        return [node for node in self.nodes if isinstance(node, ast.ClassDef)]

    @cached_property
    def calls(self) -> list[ast.Call]:
        """Every call, in the order of the file."""
        found = [node for node in self.nodes if isinstance(node, ast.Call)]
        return sorted(found, key=lambda call: (call.lineno, call.col_offset))

    @cached_property
    def calls_by_name(self) -> dict[str, list[ast.Call]]:
        """The calls, by the last name of the called function."""
        found: dict[str, list[ast.Call]] = defaultdict(list)
        for call in self.calls:
            found[self.called(call)].append(call)
        return found

    @cached_property
    def imports(self) -> dict[str, str]:
        """Name in this file -> dotted name of what was imported."""
        found: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for name in node.names:
                    found[name.asname or name.name.partition(".")[0]] = (
                        name.name if name.asname else name.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                origin = "." * node.level + (f"{node.module}." if node.module else "")
                found |= {name.asname or name.name: f"{origin}{name.name}" for name in node.names}
        return found

    @cached_property
    def nested(self) -> Mapping[ast.AST, Mapping[str, Function]]:
        """The functions inside of functions, by the function around them."""
        found: dict[ast.AST, dict[str, Function]] = defaultdict(dict)
        for node in self.nodes:
            if isinstance(node, Function) and not isinstance(self.parents[node], ast.ClassDef | ast.Module):
                found[self.scope(node)][node.name] = node
        return found

    @cached_property
    def bindings(self) -> Mapping[ast.AST, Mapping[str, list[Binding]]]:
        """The assignments of each name, by module or function."""
        found: dict[ast.AST, dict[str, list[Binding]]] = defaultdict(lambda: defaultdict(list))
        for node in self.nodes:
            for target, value, element in assignments_in(node):
                scope = self.scope(node)
                if isinstance(target, ast.Name):
                    found[scope][target.id].append(Binding(value, element, by=node))
                elif isinstance(target, ast.Tuple | ast.List):
                    for place, part in enumerate(target.elts):
                        if isinstance(part, ast.Name):
                            found[scope][part.id].append(Binding(value, element, place, node))
        return found

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """The ancestors of a node, innermost first."""
        while (parent := self._parent(node)) is not None:
            yield parent
            node = parent

    def _parent(self, node: ast.AST) -> ast.AST | None:
        parent = self.parents.get(node)
        if parent is not None or node is self.source.tree:
            return parent
        others = iter(self.followed.values())
        while parent is None and (other := next(others, None)) is not None:
            parent = other.parents.get(node)
        return parent

    def home(self, node: ast.AST) -> "Module":
        """The file of a node: this one, or one that was followed."""
        if node in self.parents:
            return self
        return next(
            (one for one in self.followed.values() if node in one.parents or node is one.source.tree), self
        )

    def scope(self, node: ast.AST) -> ast.AST:
        """The function around a node, or the module."""
        return next(
            (one for one in self.around(node) if isinstance(one, Function)), self.home(node).source.tree
        )

    def called(self, call: ast.Call) -> str:
        """The last name of the called function, also where it was imported under another, or is a method in a name."""
        if not isinstance(call.func, ast.Name):
            return attribute(call)
        name = call.func
        for scope in (
            *(one for one in self.around(name) if isinstance(one, Function)),
            self.home(name).source.tree,
        ):
            for binding in self.home(name).bindings.get(scope, {}).get(name.id, ()):
                method = binding.value
                if isinstance(method, ast.Call) and attribute(method) == "partial" and method.args:
                    method = method.args[0]
                if isinstance(method, ast.Attribute):
                    return method.attr
        return self.home(name).imports.get(name.id, name.id).rpartition(".")[2]

    def function(self, node: ast.AST) -> str | None:
        """The name of the module-level function around a node."""
        outermost = [one.name for one in self.around(node) if isinstance(one, Function)]
        return outermost[-1] if outermost else None

    def dotted(self, node: ast.expr) -> str:
        """The dotted name that a name or attribute refers to, such as ``sqlalchemy.text``; empty if it has none."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.home(node).imports.get(node.id, node.id), *reversed(parts)])

    def goes(self, node: ast.AST, way: str) -> bool:
        """Whether a node runs in an ``upgrade`` or a ``downgrade``."""
        name = self.function(node)
        return name is None or name in self._reached[way]

    @cached_property
    def _reached(self) -> dict[str, set[str]]:
        called = {
            name: {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and one.id in self.functions}
            for name, node in self.functions.items()
        }
        reached: dict[str, set[str]] = {}
        for way in ("upgrade", "downgrade"):
            # Projects of several databases have upgrade_first(), upgrade_second().
            found = {name for name in called if name == way or name.startswith(f"{way}_")}
            waiting = list(found)
            while waiting:
                more = called[waiting.pop()] - found
                found |= more
                waiting += more
            reached[way] = found
        return reached

    def recorded(self, node: ast.AST) -> bool:
        """Whether a node runs only inside ``with op.record_datafix(...)``."""
        if "record_datafix" not in self.calls_by_name:
            return False
        return self._in_recording(node) or self.function(node) in self._recorded_functions

    def _in_recording(self, node: ast.AST) -> bool:
        inner = node
        for one in self.around(node):
            if (
                isinstance(one, ast.With | ast.AsyncWith)
                and not isinstance(inner, ast.withitem)
                and any(attribute(item.context_expr) == "record_datafix" for item in one.items)
            ):
                return True
            inner = one
        return False

    @cached_property
    def _recorded_functions(self) -> set[str]:
        used: dict[str, list[ast.AST]] = defaultdict(list)
        for node in self.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in self.functions:
                used[node.id].append(node)
        # A function that enters the recording without `with` is assumed to record everything.
        found = {
            name
            for call in self.calls
            if attribute(call) == "record_datafix"
            and not isinstance(self.parents[call], ast.withitem)
            and (name := self.function(call)) is not None
        }
        while True:
            more = {
                name
                for name, places in used.items()
                if name not in found
                and all(self._in_recording(one) or self.function(one) in found | {name} for one in places)
                and any(self.function(one) != name for one in places)
            }
            if not more:
                return found
            found |= more

    def finding(self, code: str, node: ast.expr | ast.stmt, message: str) -> Finding:
        """A finding at a node."""
        return Finding(
            code, self.source.shown, node.lineno, self.source.column(node), message, self._span(node)
        )

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        statement = node
        if not isinstance(node, ast.stmt):
            statement = next((one for one in self.around(node) if isinstance(one, ast.stmt)), node)
        body = getattr(statement, "body", None)
        if isinstance(body, list) and body:
            return statement.lineno, max(statement.lineno, body[0].lineno - 1)
        return statement.lineno, statement.end_lineno or statement.lineno


def attribute(node: ast.AST) -> str:
    """The last name of the called function: ``execute`` of ``op.get_bind().execute(...)``."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def attribute_name(node: ast.AST) -> str:
    """The last part of a name such as ``models.Order``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def argument(call: ast.Call, place: int | None, name: str) -> ast.expr | None:
    """An argument of a call, by position or name."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if (
        place is not None
        and place < len(call.args)
        and not any(isinstance(a, ast.Starred) for a in call.args)
    ):
        return call.args[place]
    return None


def parameters(function: Function) -> list[str]:
    """The names of a function's parameters, those by position first."""
    given = function.args
    return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def shown(node: ast.AST, longest: int = 60) -> str:
    """An expression, for a sentence."""
    try:
        text = " ".join(ast.unparse(node).split())
    except RecursionError:
        return "this"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
