"""Parts of syntax trees: children, and assignments of names."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_PARTS = (
    ast.expr, ast.stmt, ast.arguments, ast.arg, ast.keyword, ast.alias, ast.withitem, ast.comprehension,
    ast.excepthandler, ast.match_case, ast.pattern,
)  # fmt: skip


@dataclass(frozen=True)
class Binding:
    """The assignment of a name: a value, or each element of it, or one place of each element.

    Attributes:
        value: the value.
        element: whether it is each element of the value.
        place: the place in it that the name stands for.
        by: the statement; None for a call.
    """

    value: ast.expr
    element: bool = False
    place: int | None = None
    by: ast.AST | None = None


def assignments_in(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr, bool]]:
    """Target, value, and whether it is each element of the value."""
    match node:
        case ast.Assign():
            for target in node.targets:
                yield target, node.value, False
        case ast.AnnAssign(value=ast.expr() as value):
            yield node.target, value, False
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(value=ast.Name() as name, attr="append"), args=[value])
        ):
            yield name, ast.List([value], ast.Load()), False
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(value=ast.Name() as name, attr="extend"), args=[value])
        ):
            yield name, value, False
        case ast.AugAssign() | ast.NamedExpr():
            yield node.target, node.value, False
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            yield node.target, node.iter, True
        case ast.withitem(optional_vars=ast.expr() as target):
            yield target, node.context_expr, False


def children_of(node: ast.AST) -> list[ast.AST]:
    """The children of a node, but for operators and contexts. ast.iter_child_nodes() takes three times as long."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [one for one in value if isinstance(one, _PARTS)]
        elif isinstance(value, _PARTS):
            found.append(value)
    return found
