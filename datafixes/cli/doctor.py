"""``datafixes doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from datafixes.cli.main import DIFFERENT, OK
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where
from datafixes.report.document import Document, Fact, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datafixes.doctor.examination import Examination


@click.command(epilog="Example: datafixes doctor")
@format_options
@pass_where
def command(where: Where, form: str, output: str | None) -> int:
    """Look for known problems: in env.py, the revisions, the database and its privileges.

    Nothing is changed. Without a database, the project alone is examined. Exit code 3: a problem must be fixed;
    warnings do not count.
    """
    from datafixes.doctor.examination import examine  # Alembic is slow to import

    found = examine(where.project())
    show(
        lambda: _document(found),
        lambda: {
            "version": 1,
            "kind": "doctor",
            "fine": found.is_fine,
            "findings": [
                {
                    "part": part,
                    "check": one.name,
                    "state": one.state,
                    "evidence": one.text,
                    "remedy": one.remedy,
                }
                for part, findings in (("project", found.project), ("database", found.database))
                for one in findings
            ],
        },
        form,
        output,
    )
    return OK if found.is_fine else DIFFERENT


def _document(found: Examination) -> Document:
    states = [one.state for one in found.findings]
    words = (
        f"{states.count('bad')} to fix, {states.count('attention')} to review, {states.count('good')} good."
    )
    return Document(
        title="Doctor",
        summary=words,
        state="good" if found.is_fine else "bad",
        sections=(_section("Project", found.project), _section("Database", found.database)),
    )


def _section(title: str, findings: Sequence[Fact]) -> Section:
    facts = [Fact(one.name, " ".join((one.text, one.remedy)).strip(), one.state) for one in findings]
    return Section(title, facts=tuple(facts))
