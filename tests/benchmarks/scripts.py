"""Prints the scripts of a fix, so that another version of datafixes can be measured beside this one."""

import io
import json
import sys
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations

import datafixes.operations  # noqa: F401 - older Alembics find the operations by this import
from datafixes import DataFix, RecordedFix, Rows, Table, Update, sql
from tests.benchmarks.shapes import assignments


def script(operation: str, table: str, rows: int, change: dict[str, Any]) -> str:
    """The SQL of an operation: "audit", "apply", "revert", "audit_recorded", "record" or "revert_recorded"."""
    output = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        opts={"as_sql": True, "output_buffer": output},
    )
    op: Any = Operations(context)
    declared = DataFix(
        name=f"close_{table}",
        reason="benchmark",
        change=Update(
            table,
            set={
                name: sql(value["sql"]) if isinstance(value, dict) else value
                for name, value in change.items()
            },
            where="status = 'open'",
        ),
        rows=Rows(key="id", expect=rows),
        audit=f"{table}_audit",
    )
    recorded = RecordedFix(
        name=f"record_{table}", reason="benchmark", tables=[Table(table, f"{table}_audit", updated=rows)]
    )
    if operation == "audit":
        op.create_audit_table(table, name=f"{table}_audit")
    elif operation == "apply":
        op.apply_datafix(declared)
    elif operation == "record":
        with op.record_datafix(recorded) as body:
            body.execute(f"UPDATE {table} SET {assignments(change)} WHERE status = 'open'")
    else:
        op.revert_datafix({"revert": declared, "revert_recorded": recorded}[operation])
    return output.getvalue()


if __name__ == "__main__":
    print(script(sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])))
