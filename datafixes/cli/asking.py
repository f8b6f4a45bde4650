"""Shared by the commands that query the ledger."""

from collections.abc import Callable
from typing import Any

import click
from sqlalchemy.engine import Connection

from datafixes.audit.changes import View
from datafixes.audit.history import known_tables, run_of
from datafixes.audit.images import changes_of_run, tables_of_run
from datafixes.audit.naming import with_kept_identities
from datafixes.audit.redaction import left_out, redacted, redacted_by
from datafixes.audit.retention import gave_up, given_up
from datafixes.audit.running import readable
from datafixes.audit.wording import place
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError
from datafixes.report.document import Document
from datafixes.report.progress import progress_as_json
from datafixes.report.retention import gave_up_as_json, with_redaction, with_retention
from datafixes.report.runs import changes_as_json, document_of_run, run_as_json

_KEPT = 1000
"""The maximum number of rows that are in memory at a time."""


def schema_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--schema`` to a command."""
    return click.option(
        "--schema", callback=given, metavar="NAME", help="Schema of the ledger, if there are several."
    )(command)


def given(_ctx: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """Refuse an empty name, which usually comes from an unset variable."""
    if name is not None and not name.strip():
        raise click.BadParameter("the value is empty (unset variable?). Give a name, or omit the option.")
    return name


def the_table(connection: Connection, schema: str, wanted: str) -> str:
    """The ledger's name for a table that is given with or without its schema.

    Raises:
        DatafixError: no run changed such a table; the message names the nearest.
    """
    tables = known_tables(connection, schema)
    plain = wanted.replace('"', "")
    found = [t for t in tables if plain in (t.replace('"', ""), t.replace('"', "").split(".", 1)[1])]
    if len(found) == 1:
        return found[0]
    if found:
        raise DatafixError(f"Several tables are called {wanted}: {', '.join(found)}.", hint="Add the schema.")
    short = [t.replace('"', "") for t in tables] + [t.replace('"', "").split(".", 1)[1] for t in tables]
    raise DatafixError(f"No run has changed a table {wanted}.{nearest(wanted, short)}")


def read_run(
    connection: Connection, schema: str, run: int, view: View
) -> tuple[Callable[[], Document], Callable[[], Any]]:
    """A run with its rows, for the document and for the JSON. Many rows are read as they are written."""
    line, database = run_of(connection, schema, run), place(connection.engine.url)
    of_run = with_kept_identities(connection, schema, run, tables_of_run(connection, schema, run), view)
    tables = [(table, changes_of_run(connection, table, view, keep=view.rows <= _KEPT)) for table in of_run]

    running = readable(connection, schema, f" AND r.run_id = {run}")

    gone, went = given_up(connection, schema, run), gave_up(connection, schema, run)
    erased, erases = redacted(connection, schema, run), redacted_by(connection, schema, run)
    left = left_out(connection, schema, run)

    def as_json() -> dict[str, Any]:
        changes = [changes_as_json(table, rows) for table, rows in tables]
        return {
            "version": 1,
            "kind": "run",
            "database": database,
            "run": run_as_json(line),
            "progress": progress_as_json(running[0]) if running else None,
            "changes": changes,
            "copies_given_up": gone,
            "gave_up": gave_up_as_json(went),
            "values_redacted": erased,
            "redacted": gave_up_as_json(erases),
            "left_out": left,
        }

    def document() -> Document:
        return document_of_run(line, tables, database, running[0] if running else None)

    return lambda: with_redaction(with_retention(document(), gone, went), erased, erases, left), as_json
