"""``flask datafixes``: the commands inside a Flask application, whose Flask-Migrate names project and database.

Flask loads this module with each of its commands, so it imports little.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import with_appcontext

if TYPE_CHECKING:
    from datafixes.cli.project_options import Where
    from datafixes.project import Project


@click.command(
    add_help_option=False,  # the commands have their own
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def command(arguments: tuple[str, ...]) -> None:
    """Preview, audit and undo data fixes."""
    from datafixes.cli.main import run

    sys.exit(run([*arguments], "flask datafixes", _project))


def _project(where: Where) -> Project | None:
    """The application's project; None if it has no Flask-Migrate, or -c names a file.

    Raises:
        DatafixError: a setting is invalid, or the application has no such database.
    """
    known = current_app.extensions.get("migrate")
    if known is None or where.config is not None:
        return None
    from datafixes.project import CHOSEN, Project
    from datafixes.running.operation import KNOWN

    bind = "" if where.section == "alembic" else where.section
    config = known.migrate.get_config(where.scripts, x_arg=list(where.flags))
    # Flask-Migrate's env.py uses the application's database, whatever the environment says.
    origin = f"the Flask application{f', {bind}' if bind else ''}"
    config.attributes |= {CHOSEN: bind, KNOWN: {"url": (_url(known.db, bind), origin)}}
    return Project.of(config, where.flags)


def _url(database: Any, bind: str) -> str:
    """The database of Flask-SQLAlchemy, or of what stands in for it; with a name, one of SQLALCHEMY_BINDS."""
    if bind:
        engines = getattr(database, "engines", {})
        if bind not in engines:
            from datafixes.errors import DatafixError

            raise DatafixError(
                f"The application has no database {bind}.",
                hint=f"It has: {', '.join(filter(None, engines)) or 'only one, so leave out -n'}.",
            )
        engine = engines[bind]
    else:
        engine = database.engine if hasattr(database, "engine") else database.get_engine()
    return str(engine.url.render_as_string(hide_password=False))
