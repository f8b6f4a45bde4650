"""The text of a proposed revision: its evidence, its fixes, and its downgrade."""

import textwrap
from collections.abc import Sequence

from datafixes.audit.wording import moment
from datafixes.book.compare.reconciling import Reconciliation
from datafixes.book.positions.position import Known
from datafixes.book.propose.proposed_fixes import ProposedFix
from datafixes.declaration.fix import DataFix
from datafixes.revisions.placing import Place
from datafixes.revisions.source import WIDTH
from datafixes.revisions.text import Parts, Written, plain, revision_text

_MOST_ROWS = 200
_LONGEST_SLUG = 40


def slug_of(fixes: Sequence[ProposedFix]) -> str:
    """The title for the name of a file, which Alembic cuts after forty characters."""
    slug = " ".join(["reconcile", *(_variable(one.fix).split("_")[1] for one in fixes)])
    return slug if len(slug) <= _LONGEST_SLUG else "reconcile the book"


def proposal_text(
    place: Place, fixes: Sequence[ProposedFix], found: Reconciliation, left: Sequence[str] = ()
) -> str:
    """The revision.

    Args:
        place: its id and its parent.
        fixes: its fixes, in order.
        found: the comparison, for the evidence.
        left: the differences that are left alone, a line each.
    """
    names = [_variable(one.fix) for one in fixes]
    parts = Parts(
        f"reconcile: {', '.join(_deed(one.fix) for one in fixes)}",
        up="\n".join(f"    op.apply_datafix({name})" for name in names),
        down="\n".join(f"    op.revert_datafix({name})" for name in reversed(names)),
        fixes=tuple(Written(name, one.fix, _comment(one)) for name, one in zip(names, fixes, strict=True)),
        about=tuple(_evidence(found, left)),
    )
    return revision_text(place, parts)


def _variable(fix: DataFix) -> str:
    """The name of the fix without the revision's id at its end."""
    return "_".join(fix.name.split("_")[:2])


def _deed(fix: DataFix) -> str:
    """``close 7 phantoms``, ``insert 1 missing``."""
    count = fix.rows_expected
    verb, what = _variable(fix).split("_")
    one = {"phantoms": "phantom", "duplicates": "duplicate", "quantities": "quantity"}.get(what, what)
    return f"{verb} {count} {what if count > 1 else one}"


def _evidence(found: Reconciliation, left: Sequence[str]) -> list[str]:
    """When and from where the book and the broker were read, and what is not included."""
    lines = [f"The book: {found.book.source}, read {moment(found.book.read_at)}."]
    for account, answer in sorted(found.answers.items()):
        if isinstance(answer, Known):
            read_at = moment(answer.read_at or found.read_at)
            lines.append(f"The broker, account {account}: {answer.source or found.broker}, read {read_at}.")
    lines += [
        f"Unknown, and not included: account {account}, {why}."
        for account, why in found.comparison.unknown.items()
    ]
    lines += [f"Not compared, and not included (broker_ignore): {one}." for one in found.comparison.left_out]
    return lines + [f"Left alone: {line}." for line in left[:_MOST_ROWS]]


def _comment(one: ProposedFix) -> str:
    """The evidence of a fix, in comments above it."""
    lines = ["Evidence:", *one.evidence[:_MOST_ROWS]]
    if len(one.evidence) > _MOST_ROWS:
        lines.append(f"and {len(one.evidence) - _MOST_ROWS} more")
    if one.guards:
        lines.append(f"Conditions when it runs: {one.guards}.")
    return "\n".join(
        textwrap.fill(
            plain(line),
            WIDTH,
            initial_indent="#   " if line in one.evidence else "# ",
            subsequent_indent="#       " if line in one.evidence else "# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )
