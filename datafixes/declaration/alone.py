"""A revision with a fix in batches holds nothing else: what stands before it would be committed without the version."""

import ast
import re
from collections.abc import Iterator

_FUNCTION = re.compile(r"(?:up|down)grade(?:_\w+)?")  # multidb: upgrade_engine1
_FIX = ("apply_datafix", "revert_datafix")

REMEDY = "Put it into a revision of its own: batches are committed one by one, before the version moves."


def beside_batches(tree: ast.Module) -> Iterator[tuple[ast.stmt, str]]:
    """What the functions of a revision hold besides the operation on its fix, docstrings aside, each in words."""
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and _FUNCTION.fullmatch(function.name):
            for statement in _others(function):
                shown = " ".join(ast.unparse(statement).split())
                told = f"{shown[:60]}..." if len(shown) > 60 else shown
                yield statement, f"{function.name}() holds something besides the fix in batches: {told}"


def _others(function: ast.FunctionDef) -> list[ast.stmt]:
    body = function.body[ast.get_docstring(function) is not None :]
    fixes = [one for one in body if _is_operation(one)]
    if fixes or any(_names(one, *_FIX) for one in body):
        return [one for one in body if one not in fixes[:1]]
    if function.name in ("upgrade", "downgrade"):  # it may only pass on to the function of one database
        return [one for one in body if _names(one, "op")]
    return []


def _is_operation(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _FIX


def _names(statement: ast.stmt, *names: str) -> bool:
    return any(
        (isinstance(one, ast.Name) and one.id in names)
        or (isinstance(one, ast.Attribute) and one.attr in names)
        for one in ast.walk(statement)
    )
