"""Runs the scripts of an upgrade or downgrade in one transaction that is rolled back and cannot be committed.

The project's own env.py runs them, as always. The Alembic functions that it calls are replaced: the transaction is
begun before Alembic can begin one, so Alembic treats it as the caller's and commits nothing; and all steps share it.
Where env.py runs the migrations in a loop, for several databases or schemas, each of them is a plan of its own.
"""

from __future__ import annotations

import ast
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from datafixes.declaration.project_fixes import fixes_of
from datafixes.errors import DatafixError, UnsafeTransaction
from datafixes.plan.collector import Collector
from datafixes.plan.one_run import OneRun
from datafixes.plan.planned import Plan
from datafixes.plan.rollback_only import rollback_only
from datafixes.plan.wish import Wish
from datafixes.running.migration import COLLECTOR

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection


_BETWEEN = (
    "env.py commits between its runs of the migrations, in a transaction that it has begun itself, so a plan can show "
    "no more than the first of them"
)


class _Ended(BaseException):
    """Leaves env.py when the plan is made; ``except Exception`` does not catch it."""


@dataclass
class _Making:
    """Intercepts env.py's calls of Alembic while a plan is made.

    Attributes:
        loops: the lines of the loops in which env.py runs the migrations. If there are any, it goes on after a run.
        runs: those that it has begun.
        held: the connections in whose transaction, begun by env.py itself, a run has ended.
    """

    wish: Wish
    scripts: ScriptDirectory
    attributes: dict[Any, Any]
    tell: Callable[[str], None]
    loops: list[range]
    copies: frozenset[str] = frozenset()
    runs: list[OneRun] = field(default_factory=list)
    held: dict[Connection, ExitStack] = field(default_factory=dict)
    ends: ExitStack = field(default_factory=ExitStack)

    @property
    def are_several(self) -> bool:
        """Whether env.py may run the migrations several times."""
        return bool(self.loops)

    def stand_between(self, environment: EnvironmentContext) -> None:
        """Replace the functions that env.py calls."""
        configure, run_migrations = environment.configure, environment.run_migrations

        def begin_and_configure(connection: Connection | None = None, **options: Any) -> None:
            if connection is None:
                raise DatafixError("env.py gives Alembic no connection, so a plan cannot run.")
            self.begin(connection, options)
            configure(connection=connection, **options)

        def run_and_undo(**options: Any) -> None:
            one = self.runs[-1]
            with one.ends:
                # multidb: engine_name, which is empty for the default database of Flask-Migrate
                one.name = ", ".join(str(value) or "default" for value in options.values()) or one.name
                one.run(run_migrations, options)
            if not self.are_several:
                raise _Ended

        environment.configure = begin_and_configure  # type: ignore[assignment]
        environment.run_migrations = run_and_undo  # type: ignore[method-assign]

    def begin(self, connection: Connection, options: dict[str, Any]) -> None:
        """Begin a run, in a transaction that ends with it, unless env.py has begun it and will end it."""
        is_external = connection.in_transaction()
        one = OneRun(self.wish, self.scripts, Collector(self.wish.view), self.tell, is_external)
        one.copies |= self.copies
        if connection not in self.held:
            guarded = ExitStack()
            guarded.enter_context(rollback_only(connection, self.wish.limits))
            if is_external and self.are_several:
                self.held[connection] = self.ends.enter_context(guarded)
            else:
                one.ends.enter_context(guarded)
        one.name = _schema_of(connection) if self.are_several else ""
        one.begin(connection, options)
        self.attributes[COLLECTOR] = one.collector
        self.runs.append(one)

    def check_whole(self, error: UnsafeTransaction, env: str) -> None:
        """Whether env.py was done with its runs when it committed the transactions that it had begun.

        Raises:
            DatafixError: it was not, or it commits before it runs anything.
        """
        if not self.held:
            raise error
        lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == env]
        if any(line in loop for line in lines for loop in self.loops):
            hint = "Let Alembic begin them: with context.begin_transaction(): ..."
            raise DatafixError(_BETWEEN, hint=hint) from None

    def revisions(self, heads: Any, context: MigrationContext) -> Iterator[Any]:
        """The steps of the present run."""
        return self.runs[-1].revisions(heads, context)


def _schema_of(connection: Connection) -> str:
    mapped = connection.get_execution_options().get("schema_translate_map") or {}
    return str(mapped.get(None) or connection.exec_driver_sql("SELECT pg_catalog.current_schema()").scalar())


def _loops_in(env: Path) -> list[range]:
    """The lines of each loop in which env.py runs the migrations: directly, or through its functions."""
    tree = ast.parse(env.read_bytes())
    running, before = {"run_migrations"}, 0
    while before != len(running):
        before = len(running)
        running |= {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _names(node) & running
        }
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.AsyncFor | ast.While)]
    return [range(one.lineno, (one.end_lineno or 0) + 1) for one in loops if _names(one) & running]


def runs_for_schemas(env: Path) -> bool:
    """Whether env.py runs each revision for several schemas: in a loop, with a search_path or a map for each."""
    text = env.read_text(encoding="utf-8")
    return bool(re.search("search_path|schema_translate_map", text) and _loops_in(env))


def _names(node: ast.AST) -> set[str]:
    inside = list(ast.walk(node))
    return {one.id for one in inside if isinstance(one, ast.Name)} | {
        one.attr for one in inside if isinstance(one, ast.Attribute)
    }


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence Alembic's log of each step, which the plan reports; send what migrations print to stderr."""
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(disabled)


def make_plan(config: Config, wish: Wish, tell: Callable[[str], None] = lambda _: None) -> Plan:
    """Run an upgrade or downgrade of one database; see :func:`make_plans`."""
    return make_plans(config, wish, tell)[-1]


def make_plans(config: Config, wish: Wish, tell: Callable[[str], None] = lambda _: None) -> list[Plan]:
    """Run an upgrade or downgrade, roll it back, and return what it did, for each run of env.py.

    Args:
        config: Alembic's configuration; the project's own env.py finds the database.
        wish: what to plan.
        tell: is called with a progress line for each step.

    Raises:
        DatafixError: no database is configured.
        CommandError: from Alembic: an unknown revision, several heads, ...
    """
    scripts = ScriptDirectory.from_config(config)
    env = Path(scripts.dir, "env.py")
    making = _Making(wish, scripts, config.attributes, tell, _loops_in(env))
    environment = EnvironmentContext(
        config, scripts, fn=making.revisions, as_sql=False, destination_rev=wish.revision
    )
    making.stand_between(environment)
    making.copies = frozenset(table.audit for one in fixes_of(scripts) for table in one.fix.tables)
    try:
        with _quietly(), making.ends, environment:
            scripts.run_env()
    except _Ended:
        pass
    except UnsafeTransaction as error:
        making.check_whole(error, str(env))
    except BaseException:
        for one in making.runs:
            one.reloading.end()
        raise
    finally:
        config.attributes.pop(COLLECTOR, None)
    if not making.runs:
        raise DatafixError("env.py ran no migrations, so nothing was planned.")
    return [one.made() for one in making.runs]
