"""The text of a revision: a fix as its declaration, the way an author would write it."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from datafixes.fix import DataFix, Update
from datafixes.placing import Place
from datafixes.recorded import Fix, RecordedFix
from datafixes.rows import Rows
from datafixes.source import Group, House, Node, Text, call, laid_out, needed, node_of, quoted
from datafixes.table import Table

_HOUSE = House()
_ORDER = ("DataFix", "Delete", "Insert", "RecordedFix", "Rows", "Table", "Update", "sql")

_TEXT = '''\
"""{title}

Revision ID: {revision}
{revises}Create Date: {created}
"""

{imports}

revision = {revision_literal}
down_revision = {down_literal}
branch_labels = None
depends_on = None
{fix}

def upgrade() -> None:
{up}


def downgrade() -> None:
{down}
'''


def revision_of_fix(
    place: Place, title: str, fix: Fix, house: House = _HOUSE, *, statements: str = ""
) -> str:
    """A revision that applies a fix, and whose downgrade reverts it.

    Args:
        place: its id and what it stands on.
        title: what it is, for its first line.
        fix: the declaration.
        house: what the project's formatter wants.
        statements: of a recorded fix, its SQL: it stands there as it is.
    """
    node = _recorded(fix) if isinstance(fix, RecordedFix) else _declared(fix)
    if isinstance(fix, RecordedFix):
        up = f"    with op.record_datafix(fix) as body:\n{_execute(statements, house)}"
    else:
        up = "    op.apply_datafix(fix)"
    declaration = f"\nfix = {laid_out(node, house.width, taken=len('fix = '))}\n"
    return _text(place, title, house, needed(node), (declaration, up, "    op.revert_datafix(fix)"))


def revision_of_audit_tables(
    place: Place,
    title: str,
    made: Iterable[Mapping[str, str]],
    house: House = _HOUSE,
    *,
    update: bool = False,
) -> str:
    """A revision that makes audit tables, or brings them to the shape of their targets.

    Args:
        place: its id and what it stands on.
        title: what it is, for its first line.
        made: the arguments of ``op.create_audit_table``: ``target``, ``name``, and where needed ``schema`` and
            ``audit_schema``.
        house: what the project's formatter wants.
        update: the audit tables are there.
    """
    up, down = [], []
    for given in made:
        named = {word: Text(value) for word, value in given.items() if word != "target"}
        up.append(
            call(
                "op.update_audit_table" if update else "op.create_audit_table", Text(given["target"]), **named
            )
        )
        schema = given.get("audit_schema") or given.get("schema")
        where = {} if schema is None else {"audit_schema": Text(schema)}
        down.append(call("op.drop_audit_table", Text(given["name"]), **where))
    lines = [_statements(up, house), "    pass" if update else _statements(reversed(down), house)]
    return _text(place, title, house, frozenset(), ("", *lines))


def _statements(nodes: Iterable[Node], house: House) -> str:
    return "\n".join(f"    {laid_out(node, house.width, '    ')}" for node in nodes)


def _text(place: Place, title: str, house: House, needs: frozenset[str], parts: tuple[str, ...]) -> str:
    fix, up, down = parts
    return _TEXT.format(
        title=_title(title, house),
        revision=place.revision,
        revises=f"Revises: {place.down_revision}\n" if place.down_revision else "Revises:\n",
        created=place.created.isoformat(sep=" ", timespec="seconds"),
        imports=imports_of(needs, house),
        revision_literal=quoted(place.revision),
        down_literal="None" if place.down_revision is None else quoted(place.down_revision),
        fix=fix,
        up=up,
        down=down,
    )


def _title(title: str, house: House) -> str:
    """The message as the first sentence of a docstring."""
    words = " ".join(title.split())
    shown = "".join(mark if mark.isprintable() else " " for mark in words[:1].upper() + words[1:])
    # What a docstring would have to escape.
    shown = shown.replace("\\", "/").replace('"', "'").rstrip(".") + "."
    return "\n".join(textwrap.wrap(shown, house.width - 3, break_long_words=False, break_on_hyphens=False))


def imports_of(needs: frozenset[str], house: House) -> str:
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


def _declared(fix: DataFix) -> Group:
    change = fix.change
    if isinstance(change, Update):
        node = call(
            "Update",
            Text(change.table),
            set=node_of(change.set),
            where=_unless(change.where, ""),
            schema=_unless(change.schema, "public"),
        )
    else:
        node = call(
            type(change).__name__,
            Text(change.table),
            where=_unless(getattr(change, "where", ""), ""),
            schema=_unless(change.schema, "public"),
        )
    return call(
        "DataFix",
        name=Text(fix.name),
        reason=Text(fix.reason),
        change=node,
        rows=_rows(fix.rows),
        audit=Text(fix.audit),
        audit_schema=_unless(fix.audit_schema, ""),
    )


def _rows(rows: Rows) -> Group:
    return call(
        "Rows",
        key=node_of(rows.key),
        identity=_unless(dict(rows.identity), {}),
        expect=node_of(rows.expect),
    )


def _recorded(fix: RecordedFix) -> Group:
    return call(
        "RecordedFix",
        name=Text(fix.name),
        reason=Text(fix.reason),
        tables=Group("[", tuple(("", _table(table)) for table in fix.tables), "]"),
        audit_schema=_unless(fix.audit_schema, ""),
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


def _execute(statements: str, house: House) -> str:
    """``body.execute`` with SQL as it is, in the form of literal that shows it best."""
    indent = " " * 8
    line = f"{indent}body.execute({quoted(statements)})"
    if "\n" not in statements and len(line) <= house.width:
        return line
    prefix, text = "", statements
    plain = all(mark.isprintable() or mark in "\n\t" for mark in text)
    if not plain or '"""' in text or text.endswith(('"', "\\")):
        text = "".join(
            mark if (mark.isprintable() and mark not in '\\"') or mark in "\n\t" else _escaped(mark)
            for mark in text
        )
    elif "\\" in text:
        prefix = "r"
    # What is there already stays as it is, however long.
    lines = text.split("\n")
    codes = ["E501"] if any(len(line) > house.longest for line in lines) else []
    codes += ["W291"] if any(line != line.rstrip() and line.strip() for line in lines) else []
    codes += ["W293"] if any(line and not line.strip() for line in lines) else []
    noqa = f"  # noqa: {', '.join(codes)}" if codes else ""
    return f'{indent}body.execute({prefix}"""\n{text}\n"""){noqa}'


def _escaped(mark: str) -> str:
    return f"\\{mark}" if mark in '\\"' else mark.encode("unicode_escape").decode("ascii")
