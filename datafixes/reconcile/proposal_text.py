"""The text of a proposed revision: its evidence, its fixes, and the way back."""

import textwrap
from collections.abc import Sequence

from datafixes.fix import Change, DataFix, Insert, Update
from datafixes.placing import Place
from datafixes.reconcile.evidence import moment
from datafixes.reconcile.positions import Known
from datafixes.reconcile.proposed_fixes import ProposedFix
from datafixes.reconcile.reconciling import Reconciliation
from datafixes.revision import imports_of as imports_of
from datafixes.source import Group, House, Node, Text, call, laid_out, needed, node_of, quoted
from datafixes.values import masked, parse_text

_MOST_ROWS = 200
_LONGEST_SLUG = 40

_TEXT = '''\
"""{title}

{evidence}

Revision ID: {revision}
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


def title_of(fixes: Sequence[ProposedFix]) -> str:
    """What a revision does, in a few words: ``reconcile: close 7 phantoms, insert 1 missing``."""
    return f"reconcile: {', '.join(_deed(one.fix) for one in fixes)}"


def slug_of(fixes: Sequence[ProposedFix]) -> str:
    """The same for the name of a file, of which Alembic keeps forty characters."""
    slug = " ".join(["reconcile", *(_variable(one.fix).split("_")[1] for one in fixes)])
    return slug if len(slug) <= _LONGEST_SLUG else "reconcile the book"


def revision_text(
    place: Place, fixes: Sequence[ProposedFix], found: Reconciliation, house: House, left: Sequence[str] = ()
) -> str:
    """The revision.

    Args:
        place: its id and what it stands on.
        fixes: what it does, in this order.
        found: what was compared, for the evidence.
        house: what the project's formatter wants.
        left: what is left alone, a line each.
    """
    names = [_variable(one.fix) for one in fixes]
    nodes = [_declared(one.fix) for one in fixes]
    needs = frozenset[str]().union(*(needed(node) for node in nodes))
    blocks = [
        f"{_comment(one, house)}\n{name} = {laid_out(node, house.width, taken=len(f'{name} = '))}"
        for one, name, node in zip(fixes, names, nodes, strict=True)
    ]
    down = place.down_revision
    return _TEXT.format(
        title=_docstring(f"{title_of(fixes)}.".replace("reconcile", "Reconcile", 1), house),
        evidence="\n".join(_docstring(line, house) for line in _evidence(found, left)),
        revision=place.revision,
        revises=f"Revises: {down}\n" if down else "Revises:\n",
        created=place.created.isoformat(sep=" ", timespec="seconds"),
        imports=imports_of(needs, house),
        revision_literal=quoted(place.revision),
        down_literal="None" if down is None else quoted(down),
        fixes="\n\n".join(blocks),
        up="\n".join(f"    op.apply_datafix({name})" for name in names),
        down="\n".join(f"    op.revert_datafix({name})" for name in reversed(names)),
    )


def _variable(fix: DataFix) -> str:
    """The name of the fix without the revision's id at its end."""
    return "_".join(fix.name.split("_")[:2])


def _deed(fix: DataFix) -> str:
    count = fix.rows_expected
    verb, what = _variable(fix).split("_")
    return f"{verb} {count} {what if count > 1 or what == 'missing' else _ONE[what]}"


_ONE = {"phantoms": "phantom", "duplicates": "duplicate", "quantities": "quantity"}


def _evidence(found: Reconciliation, left: Sequence[str]) -> list[str]:
    """When and from where the book and the broker were read, and what is not in this."""
    lines = [f"The book: {found.book.source}, read {moment(found.book.read_at)}."]
    for account, answer in sorted(found.answers.items()):
        if isinstance(answer, Known):
            read_at = moment(answer.read_at or found.read_at)
            lines.append(f"The broker, account {account}: {answer.source or found.broker}, read {read_at}.")
    lines += [
        f"Unknown, and left out: account {account}, {why}."
        for account, why in found.comparison.unknown.items()
    ]
    return lines + [f"Left alone: {line}." for line in left[:_MOST_ROWS]]


def _comment(one: ProposedFix, house: House) -> str:
    """The evidence of a fix, in comments above it."""
    lines = ["What was seen:", *one.evidence[:_MOST_ROWS]]
    if len(one.evidence) > _MOST_ROWS:
        lines.append(f"and {len(one.evidence) - _MOST_ROWS} more")
    return "\n".join(
        textwrap.fill(
            _plain(line),
            house.width,
            initial_indent="# " if number == 0 else "#   ",
            subsequent_indent="#       ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for number, line in enumerate(lines)
    )


def _docstring(line: str, house: House) -> str:
    """A line of prose for a docstring, without what would have to be escaped."""
    shown = _plain(line).replace("\\", "/").replace('"', "'")
    return "\n".join(
        textwrap.wrap(
            shown, house.width - 3, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    )


def _plain(text: str) -> str:
    return masked(parse_text(text))


def _declared(fix: DataFix) -> Group:
    return call(
        "DataFix",
        name=Text(fix.name),
        reason=Text(_plain(fix.reason)),
        change=_change(fix.change),
        rows=call(
            "Rows",
            key=node_of(fix.rows.key),
            identity=_given(dict(fix.rows.identity)),
            expect=node_of(fix.rows.expect),
            already=_given(fix.rows.already),
            ensure=_given(fix.rows.ensure),
        ),
        audit=Text(fix.audit),
        housekeeping=_given(list(fix.housekeeping)),
        audit_schema=_given(fix.audit_schema),
    )


def _change(change: Change) -> Group:
    schema = None if change.schema == "public" else Text(change.schema)
    if isinstance(change, Insert):
        return call(
            "Insert",
            Text(change.table),
            rows=node_of([dict(row) for row in change.rows]),
            schema=schema,
            where=_given(change.where),
        )
    values = node_of(dict(change.set)) if isinstance(change, Update) else None
    return call(
        type(change).__name__, Text(change.table), set=values, where=Text(change.where), schema=schema
    )


def _given(value: object) -> Node | None:
    return node_of(value) if value else None
