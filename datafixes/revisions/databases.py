"""Revisions of a project with several databases, whose ``upgrade()`` takes the name of one, as in Alembic's multidb."""

import re
from pathlib import Path
from typing import Any

from alembic.config import Config
from mako.template import Template

from datafixes.errors import DatafixError

_TAKES_ONE = re.compile(r"^def upgrade\(\s*(\w+)", re.MULTILINE)
_OF_ONE = re.compile(r"^def upgrade_(\w*)\(", re.MULTILINE)
_OWN = re.compile(r"^def (upgrade|downgrade)\(\) -> None:$", re.MULTILINE)

_CALLS = """\
def {name}(engine_name: str) -> None:
    globals()[f"{name}_{{engine_name}}"]()


{others}def {name}_{chosen}() -> None:"""
_NOTHING = "def {name}_{other}() -> None:\n    pass\n\n\n"


def for_database(text: str, config: Config, scripts: Any, chosen: str) -> str:
    """The text of a revision as the project's ``env.py`` calls it: unchanged, or for one of several databases.

    Args:
        text: a revision whose functions take no arguments.
        config: Alembic's configuration, which the project's ``script.py.mako`` may ask.
        scripts: Alembic's ScriptDirectory.
        chosen: the name of the database. It is empty for the default one of Flask-Migrate, and if none is chosen.

    Raises:
        DatafixError: the project has several databases, and none of them is chosen.
    """
    names = _databases(config, Path(scripts.dir, "script.py.mako"))
    if not names:
        return text
    if chosen not in names:
        named = [name for name in names if name]
        raise DatafixError(
            f"This project has several databases: {', '.join(named)}.",
            hint=f"Choose one: datafixes -n {named[0]} ...",
        )

    def called(found: re.Match[str]) -> str:
        others = "".join(_NOTHING.format(name=found[1], other=other) for other in names if other != chosen)
        return _CALLS.format(name=found[1], others=others, chosen=chosen)

    return _OWN.sub(called, text)


def _databases(config: Config, template: Path) -> list[str]:
    """The databases for which the project's template writes functions; none if its upgrade() takes no argument."""
    if not template.is_file():
        return []
    text = template.read_text(encoding="utf-8")
    if not _TAKES_ONE.search(text):
        return []
    unsaid = dict.fromkeys(
        ("branch_labels", "depends_on", "down_revision", "imports", "upgrades", "downgrades")
    )
    rendered = Template(text).render(
        config=config, message="", up_revision="", create_date="", comma=str, **unsaid
    )
    return _OF_ONE.findall(rendered)
