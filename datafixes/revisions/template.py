"""Writes a revision as the project's ``script.py.mako`` has it: for one database, or for one of several.

Where the project has Alembic's own template for one database, or none, the revision keeps a form without what it does
not need.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.config import Config
from mako.exceptions import MakoException
from mako.template import Template

import alembic
from datafixes.errors import DatafixError
from datafixes.revisions.placing import Place

_NAME = "script.py.mako"
_OP = "from alembic import op"  # templates have it
_TAKES_ONE = re.compile(r"^def upgrade\(\s*\w+", re.MULTILINE)
_OF_ONE = re.compile(r"^def upgrade_(\w*)\(", re.MULTILINE)


@dataclass(frozen=True)
class _Pieces:
    """A revision in pieces; ``up`` and ``down`` are the bodies of its functions."""

    message: str
    imports: list[str]
    fixes: str
    up: str
    down: str


def in_template(text: str, place: Place, config: Config, scripts: Any, chosen: str) -> str:
    """The text of a revision, as the project's ``script.py.mako`` has it.

    Args:
        text: a revision whose functions take no arguments.
        place: its id and its parent.
        config: Alembic's configuration, which the template may ask.
        scripts: Alembic's ScriptDirectory.
        chosen: the name of the database. It is empty for the default one of Flask-Migrate, and if none is chosen.

    Raises:
        DatafixError: the project has several databases and none of them is chosen, or the template has no place
            for its migrations.
    """
    path, template = Path(scripts.dir, _NAME), _template(scripts)
    if template in ("", _own_template()):
        return text
    pieces = _pieces(text)
    known = {
        "config": config, "comma": _comma, "create_date": place.created, "message": pieces.message,
        "up_revision": place.revision, "down_revision": place.down_revision, "branch_labels": None,
        "depends_on": None, "imports": "\n".join(one for one in pieces.imports if one != _OP),
    }  # fmt: skip
    names = _OF_ONE.findall(_rendered(template, known)) if takes_a_name(scripts) else []
    if names and chosen not in names:
        named = [name for name in names if name]
        raise DatafixError(
            f"This project has several databases: {', '.join(named)}.",
            hint=f"Choose one: datafixes -n {named[0]} ...",
        )
    prefix = f"{chosen}_" if names else ""
    whole = _rendered(template, {**known, f"{prefix}upgrades": pieces.up, f"{prefix}downgrades": pieces.down})
    return _with_fixes(whole, pieces, path)


def takes_a_name(scripts: Any) -> bool:
    """Whether the project's ``upgrade()`` is told a name, such as the one of a database."""
    return bool(_TAKES_ONE.search(_template(scripts)))


def _template(scripts: Any) -> str:
    path = Path(scripts.dir, _NAME)
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _own_template() -> str:
    return Path(alembic.__file__).with_name("templates").joinpath("generic", _NAME).read_text("utf-8")


def _comma(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list | tuple) else str(value or "")


def _rendered(template: str, known: dict[str, Any]) -> str:
    try:
        return str(Template(template).render(**{"upgrades": None, "downgrades": None, **known}))
    except (MakoException, NameError, AttributeError, TypeError, SyntaxError) as error:
        words = " ".join(str(error).split())
        raise DatafixError(f"{_NAME} cannot be rendered: {type(error).__name__}: {words}") from error


def _pieces(text: str) -> _Pieces:
    """Take a revision of :mod:`datafixes.revisions.text` apart."""
    tree, lines = ast.parse(text), text.split("\n")
    message = " ".join((ast.get_docstring(tree) or "").partition("\n\nRevision ID:")[0].split())
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    last = max(node.end_lineno or 0 for node in tree.body if _is_of_the_frame(node))
    up, down = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    body = ("\n".join(lines[node.lineno : node.end_lineno]).strip() for node in (up, down))
    return _Pieces(message, imports, "\n".join(lines[last : up.lineno - 1]).strip(), *body)


def _is_of_the_frame(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "depends_on"


def _with_fixes(text: str, pieces: _Pieces, path: Path) -> str:
    """Put the declarations, and imports that the template left out, above the first function of an upgrade."""
    if pieces.up not in text or pieces.down not in text:
        raise DatafixError(
            f"{path} leaves out the migrations: it has no ${{upgrades}} or no ${{downgrades}}.",
            hint="Compare it with the one of: alembic init",
        )
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise DatafixError(f"{path} does not make a valid Python file: {error}.") from None
    have = _imported(tree)
    start = min(
        (min([node.lineno, *(one.lineno for one in node.decorator_list)]) for node in tree.body
         if isinstance(node, ast.FunctionDef) and re.match("upgrade|downgrade", node.name)),
        default=len(text.split("\n")),
    ) - 1  # fmt: skip
    lines = text.split("\n")
    above = "\n".join(one for one in pieces.imports if not _imported(ast.parse(one)) <= have)
    put = "\n\n".join(part for part in ("\n".join(lines[:start]).rstrip(), above, pieces.fixes) if part)
    return f"{put}\n\n\n" + "\n".join(lines[start:]).rstrip() + "\n"


def _imported(tree: ast.Module) -> set[str]:
    imports = (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    return {one.asname or one.name for node in imports for one in node.names}
