"""Runs a command of the command line as a user does, in this process."""

import io
import json
import logging
from contextlib import redirect_stderr, redirect_stdout
from importlib import resources
from typing import Any

import jsonschema

from datafixes.cli.main import run
from tests.projects import Project, Ran


def datafixes(project: Project | None, *arguments: str) -> Ran:
    """Run ``datafixes ARGUMENTS`` in a project, with its database."""
    where = (
        () if project is None else ("-c", str(project.directory / "alembic.ini"), "-x", f"url={project.url}")
    )
    out, err = io.StringIO(), io.StringIO()
    logger = logging.getLogger("alembic")
    level, handlers = logger.level, list(logging.root.handlers)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*where, *arguments])
    finally:
        logger.setLevel(level)
        logging.root.handlers[:] = handlers
    return Ran(code, out.getvalue(), err.getvalue())


def answer(project: Project | None, *arguments: str, code: int | None = 0) -> Any:
    """What a command says as JSON; None: whatever its exit code is."""
    ran = datafixes(project, *arguments, "--format", "json")
    assert code in (None, ran.code), ran.err + ran.out
    value = json.loads(ran.out)
    jsonschema.validate(value, schema())
    return value


def schema() -> Any:
    """The JSON schema of everything that commands print: the engine's, and the book's."""
    texts = (
        resources.files(place) / "schema.json" for place in ("datafixes.report", "datafixes.book.report")
    )
    engine, book = (json.loads(text.read_text("utf-8")) for text in texts)
    return {"oneOf": [*engine["oneOf"], *book["oneOf"]], "$defs": engine["$defs"] | book["$defs"]}
