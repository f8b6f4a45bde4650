"""Makes autogenerate ignore audit tables and ledgers, which it would drop, because no model declares them.

Alembic loads this with every command, during its own import, so nothing of Alembic is imported at the top.
"""

from __future__ import annotations

import logging
from typing import Any

MARK = "datafixes: "
"""The beginning of the comment of every table and view that datafixes creates."""

_logger = logging.getLogger("alembic.datafixes")


def is_ours(table: Any) -> bool:
    """Whether a reflected table is an audit table or belongs to a ledger.

    Its comment says so. If comments were lost (pg_dump --no-comments), its columns do.

    Args:
        table: SQLAlchemy's, reflected from the database.
    """
    return (table.comment or "").startswith(MARK) or _looks_like_ours(table)


def leave_audit_tables_alone(
    item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any
) -> bool:
    """For ``include_object``: autogenerate neither drops nor alters audit tables and ledgers."""
    if type_ != "table":
        return True
    in_the_database = item if reflected else compare_to
    return in_the_database is None or not is_ours(in_the_database)


def leave_alone(context: Any, upgrade_ops: Any, schemas: Any) -> None:
    """For Alembic's own hook: remove operations on audit tables, ledgers and their views.

    It runs after the comparisons and makes no query without differences, so it does not slow down projects without
    data fixes.

    Args:
        context: Alembic's AutogenContext.
        upgrade_ops: the operations so far.
        schemas: the schemas that were compared.
    """
    if context.dialect.name != "postgresql":
        return
    ours = _places_of_ours(context, upgrade_ops.ops)
    if ours:
        named = ", ".join(sorted(".".join(filter(None, place)) for place in ours))
        _logger.info("Autogenerate ignores the tables and views of datafixes: %s", named)
        upgrade_ops.ops[:] = [one for one in upgrade_ops.ops if _place(one) not in ours]


def _places_of_ours(context: Any, operations: Any) -> set[tuple[str | None, str]]:
    from alembic.operations.ops import DropTableOp, ModifyTableOps

    dropped = {_place(one): one for one in operations if isinstance(one, DropTableOp)}
    altered = {_place(one) for one in operations if isinstance(one, ModifyTableOps)} - dropped.keys()
    views = {_place(one) for one in operations if hasattr(one, "target")} - {None}
    return {
        *(place for place, one in dropped.items() if place and is_ours(one.to_table())),
        *(place for place in altered if place and _is_marked(context, *place)),  # a model declares it
        *(place for place in views if place and (_guards(place[1]) or _is_our_view(context, *place))),
    }


def _place(operation: Any) -> tuple[str | None, str] | None:
    """Schema and name of the table or view that an operation drops or alters; None for any other operation."""
    from alembic.operations.ops import DropTableOp, ModifyTableOps

    if isinstance(operation, DropTableOp | ModifyTableOps):
        return operation.schema, operation.table_name
    # alembic_utils has its own operations, and drops every view, function and trigger that is not registered with it
    target: Any = getattr(operation, "target", None)
    if type(operation).__name__ == "DropOp" and hasattr(target, "signature"):
        return target.schema, target.signature
    return None


def _is_marked(context: Any, schema: str | None, name: str) -> bool:
    from sqlalchemy.exc import NoSuchTableError

    try:
        comment = context.inspector.get_table_comment(name, schema=schema)["text"]
    except NoSuchTableError:  # it does not exist yet
        return False
    return (comment or "").startswith(MARK)


def _guards(signature: str) -> bool:
    """Whether it is the function beside a ledger that refuses changes, or a trigger that calls it."""
    from datafixes.script.tables import APPEND_ONLY, FINISHED, PRUNED, REDACTED

    return signature in (f"{APPEND_ONLY}()", APPEND_ONLY, FINISHED, PRUNED, REDACTED)


def _is_our_view(context: Any, schema: str | None, name: str) -> bool:
    """Whether its comment marks it; the view beside an audit table has none, and is identified by its columns."""
    from sqlalchemy import text

    found = context.connection.scalar(
        text("""
        SELECT count(*) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind = 'v' AND n.nspname = :schema AND c.relname = :name
           AND (starts_with(obj_description(c.oid, 'pg_class'), :mark)
                OR ARRAY['audit_run_id', 'audit_id', 'key', 'column_name', 'before', 'after', 'change', 'target_table']
                   <@ ARRAY(SELECT CAST(a.attname AS text) FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid))
        """),
        {"schema": schema or "public", "name": name, "mark": MARK},
    )
    return bool(found)


def _looks_like_ours(table: Any) -> bool:
    from datafixes.script.tables import AUDIT_COLUMNS, CHAIN, KEYS, LEDGER, LEDGER_TABLES, RANGES, SALTS

    ledger = {
        LEDGER: {"run_id", "fix", "direction", "outcome", "fingerprint"},
        LEDGER_TABLES: {"run_id", "target_table", "audit_table", "images_digest"},
        RANGES: {"run_id", "n", "above", "up_to", "reached"},
        CHAIN: {"position", "run_id", "images_sha256", "previous", "head"},
        KEYS: {"run_id", "key"},
        SALTS: {"run_id", "audit_id", "salt"},
    }
    columns = {column.name for column in table.columns}
    return columns.issuperset(AUDIT_COLUMNS) or (table.name in ledger and columns >= ledger[table.name])
