"""``datafixes prune``."""

import calendar
import datetime as dt
import re

import click
from sqlalchemy.engine import Connection

from datafixes.audit.history import ask, the_schema
from datafixes.audit.retention import prunable
from datafixes.audit.wording import counted
from datafixes.cli.asking import schema_option
from datafixes.cli.main import OK
from datafixes.cli.project_options import Where, pass_where, place_options
from datafixes.cli.writing import only_for, put
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError
from datafixes.plan.rollback_only import rollback_only
from datafixes.revisions.placing import Wanted, place_for
from datafixes.revisions.prune import Retention, prune_revision
from datafixes.running.execution import limits_of
from datafixes.script.engine import engine_of
from datafixes.script.literal import text
from datafixes.script.parameters import verbatim

_AGE = re.compile(r"(\d+)\s*(day|week|month|year)s?", re.IGNORECASE)
_TABLES = """
SELECT c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'audit_run_id' AND NOT a.attisdropped
 WHERE n.nspname = {schema} AND c.relkind = 'r' ORDER BY 1
"""


def day_before(_ctx: click.Context, _option: click.Parameter, given: str) -> dt.date:
    """The day that an age or a date means: ``2 years``, ``90 days``, ``2024-12-31``."""
    today = dt.datetime.now(dt.UTC).date()
    if found := _AGE.fullmatch(given.strip()):
        number, unit = int(found[1]), found[2].lower()
        try:
            if unit in ("day", "week"):
                return today - dt.timedelta(days=number * (7 if unit == "week" else 1))
            months = today.year * 12 + today.month - 1 - number * (12 if unit == "year" else 1)
            year, month = months // 12, months % 12 + 1
            return dt.date(year, month, min(today.day, calendar.monthrange(year, month)[1]))
        except (OverflowError, ValueError):
            raise click.BadParameter(f"{given} is before all calendars.") from None
    try:
        return dt.date.fromisoformat(given.strip())
    except ValueError:
        raise click.BadParameter(
            f"{given!r} is neither an age (2 years, 90 days) nor a date (2024-12-31)."
        ) from None


def check_audit_table(connection: Connection, schema: str, table: str) -> None:
    """Refuse what is no audit table of a ledger.

    Raises:
        DatafixError: it is none; the message names the nearest.
    """
    known = [name for (name,) in ask(connection, _TABLES.format(schema=text(schema)))]
    if table not in known:
        raise DatafixError(f"The schema {schema} has no audit table {table}.{nearest(table, known)}")


@click.command(epilog='Example: datafixes prune orders_audit --older-than "2 years" --reason "Retention."')
@click.argument("table", metavar="AUDIT_TABLE")
@click.option(
    "--older-than", metavar="AGE|DATE", required=True, callback=day_before,
    help="Runs finished before: '2 years', '90 days', 2024-12-31.",
)  # fmt: skip
@click.option(
    "--keep", type=click.Choice(("open", "none")), default="open", show_default=True,
    help="Keep the copies of fixes in force, or none.",
)  # fmt: skip
@click.option("--reason", default="", help="Why, for the readers of the ledger.")
@place_options
@schema_option
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where, table: str, older_than: dt.date, keep: str, reason: str,
    rev_id: str | None, head: str | None, version_path: str | None, schema: str | None,
) -> int:  # fmt: skip
    """Write a revision that gives up old copies in an AUDIT_TABLE; their runs cannot be reverted any more.

    The ledger keeps which runs they were, with the number and the digest of their images. Nothing is deleted before
    the revision runs.
    """
    project = where.project()
    project.heads()  # fails first if there is no readable project
    with project.connection() as connection, rollback_only(connection, limits_of(project.settings)):
        ledger = the_schema(connection, schema)
        check_audit_table(connection, ledger, table)
        for statement in engine_of("datafix_prunable").statements():
            connection.exec_driver_sql(verbatim(connection, statement))
        before = dt.datetime.combine(older_than, dt.time(), dt.UTC)
        went = prunable(connection, ledger, table, before, keep)
    if not went:
        told = f"No copies in {table} of runs before {older_than} can be given up: nothing was written."
        click.echo(told, err=True)
        return OK
    place = place_for(project.scripts, f"prune {table}", Wanted(rev_id, head, version_path))
    retention = Retention(table, ledger, older_than, keep, " ".join(reason.split()))
    put(project, place, prune_revision(place, retention, only_for(project, ledger)))
    click.echo(str(place.path))
    images = counted(sum(one.images for one in went), "image")
    told = f"It gives up copies of {counted(len(went), 'run')} ({images}). Next: datafixes plan"
    click.echo(told, err=True)
    return OK
