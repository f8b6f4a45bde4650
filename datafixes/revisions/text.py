"""The text of a revision's file: its frame, its imports, and its declarations."""

import textwrap
from dataclasses import dataclass
from typing import Any

from datafixes.declaration.fix import Change, DataFix, Insert, Update
from datafixes.declaration.recorded import Declared, RecordedFix
from datafixes.declaration.rows import Rows
from datafixes.declaration.table import Table
from datafixes.revisions.placing import Place
from datafixes.revisions.source import WIDTH, Source, call, laid_out, quoted, source_of
from datafixes.settings.values import masked, parse_text

_ORDER = ("AtMost", "Batches", "DataFix", "Delete", "Insert", "RecordedFix", "Rows", "Table", "Update", "sql")

SCHEMA_OF_RUN = "schema_of_run"
"""The function of the operations that says for which schema env.py runs."""

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
    """A fix in a revision.

    Attributes:
        name: its variable.
        fix: the declaration.
        comment: the comment above it.
    """

    name: str
    fix: Declared
    comment: str = ""


@dataclass(frozen=True)
class Parts:
    """The parts of a revision.

    Attributes:
        title: its first line.
        up: the lines of its upgrade, indented.
        down: the lines of its downgrade, indented.
        fixes: its declarations, in this order.
        about: further paragraphs of its docstring, each line wrapped by itself.
    """

    title: str
    up: str
    down: str
    fixes: tuple[Written, ...] = ()
    about: tuple[str, ...] = ()


def revision_text(place: Place, parts: Parts) -> str:
    """The file of a revision.

    Args:
        place: its id and its parent.
        parts: its contents.
    """
    sources = [_declaration(one.fix) for one in parts.fixes]
    blocks = [_block(one, source) for one, source in zip(parts.fixes, sources, strict=True)]
    title = parts.title[:1].upper() + parts.title[1:].rstrip(".") + "."
    about = "\n".join(_prose(line, "  ") for line in parts.about)
    down = place.down_revision
    return _TEXT.format(
        title=_prose(title),
        about=about and f"{about}\n\n",
        revision=place.revision,
        revises=f"Revises: {down}\n" if down else "Revises:\n",
        created=place.created.isoformat(sep=" ", timespec="seconds"),
        imports=_imports(frozenset[str]().union(*(source.imports for source in sources)), parts.up),
        revision_literal=quoted(place.revision),
        down_literal="None" if down is None else quoted(down),
        fixes="\n" + "\n\n".join(blocks) + "\n" if blocks else "",
        up=parts.up,
        down=parts.down,
    )


def _block(one: Written, source: Source) -> str:
    head = f"{one.name} = "
    return f"{one.comment}\n{head}".lstrip("\n") + laid_out(source, taken=len(head))


def plain(text: str) -> str:
    """A text for a file under review: on one line, without passwords."""
    return masked(parse_text(text))


def _prose(line: str, indent: str = "") -> str:
    """A line for a docstring, without characters that need escaping."""
    shown = plain(line).replace("\\", "/").replace('"', "'")
    return "\n".join(
        textwrap.wrap(
            shown, WIDTH - 3, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
    )


def _imports(needs: frozenset[str], up: str) -> str:
    """The imports: the standard library, then the two packages."""
    standard = {"dt": "import datetime as dt", "Decimal": "from decimal import Decimal"}
    lines = [line for name, line in standard.items() if name in needs]
    names = ", ".join(name for name in _ORDER if name in needs)
    lines += ["", "from alembic import op"] if lines else ["from alembic import op"]
    lines += [f"from datafixes import {names}"] if names else []
    lines += [f"from datafixes.operations import {SCHEMA_OF_RUN}"] if f"{SCHEMA_OF_RUN}(op)" in up else []
    return "\n".join(lines)


def _declaration(fix: Declared) -> Source:
    """A declaration, without arguments that have their default."""
    if isinstance(fix, RecordedFix):
        return call(
            "RecordedFix",
            name=source_of(fix.name),
            reason=source_of(fix.reason),
            tables=Source("[", tuple(("", _table(table)) for table in fix.tables), "]"),
            audit_schema=_unless(fix.audit_schema, ""),
        )
    return _declared(fix)


def _declared(fix: DataFix) -> Source:
    return call(
        "DataFix",
        name=source_of(fix.name),
        reason=source_of(fix.reason),
        change=_change(fix.change),
        rows=_rows(fix.rows),
        audit=source_of(fix.audit),
        housekeeping=_unless(list(fix.housekeeping), []),
        audit_schema=_unless(fix.audit_schema, ""),
        without=_unless(list(fix.without), []),
        batches=None if fix.batches is None else call("Batches", rows=Source(f"{fix.batches.rows:_}")),
    )


def _change(change: Change) -> Source:
    return call(
        type(change).__name__,
        source_of(change.table),
        set=source_of(dict(change.set)) if isinstance(change, Update) else None,
        rows=source_of([dict(row) for row in change.rows]) if isinstance(change, Insert) else None,
        where=_unless(change.where, ""),
        schema=_unless(change.schema, "public"),
    )


def _rows(rows: Rows) -> Source:
    return call(
        "Rows",
        key=source_of(rows.key),
        identity=_unless(dict(rows.identity), {}),
        expect=source_of(rows.expect),
        already=_unless(rows.already, ""),
        ensure=_unless(rows.ensure, ""),
    )


def _table(table: Table) -> Source:
    return call(
        "Table",
        source_of(table.table),
        source_of(table.audit),
        schema=_unless(table.schema, "public"),
        key=_unless(table.key, ()),
        identity=_unless(dict(table.identity), {}),
        inserted=_unless(table.inserted, 0),
        updated=_unless(table.updated, 0),
        deleted=_unless(table.deleted, 0),
    )


def _unless(value: Any, default: Any) -> Source | None:
    return None if value == default else source_of(value)
