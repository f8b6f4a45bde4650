"""``datafixes new``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datafixes.cli.main import OK
from datafixes.cli.project_options import Where, pass_where, place_options
from datafixes.errors import DatafixError

if TYPE_CHECKING:
    from datafixes.drafting.wish import Draft
    from datafixes.project import Project
    from datafixes.revisions.placing import Place, Wanted
    from datafixes.revisions.source import Source


@click.command(epilog="Example: datafixes new close --table orders --set open=false --where id=9")
@click.argument("message")
@click.option("--table", metavar="NAME", help="The table's name in the catalog.")
@click.option("--schema", metavar="NAME", help="Its schema (default: public).")
@click.option("--where", "condition", metavar="SQL", help="Condition for the rows; true: all rows.")
@click.option("--set", "sets", metavar="COLUMN=VALUE", multiple=True, help="New value; NULL is null.")
@click.option("--set-sql", "expressions", metavar="COLUMN=SQL", multiple=True, help="New value in SQL.")
@click.option("--delete", is_flag=True, help="Delete the rows.")
@click.option("--sql", "file", metavar="FILE", help="Record these statements instead (-: stdin).")
@click.option("--reason", metavar="TEXT", help="Reason for the ledger (default: MESSAGE).")
@click.option("--name", metavar="NAME", help="Name of the fix (default: from MESSAGE).")
@click.option("--key", metavar="COLUMNS", help="Key columns, such as id or a,b.")
@click.option("--at-most", type=click.IntRange(1), metavar="NUMBER", help="Accept up to so many rows.")
@click.option("--audit", metavar="NAME", help="Name of the audit table.")
@place_options
@click.option("--force", is_flag=True, help="Write the revision even if no row matches.")
@pass_where
def command(where: Where, /, message: str, **given: Any) -> int:
    """Write a revision with a data fix from the database, which is not changed."""
    if not message.strip():
        raise click.UsageError("MESSAGE is missing: a few words that describe the revision.")
    _check_usage(given)
    from datafixes.drafting.draft import draft  # Alembic is slow to import, and wrong usage does not need it
    from datafixes.drafting.wish import Wish
    from datafixes.revisions.placing import Wanted

    project = where.project()
    project.scripts.get_heads()  # fails first if there is no project
    wish = Wish(
        message=message,
        table=given["table"] or "",
        schema=given["schema"],
        sets=given["sets"],
        expressions=given["expressions"],
        where=given["condition"] or "",
        delete=given["delete"],
        statements=_statements(given["file"]) if given["file"] else "",
        reason=given["reason"],
        name=given["name"],
        audit=given["audit"],
        key=given["key"],
        at_most=given["at_most"],
        force=given["force"],
    )
    found = draft(project, wish)
    for line in found.notes:
        click.echo(line, err=True)
    wanted = Wanted(given["rev_id"], given["head"], given["version_path"])
    paths = _write(project, found, wish, wanted)
    for path in paths:
        click.echo(str(path))
    _tell_next(project, len(paths), why="" if given["reason"] else "state the reason in it, ")
    return OK


def _tell_next(project: Project, written: int, why: str) -> None:
    from datafixes.doctor.plugin import warning_of

    if warning := warning_of(Path(project.scripts.dir)):
        click.echo(warning, err=True)
    click.echo(f"Next: read {'them' if written > 1 else 'it'}, {why}then datafixes check and plan.", err=True)


def _check_usage(given: dict[str, Any]) -> None:
    sets = given["sets"] or given["expressions"]
    if bool(given["table"]) == bool(given["file"]):
        raise click.UsageError("No change is given: use --table NAME with --set or --delete, or --sql FILE.")
    if given["file"]:
        more = [f"--{name.replace('condition', 'where')}" for name in ("schema", "condition", "delete", "key", "force")
                if given[name]]  # fmt: skip
        if sets or more:
            raise click.UsageError(
                f"--sql FILE excludes {', '.join(more) or '--set'}, which goes with --table."
            )
        return
    if bool(sets) == given["delete"]:
        raise click.UsageError("No change is given: use --set or --set-sql, or --delete.")
    if not (given["condition"] or "").strip():
        raise click.UsageError("No rows are given: use --where SQL; --where true means every row.")


def _statements(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DatafixError(f"{file} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise DatafixError(f"{file} is not UTF-8: {error.reason} at byte {error.start}.") from None
    if "\x00" in text:
        raise DatafixError(f"{file} contains a NUL byte, which PostgreSQL cannot store.")
    if not text.strip():
        raise DatafixError(f"{file} is empty.")
    return text.replace("\r\n", "\n").strip()


def _write(project: Project, found: Draft, wish: Any, wanted: Wanted) -> list[Path]:
    """Write the revision and those that it needs before it; all of them or none."""
    from datafixes.revisions.new import revision_of_audit_tables, revision_of_fix
    from datafixes.revisions.placing import place_for

    written: list[Path] = []
    for_schemas = _is_for_schemas(project, found)
    try:
        for state, title, update in (
            ("missing", "audit table for", False),
            ("outgrown", "new columns for the copies of", True),
        ):
            needed = [(table, copies) for table, copies in found.copies if copies.state == state]
            if needed:
                title = f"{title} {', '.join(table.name for table, _ in needed)}"
                place = _place_below(project, title, wanted)
                made = [_arguments(table, copies, for_schemas) for table, copies in needed]
                text = revision_of_audit_tables(place, title, made, update=update)
                _put(project, place, text)
                written.append(place.path)
                wanted = replace(wanted, head=place.revision)
                _tell_audit(needed, place)
        place = place_for(_fresh(project).scripts, wish.message, wanted)
        text = revision_of_fix(
            place, wish.message, found.fix, statements=wish.statements, for_schemas=for_schemas
        )
        _put(project, place, text)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return [*written, place.path]


def _is_for_schemas(project: Project, found: Draft) -> bool:
    """Whether the fix is for each schema for which env.py runs: one that names its own would run once for each."""
    from datafixes.plan.making import runs_for_schemas
    from datafixes.revisions.template import takes_a_name

    schemas = {one.schema for pair in found.copies for one in pair}
    if len(schemas) > 1 or "public" in schemas or takes_a_name(project.scripts):
        return False
    if not runs_for_schemas(Path(project.scripts.dir, "env.py")):
        return False
    [schema] = schemas
    click.echo(
        "env.py runs each revision for several schemas, so this one changes the schema at hand. To change "
        f'{schema} alone, write in both functions: if schema_of_run(op) == "{schema}": ...',
        err=True,
    )
    return True


def _put(project: Project, place: Place, text: str) -> None:
    from datafixes.project import CHOSEN
    from datafixes.revisions.placing import write_revision
    from datafixes.revisions.template import in_template

    chosen = project.config.attributes.get(CHOSEN, "")
    text = in_template(text, place, project.config, project.scripts, chosen)
    write_revision(project.scripts, place, text)


def _fresh(project: Project) -> Project:
    """The same project, with its revisions not yet read."""
    return type(project)(project.config, project.settings)


def _place_below(project: Project, title: str, wanted: Wanted) -> Place:
    """The place for a revision that this one needs; the requested id is kept for the revision itself."""
    from datafixes.revisions.placing import place_for

    place = place_for(_fresh(project).scripts, title, replace(wanted, revision=None))
    if place.revision == wanted.revision:
        place = place_for(_fresh(project).scripts, title, replace(wanted, revision=f"{wanted.revision}a"))
    return place


def _arguments(table: Any, copies: Any, for_schemas: bool) -> dict[str, str | Source]:
    from datafixes.revisions.source import Source
    from datafixes.revisions.text import SCHEMA_OF_RUN

    given: dict[str, str | Source] = {"target": table.name, "name": copies.name}
    if for_schemas:
        given["schema"] = Source(f"{SCHEMA_OF_RUN}(op)")
    elif table.schema != "public":
        given["schema"] = table.schema
    if copies.schema != table.schema:
        given["audit_schema"] = copies.schema
    return given


def _tell_audit(needed: list[tuple[Any, Any]], place: Place) -> None:
    for table, copies in needed:
        if copies.state == "missing":
            click.echo(
                f"{table.schema}.{table.name} has no audit table yet: {place.revision} creates {copies.name}.",
                err=True,
            )
        else:
            lacks = ", ".join(copies.missing)
            click.echo(f"{copies.schema}.{copies.name} lacks {lacks}: {place.revision} adds it.", err=True)
