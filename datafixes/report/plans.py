"""The plans of a project that runs its migrations for several databases or schemas, as one document."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datafixes.audit.wording import counted
from datafixes.plan.planned import Plan
from datafixes.report.document import Document, Fact, Section
from datafixes.report.plan import document_of_plan, plan_as_json


def document_of_plans(plans: Sequence[Plan]) -> Document:
    """One plan as it is; of several, each under its name."""
    documents = [document_of_plan(plan) for plan in plans]
    if len(plans) == 1:
        return documents[0]
    states = [one.state for one in documents]
    sections = [
        section
        for name, one in zip(names_of(plans), documents, strict=True)
        for section in (
            Section(name, one.state, facts=(Fact("Result", one.summary, one.state), *one.facts)),
            *(replace(part, title=f"{name}: {part.title}") for part in one.sections),
        )
    ]
    return Document(
        title=documents[0].title,
        summary=f"{counted(len(plans), 'plan')}: {', '.join(names_of(plans))}.",
        state=next((state for state in ("bad", "unknown") if state in states), "good"),
        sections=tuple(sections),
    )


def plans_as_json(plans: Sequence[Plan]) -> dict[str, Any]:
    """One plan as it is; of several, a list, each with its name."""
    if len(plans) == 1:
        return plan_as_json(plans[0])
    named = zip(names_of(plans), plans, strict=True)
    return {
        "version": 1,
        "kind": "plans",
        "plans": [{"name": name, "plan": plan_as_json(one)} for name, one in named],
    }


def names_of(plans: Sequence[Plan]) -> list[str]:
    """The name of each run, or else its database."""
    return [plan.name or plan.database for plan in plans]
