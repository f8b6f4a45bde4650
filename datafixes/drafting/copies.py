"""The audit table of a table: one in the database, or one that a revision will create."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from datafixes.audit.history import IS_AUDIT_TABLE, ask
from datafixes.drafting.survey import TableSeen
from datafixes.errors import DatafixError
from datafixes.project import CHOSEN, Project
from datafixes.script.literal import text
from datafixes.script.tables import CHANGES_SUFFIX

_LONGEST_NAME = 63
_OF_RUN = "schema_of_run(op)"  # a schema that no revision names


@dataclass(frozen=True)
class Copies:
    """An audit table, existing or not.

    Attributes:
        schema: the schema of the audit table.
        name: the audit table.
        state: ``there``; ``planned`` by a revision that has not run; ``missing`` in both; or ``outgrown``: its target
            has new columns.
        missing: the columns that it lacks.
    """

    schema: str
    name: str
    state: str = "there"
    missing: tuple[str, ...] = ()


_AUDITS = """
SELECT n.nspname, c.relname, ARRAY(
           SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped AND NOT EXISTS (
                  SELECT FROM pg_catalog.pg_attribute AS b
                   WHERE b.attrelid = c.oid AND b.attname = a.attname AND NOT b.attisdropped)
            ORDER BY a.attnum)
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND {which}
   AND {is_audit}
 ORDER BY c.oid DESC
"""


def copies_of(connection: Connection, project: Project, table: TableSeen, wanted: str | None) -> Copies:
    """The audit table for a table.

    Args:
        connection: in a read-only transaction.
        project: the project; of several databases, the chosen one counts.
        table: the table.
        wanted: the name of the audit table, if the author chose one.

    Raises:
        DatafixError: another relation has that name.
    """
    planned = [
        copies
        for target, copies in planned_audit_tables(project)
        if target in ((table.schema, table.name), (_OF_RUN, table.name)) and wanted in (None, copies.name)
    ]
    for found in _of_comment(connection, table) if wanted is None else _of_name(connection, table, wanted):
        return found
    if planned:
        return replace(planned[-1], schema=planned[-1].schema.replace(_OF_RUN, table.schema))
    if wanted is not None and is_taken(connection, table.schema, wanted):
        raise DatafixError(
            f"{table.schema}.{wanted} is not an audit table.", hint="Choose another name: --audit NAME"
        )
    return Copies(table.schema, wanted or _free_name(connection, project, table), "missing")


def _of_comment(connection: Connection, table: TableSeen) -> list[Copies]:
    pair = f"pg_catalog.format('%I.%I', {text(table.schema)}, {text(table.name)})"
    comment = f"pg_catalog.concat('datafixes: images of rows of ', {pair}, ', before and after a data fix')"
    return _audits(connection, table, f"pg_catalog.obj_description(c.oid, 'pg_class') = {comment}")


def _of_name(connection: Connection, table: TableSeen, name: str) -> list[Copies]:
    which = f"c.relname = {text(name)}"
    return sorted(_audits(connection, table, which), key=lambda one: one.schema != table.schema)


def _audits(connection: Connection, table: TableSeen, which: str) -> list[Copies]:
    query = _AUDITS.format(oid=table.oid, which=which, is_audit=IS_AUDIT_TABLE)
    return [
        Copies(schema, name, "outgrown" if missing else "there", tuple(missing))
        for schema, name, missing in ask(connection, query)
    ]


def is_taken(connection: Connection, schema: str, name: str) -> bool:
    """Whether a relation of that name exists in a schema."""
    query = (
        "SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE n.nspname = {text(schema)} AND c.relname = {text(name)}"
    )
    return bool(ask(connection, query))


def _free_name(connection: Connection, project: Project, table: TableSeen) -> str:
    plain = re.sub(r"\W+", "_", table.name).strip("_").lower() or "table"
    promised = {copies.name for _, copies in planned_audit_tables(project)}
    number = 1
    while True:
        suffix = "_audit" if number == 1 else f"_audit_{number}"
        # The name of the view beside it is longer.
        longest = _LONGEST_NAME - len(suffix) - len(CHANGES_SUFFIX)
        name = plain.encode()[:longest].decode(errors="ignore") + suffix
        if name not in promised and not is_taken(connection, table.schema, name):
            return name
        number += 1


def planned_audit_tables(project: Project) -> Iterator[tuple[tuple[str, str], Copies]]:
    """The audit tables that the revisions of a project create, from base to head: target and audit table.

    Args:
        project: the project; of several databases, the chosen one counts.
    """
    database = project.config.attributes.get(CHOSEN, "")
    for script in reversed(list(project.scripts.walk_revisions())):
        for arguments in _calls(Path(script.path), script.module, database):
            target, name = arguments.get("target"), arguments.get("name")
            if isinstance(target, str) and isinstance(name, str):
                schema = arguments.get("schema", "public")
                yield (schema, target), Copies(arguments.get("audit_schema") or schema, name, "planned")


def _calls(path: Path, module: Any, database: str) -> Iterator[dict[str, str]]:
    """The arguments of each ``op.create_audit_table`` on the way up, as far as they are literals."""
    functions = [node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)]
    takes_one = any(node.name == "upgrade" and node.args.args for node in functions)
    upgrade = [
        node
        for node in functions
        if "downgrade" not in node.name
        and not (takes_one and node.name.startswith("upgrade_") and node.name != f"upgrade_{database}")
    ]
    for node in (inner for function in upgrade for inner in ast.walk(function)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "create_audit_table":
            given = {word.arg or "": _text_of(word.value, module) for word in node.keywords}
            if node.args:
                given["target"] = _text_of(node.args[0], module)
            yield {word: text for word, text in given.items() if text is not None}


def _text_of(node: ast.expr, module: Any) -> str | None:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(node, ast.Call) and ast.unparse(node) == _OF_RUN:
        return _OF_RUN
    if isinstance(node, ast.Name):
        value = getattr(module, node.id, None)
    return value if isinstance(value, str) else None
