"""Analyses a project's ``env.py`` without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from datafixes.report.document import Fact, attention, bad, good

_ENV = "env.py"
_STATEMENTS = ("execute", "exec_driver_sql", "scalar", "scalars")
_ENDS = ("commit", "rollback")

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class EnvFile:
    """A parsed ``env.py``.

    Attributes:
        tree: the file.
        calls: every call of ``context.configure`` that runs migrations on a connection, and of ``run_migrations``.
        ours: whether it calls ``datafixes.environment.run_migrations``.
    """

    tree: ast.Module
    calls: tuple[ast.Call, ...] = ()
    ours: bool = False
    words: frozenset[str] = field(default_factory=frozenset)

    def option(self, name: str) -> ast.expr | None:
        """The value of an option of ``context.configure`` in any of its calls, or None."""
        return next((word.value for call in self.calls for word in call.keywords if word.arg == name), None)

    @property
    def passes_on(self) -> bool:
        """Whether there are unknown options, ``**options``."""
        return any(word.arg is None for call in self.calls for word in call.keywords)


def read_env(text: str) -> EnvFile:
    """Read ``env.py``.

    Raises:
        SyntaxError: it is not Python.
    """
    tree = ast.parse(text)
    names = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
             and node.module == "datafixes.environment" for alias in node.names}  # fmt: skip
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    ours = [call for call in _calls(tree) if _name(call) == "run_migrations" and _is_ours(call, names)]
    configured = [
        call
        for call in _calls(tree)
        if _name(call) == "configure" and any(word.arg in ("connection", None) for word in call.keywords)
    ]
    return EnvFile(tree, tuple(ours or configured), bool(ours), frozenset(words))


def _is_ours(call: ast.Call, names: set[str]) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id in names
    return isinstance(call.func, ast.Attribute) and "environment" in ast.unparse(call.func)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def check_env(env: EnvFile) -> list[Fact]:
    """Look for all problems in an ``env.py``."""
    if not env.calls:
        return [
            attention(
                _ENV,
                "It calls neither run_migrations nor context.configure(connection=...), so it cannot be checked.",
                "Call datafixes.environment.run_migrations(context) in it.",
            )
        ]
    how = "datafixes.environment.run_migrations" if env.ours else "context.configure"
    return [good(_ENV, f"It calls {how}."), _transaction(env), _each_its_own(env)]


def _transaction(env: EnvFile) -> Fact:
    """Alembic treats a transaction that a statement began as the caller's, and commits nothing."""
    check = f"{_ENV}: transaction"
    if env.ours:
        return good(check, "No statement runs before Alembic begins its transaction.")
    for scope in (node for node in ast.walk(env.tree) if isinstance(node, Scope)):
        configured = [call for call in env.calls if call in list(_own_calls(scope))]
        statement = _statement_before(scope, configured)
        if statement is None:
            continue
        line = f"Line {statement.lineno} runs {ast.unparse(statement.func)}() before context.configure()"
        if _is_ended_by_env(env.tree, scope, configured):
            return attention(
                check,
                f"{line}, in a transaction that env.py itself ends: all migrations share that one transaction.",
                "Run the statement after context.configure().",
            )
        return bad(
            check,
            f"{line}: Alembic does not commit the transaction that it begins, so nothing is committed.",
            "Move it after context.configure(), or end it with connection.commit().",
        )
    return good(check, "No statement runs before context.configure().")


def _own_calls(scope: Scope) -> Iterator[ast.Call]:
    """The calls in a scope, except those in nested functions."""
    waiting: list[ast.AST] = list(scope.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            yield node
        waiting += ast.iter_child_nodes(node)


def _statement_before(scope: Scope, configured: list[ast.Call]) -> ast.Call | None:
    """A statement on the connection of the migrations, in a transaction that is still open when Alembic gets it."""
    if not configured:
        return None
    first = min(call.lineno for call in configured)
    closed = [
        node
        for node in ast.walk(scope)
        if isinstance(node, ast.With | ast.AsyncWith)
        and (node.end_lineno or node.lineno) < first
        and any(
            _name(call) in ("begin", "connect") for item in node.items for call in _calls(item.context_expr)
        )
    ]
    names = {_root(word.value) for call in configured for word in call.keywords if word.arg == "connection"}
    found: ast.Call | None = None
    for call in sorted(_own_calls(scope), key=lambda call: call.lineno):
        if call.lineno >= first:
            break
        if any(block.lineno <= call.lineno <= (block.end_lineno or 0) for block in closed):
            continue  # its connection is closed, or its transaction is over
        if _name(call) in _STATEMENTS and isinstance(call.func, ast.Attribute):
            if not names or "" in names or _root(call.func) in names:
                found = found or call
        elif _name(call) in _ENDS:
            found = None
    return found


def _root(node: ast.expr) -> str:
    """The name at the beginning of an expression; empty if it does not begin with one."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_ended_by_env(tree: ast.Module, scope: Scope, configured: list[ast.Call]) -> bool:
    """Whether env.py begins the transaction itself, or commits it later: here, or where this function is used."""
    last = max(call.lineno for call in configured)
    if any(_name(call) == "begin" and call.lineno < last for call in _own_calls(scope)):
        return True
    if any(_name(call) == "commit" and call.lineno > last for call in _own_calls(scope)):
        return True
    for other in (node for node in ast.walk(tree) if isinstance(node, Scope) and node is not scope):
        calls = list(_own_calls(other))
        uses = [call.lineno for call in calls if _uses(call, getattr(scope, "name", ""))]
        if uses and any(
            (_name(call) == "begin" and call.lineno < min(uses))
            or (_name(call) == "commit" and call.lineno > max(uses))
            for call in calls
        ):
            return True
    return False


def _uses(call: ast.Call, function: str) -> bool:
    """Whether a call calls a function, or hands it on: ``connection.run_sync(run)``."""
    return any(isinstance(one, ast.Name) and one.id == function for one in (call.func, *call.args))


def _each_its_own(env: EnvFile) -> Fact:
    check = f"{_ENV}: transactions"
    given = env.option("transaction_per_migration")
    if given is None and env.passes_on:
        return good(check, "It passes **options, which may include transaction_per_migration.")
    is_on = env.ours if given is None else not (isinstance(given, ast.Constant) and not given.value)
    if is_on:
        return good(check, "Each migration has a transaction of its own.")
    return attention(
        check,
        "transaction_per_migration is not set: all migrations of a run share one transaction and its locks.",
        "context.configure(..., transaction_per_migration=True)",
    )


def imports_the_operations(env: EnvFile) -> bool:
    """Whether ``env.py`` imports a module that registers the operations, as Alembic before 1.18 needs it."""
    modules = {node.module or "" for node in ast.walk(env.tree) if isinstance(node, ast.ImportFrom)}
    modules |= {
        alias.name for node in ast.walk(env.tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported_from = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(env.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    wanted = {"datafixes.operations", "datafixes.environment"}
    return bool((modules | imported_from) & wanted)
