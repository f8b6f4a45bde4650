"""The plans of a project that runs its migrations for several databases or schemas, as one document."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datafixes.audit.wording import counted
from datafixes.plan.planned import Plan
from datafixes.report.document import Document, Fact, Section
from datafixes.report.plan import BINDING, document_of_plan, plan_as_json


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
            Section(name, one.state, facts=(Fact("Result", one.summary, one.state), *_of_one(one.facts))),
            *(replace(part, title=f"{name}: {part.title}") for part in one.sections),
        )
    ]
    return Document(
        title=documents[0].title,
        summary=f"{counted(len(plans), 'plan')}: {', '.join(names_of(plans))}.",
        state=next((state for state in ("bad", "unknown") if state in states), "good"),
        sections=tuple(sections),
        facts=_of_all(plans),
    )


def _of_one(facts: Sequence[Fact]) -> list[Fact]:
    """The facts of one of several plans: the command that binds an upgrade to it would be refused by the others."""
    return [one for one in facts if one.name != BINDING]


def _of_all(plans: Sequence[Plan]) -> tuple[Fact, ...]:
    digest, reaches = digest_of(plans), {plan.reach for plan in plans}
    if not digest or len(reaches) > 1 or any(plan.refusal for plan in plans):
        return ()
    how = " ".join(["alembic", *plans[0].flags, f"-x plan={digest}", plans[0].direction, *reaches])
    return (Fact("To run exactly these plans", how, exact=True, below=True),)


def digest_of(plans: Sequence[Plan]) -> str:
    """The value of ``alembic -x plan=`` for all of them; empty without runs, or if one cannot be met."""
    digests = [plan.digest for plan in plans if plan.runs]
    return "-".join(digests) if all(digests) else ""


def plans_as_json(plans: Sequence[Plan]) -> dict[str, Any]:
    """One plan as it is; of several, a list, each with its name."""
    if len(plans) == 1:
        return plan_as_json(plans[0])
    named = zip(names_of(plans), plans, strict=True)
    return {
        "version": 1,
        "kind": "plans",
        "digest": digest_of(plans),
        "plans": [{"name": name, "plan": plan_as_json(one)} for name, one in named],
    }


def names_of(plans: Sequence[Plan]) -> list[str]:
    """The name of each run, or else its database."""
    return [plan.name or plan.database for plan in plans]
