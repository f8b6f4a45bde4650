"""Copies that were given up, and values that were redacted, for people."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datafixes.audit.retention import GivenUp
from datafixes.audit.wording import counted, moment
from datafixes.report.document import Document, Fact, Grid, Section


def with_retention(document: Document, gone: str, went: Sequence[GivenUp]) -> Document:
    """The document of a run, with what is to be said of copies that were given up.

    Args:
        document: the run.
        gone: when its own copies were given up, and by which run; empty if they were not.
        went: the runs whose copies it gave up.
    """
    if went:
        images = sum(one.images for one in went)
        document = replace(
            document,
            summary=f"pruned: copies of {counted(len(went), 'run')} given up, {counted(images, 'image')}.",
        )
    facts = (Fact("Copies", f"{gone[:1].upper()}{gone[1:]}.", "bad"),) if gone else ()
    sections = (section_of_given_up(went),) if went else ()
    return replace(document, facts=(*document.facts, *facts), sections=(*document.sections, *sections))


def with_redaction(document: Document, erased: str, went: Sequence[GivenUp], left: Sequence[str]) -> Document:
    """The document of a run, with what is to be said of values that were redacted.

    Args:
        document: the run.
        erased: which of its own values were redacted, when, and by which run; empty if none was.
        went: the runs of whose images it redacted values.
        left: which values it did not restore, because they were redacted.
    """
    if went:
        images = sum(one.images for one in went)
        document = replace(
            document,
            summary=f"redacted: values in {counted(images, 'image')} of {counted(len(went), 'run')}.",
        )
    facts: tuple[Fact, ...] = (Fact("Redacted", f"{erased}.", "attention"),) if erased else ()
    facts += (Fact("Not restored", f"{'; '.join(left)}: redacted.", "attention"),) if left else ()
    sections = (section_of_redacted(went),) if went else ()
    return replace(document, facts=(*document.facts, *facts), sections=(*document.sections, *sections))


def gave_up_as_json(went: Sequence[GivenUp]) -> list[dict[str, Any]]:
    """The runs whose copies go."""
    return [{"run_id": one.run_id, "fix": one.fix, "images": one.images} for one in went]


def section_of_given_up(went: Sequence[GivenUp]) -> Section:
    """The runs whose copies go."""
    rows = tuple((str(one.run_id), one.fix, moment(one.finished_at), str(one.images)) for one in went)
    return Section("Copies given up", grids=(Grid("", ("run", "fix", "finished", "images"), rows, "none"),))


def section_of_redacted(went: Sequence[GivenUp]) -> Section:
    """The runs of whose images values are redacted."""
    return replace(section_of_given_up(went), title="Values redacted")
