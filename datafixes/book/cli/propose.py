"""``datafixes propose``."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import click

from datafixes.book.compare.reconciling import Reconciliation, open_broker, reconcile
from datafixes.book.propose.gathering import Findings, gather
from datafixes.book.propose.pending import check_pending_runs
from datafixes.book.propose.proposal_text import proposal_text, slug_of
from datafixes.book.propose.proposing import Proposal, propose
from datafixes.book.report.reconcile import PROPOSED_WITH, summary
from datafixes.book.settings import COMPARED, BookSettings
from datafixes.cli.main import FAILED, OK
from datafixes.cli.project_options import Where, pass_where, place_options
from datafixes.project import Project
from datafixes.revisions.placing import Place, Wanted, place_for, write_revision
from datafixes.settings.values import parse_text


@click.command(epilog="Example: datafixes propose --phantoms    Then: datafixes plan")
@click.option("--phantoms", is_flag=True, help="Close positions that only the book has.")
@click.option("--duplicates", is_flag=True, help="Close duplicate rows, except the oldest.")
@click.option("--missing", is_flag=True, help="Insert positions that only the broker has.")
@click.option("--quantities", is_flag=True, help="Set quantities to the broker's.")
@click.option("--account", metavar="NAME", help="Only for this account (all are compared).")
@click.option("--trust-keys", is_flag=True, help="Assume that all keys belong to their accounts.")
@place_options
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where,
    /,
    account: str | None,
    trust_keys: bool,
    rev_id: str | None,
    head: str | None,
    version_path: str | None,
    **asked: bool,
) -> int:
    """Write one revision, for review, from the differences between book and broker.

    It only reads, and writes a file; alembic upgrade changes the rows. Doubtful differences are not proposed, nor
    changes already covered by a pending revision. Exit code 1: an account is unknown, or rows of the book cannot be
    compared (certain differences are still proposed); or a pending fix can no longer run.
    """
    project = where.project()
    project.heads()  # fails first if there is no project
    settings = BookSettings.of(project.settings).need(*COMPARED)
    broker = open_broker(settings)
    found = reconcile(project, broker)
    shown = found if account is None else found.only(account)
    kinds = [kind for kind, option in PROPOSED_WITH.items() if asked[option.removeprefix("--")]]
    _say(summary(found))
    _report_doubts(found)
    _report_others(shown, kinds)
    if any(one.kind in kinds for one in shown.comparison.differences):
        findings = gather(project, broker, shown, kinds, _say)
        # A position of another account may be the one that this account lacks, so all are judged.
        findings = replace(findings, found=found, account=account or "", trusted=trust_keys)
        _propose(project, findings, Wanted(rev_id, head, version_path))
    else:
        _say("Nothing to propose, so nothing was written.")
    return OK if found.is_certain else FAILED


def _say(line: str) -> None:
    """Write a line to stderr; names of accounts cannot break it."""
    click.echo(parse_text(line), err=True)


def _report_doubts(found: Reconciliation) -> None:
    for account, why in found.comparison.unknown.items():
        _say(f"Account {account} is unknown, so nothing is proposed for it: {why}")
    for row in found.book.unreadable:
        _say(f"Row {row.id} of the book cannot be compared: {row.why}")
    for one in found.comparison.left_out:
        _say(f"Not compared, so nothing is proposed for it (broker_ignore): {one}")


def _report_others(found: Reconciliation, kinds: Sequence[str]) -> None:
    """Report the kinds of differences that were not requested, and their options."""
    others = dict.fromkeys(one.kind for one in found.comparison.differences if one.kind not in kinds)
    for kind in others:
        count = sum(one.kind == kind for one in found.comparison.differences)
        option = PROPOSED_WITH.get(kind)
        how = f"propose them with {option}" if option else "to be decided by a person"
        _say(f"Not requested: {count} of kind {kind} ({how})")


def _propose(project: Project, findings: Findings, wanted: Wanted) -> None:
    """Write the revision, or report why not."""
    first = propose(findings)
    for line in first.left:
        _say(f"Left alone: {line}")
    place = _place(project, first, wanted) if first.fixes else None
    if first.fixes or first.waiting:
        on = place.down_revision if place else wanted.head
        check_pending_runs(project, findings.pending, on or "heads", _say)
    for revision, count in first.waiting.items():
        _say(
            f"Pending revision {revision} already covers {count} of these. Run it (alembic upgrade head), or delete"
            " it to regenerate the proposal."
        )
        click.echo(str(findings.pending.paths[revision]))
    if place is None:
        if not first.waiting:
            _say("Nothing to propose, so nothing was written.")
        return
    fixes = propose(replace(findings, revision=place.revision)).fixes
    text = proposal_text(place, fixes, findings.found, first.left)
    write_revision(project.scripts, place, text)
    click.echo(str(place.path))
    _say("Next: read it, then datafixes check and plan.")


def _place(project: Project, proposal: Proposal, wanted: Wanted) -> Place:
    """The next number, or else an id that depends only on the findings and the parent revision."""
    title = slug_of(proposal.fixes)
    place = place_for(project.scripts, title, wanted)
    if wanted.revision is None and not place.revision.isdecimal():
        content = [place.down_revision or "", *(one.fix.fingerprint for one in proposal.fixes)]
        digest = hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]
        place = place_for(project.scripts, title, replace(wanted, revision=digest))
    return place
