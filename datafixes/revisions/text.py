"""The text of a revision's file, the way an author would write it: its frame, its imports, and its declarations."""

import textwrap
from dataclasses import dataclass
from typing import Any

from datafixes.declaration.fix import Change, DataFix, Insert, Update
from datafixes.declaration.recorded import Declared, RecordedFix
from datafixes.declaration.rows import Rows
from datafixes.declaration.table import Table
from datafixes.revisions.placing import Place
from datafixes.revisions.source import Group, House, Node, Text, call, laid_out, needed, node_of, quoted
from datafixes.settings.values import masked, parse_text

_ORDER = ("DataFix", "Delete", "Insert", "RecordedFix", "Rows", "Table", "Update", "sql")

_TEXT = '''\
"""{title}

{about}Revision ID: {revision}
{revises}Create Date: {created}
"""

{imports}

revision = {revision_literal}
down_revision = {down_literal}
branch_labels = None
depends_on = None
{fixes}

def upgrade() -> None:
{up}


def downgrade() -> None:
{down}
'''


@dataclass(frozen=True)
class Written:
    """A fix as it stands in a revision.

    Attributes:
        name: its variable.
        fix: the declaration.
        comment: what stands above it, in comments.
    """

    name: str
    fix: Declared
    comment: str = ""


@dataclass(frozen=True)
class Parts:
    """What is particular about a revision.

    Attributes:
        title: what it is, for its first line.
        up: the lines of its upgrade, indented.
        down: the lines of its downgrade, indented.
        fixes: its declarations, in this order.
        about: more about it, each line wrapped by itself.
    """

    title: str
    up: str
    down: str
    fixes: tuple[Written, ...] = ()
    about: tuple[str, ...] = ()


def revision_text(place: Place, parts: Parts, house: House) -> str:
    """The file of a revision.

    Args:
        place: its id and what it stands on.
        parts: what it does.
        house: what the project's formatter wants.
    """
    nodes = [_node_of_fix(one.fix) for one in parts.fixes]
    blocks = [_block(one, node, house) for one, node in zip(parts.fixes, nodes, strict=True)]
    title = parts.title[:1].upper() + parts.title[1:].rstrip(".") + "."
    about = "\n".join(_prose(line, house, "  ") for line in parts.about)
    down = place.down_revision
    return _TEXT.format(
        title=_prose(title, house),
        about=about and f"{about}\n\n",
        revision=place.revision,
        revises=f"Revises: {down}\n" if down else "Revises:\n",
        created=place.created.isoformat(sep=" ", timespec="seconds"),
        imports=_imports(frozenset[str]().union(*map(needed, nodes)), house),
        revision_literal=quoted(place.revision),
        down_literal="None" if down is None else quoted(down),
        fixes="\n" + "\n\n".join(blocks) + "\n" if blocks else "",
        up=parts.up,
        down=parts.down,
    )


def _block(one: Written, node: Group, house: House) -> str:
    head = f"{one.name} = "
    return f"{one.comment}\n{head}".lstrip("\n") + laid_out(node, house.width, taken=len(head))


def plain(text: str) -> str:
    """Any text as it may stand in a file for review: on one line, without passwords."""
    return masked(parse_text(text))


def _prose(line: str, house: House, indent: str = "") -> str:
    """A line for a docstring, without what would have to be escaped."""
    shown = plain(line).replace("\\", "/").replace('"', "'")
    return "\n".join(
        textwrap.wrap(
            shown, house.width - 3, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
    )


def _imports(needs: frozenset[str], house: House) -> str:
    """The imports, in the groups of isort: the standard library, third parties, the project's own."""
    names = ", ".join(name for name in _ORDER if name in needs)
    lines = {"alembic": "from alembic import op"}
    if names:
        line = f"from datafixes import {names}"
        if len(line) > house.width:
            line = "from datafixes import (\n" + "".join(f"    {name},\n" for name in names.split(", ")) + ")"
        lines["datafixes"] = line
    standard = [
        line
        for name, line in (("dt", "import datetime as dt"), ("Decimal", "from decimal import Decimal"))
        if name in needs
    ]
    third = [line for name, line in lines.items() if name not in house.ours]
    own = [line for name, line in lines.items() if name in house.ours]
    return "\n\n".join("\n".join(group) for group in (standard, third, own) if group)


def _node_of_fix(fix: Declared) -> Group:
    """A declaration with what is not as it is by default."""
    if isinstance(fix, RecordedFix):
        return call(
            "RecordedFix",
            name=Text(fix.name),
            reason=Text(fix.reason),
            tables=Group("[", tuple(("", _table(table)) for table in fix.tables), "]"),
            audit_schema=_unless(fix.audit_schema, ""),
        )
    return _declared(fix)


def _declared(fix: DataFix) -> Group:
    return call(
        "DataFix",
        name=Text(fix.name),
        reason=Text(fix.reason),
        change=_change(fix.change),
        rows=_rows(fix.rows),
        audit=Text(fix.audit),
        housekeeping=_unless(list(fix.housekeeping), []),
        audit_schema=_unless(fix.audit_schema, ""),
    )


def _change(change: Change) -> Group:
    return call(
        type(change).__name__,
        Text(change.table),
        set=node_of(dict(change.set)) if isinstance(change, Update) else None,
        rows=node_of([dict(row) for row in change.rows]) if isinstance(change, Insert) else None,
        where=_unless(change.where, ""),
        schema=_unless(change.schema, "public"),
    )


def _rows(rows: Rows) -> Group:
    return call(
        "Rows",
        key=node_of(rows.key),
        identity=_unless(dict(rows.identity), {}),
        expect=node_of(rows.expect),
        already=_unless(rows.already, ""),
        ensure=_unless(rows.ensure, ""),
    )


def _table(table: Table) -> Group:
    return call(
        "Table",
        Text(table.table),
        Text(table.audit),
        schema=_unless(table.schema, "public"),
        key=_unless(table.key, ()),
        identity=_unless(dict(table.identity), {}),
        inserted=_unless(table.inserted, 0),
        updated=_unless(table.updated, 0),
        deleted=_unless(table.deleted, 0),
    )


def _unless(value: Any, default: Any) -> Node | None:
    return None if value == default else node_of(value)
