"""A plan, for people and for programs."""

from dataclasses import replace
from typing import Any

from datafixes.audit.changes import Changes
from datafixes.audit.sequences import Behind
from datafixes.audit.wording import counted, counts
from datafixes.plan.planned import (
    Plan,
    PlannedRun,
    PlannedStep,
    PlannedTable,
    Refusal,
    Reversal,
    Unplannable,
)
from datafixes.report.document import Document, Fact, Section
from datafixes.report.planned_batches import batches_as_json, of_batches
from datafixes.report.retention import gave_up_as_json, section_of_given_up, section_of_redacted
from datafixes.report.runs import (
    changes_as_json,
    only_changed,
    run_as_json,
)
from datafixes.report.stamped import section_of_stamped

BINDING = "To run exactly this plan"
"""The name of the fact that binds an upgrade to the plan."""


def document_of_plan(plan: Plan) -> Document:
    """The plan as a document."""
    sections = [section for step in plan.steps for section in _sections(step)]
    if plan.refusal is not None:
        sections.append(_refused(plan.refusal))
    if plan.unplannable is not None:
        sections.append(_unplannable(plan.unplannable))
    if plan.stamped_past:
        sections.append(section_of_stamped(plan.stamped_past))
    facts = [Fact("Database", plan.database), Fact("At revision", ", ".join(plan.start) or "(none)")]
    if plan.digest:
        facts.append(Fact("Digest", plan.digest, below=True))
    if plan.digest and plan.refusal is None:
        how = " ".join(["alembic", *plan.flags, f"-x plan={plan.digest}", plan.direction, plan.reach])
        facts.append(Fact(BINDING, how, exact=True, below=True))
    committed = "nothing: all was rolled back, and a COMMIT would have failed"
    facts.append(Fact("Committed", committed, below=True))
    return Document(
        title=f"Plan: {plan.direction} to {plan.target}",
        summary=_summary(plan),
        state="bad" if not plan.is_sound else "good" if plan.is_whole else "unknown",
        facts=tuple(facts),
        sections=tuple(sections),
    )


def _summary(plan: Plan) -> str:
    if not plan.steps and plan.refusal is None and plan.unplannable is None:
        return (
            f"Nothing to do: no revision leads from {', '.join(plan.start) or 'the base'} to {plan.target}."
        )
    steps = f"{counted(len(plan.steps), 'revision')}, {counted(len(plan.runs), 'run')} of data fixes"
    tables = [table.of_run for run in plan.runs for table in run.tables]
    rows = counts(
        sum(t.inserted for t in tables), sum(t.updated for t in tables), sum(t.deleted for t in tables)
    )
    words, then = ([f"{steps}: {rows}."], "Then ") if plan.steps else ([], "")
    gone = [one for step in plan.steps for one in step.gives_up or ()]
    words += [f"Copies of {counted(len(gone), 'run')} are given up."] if gone else []
    erased = sum(one.images for step in plan.steps for one in step.redacts or ())
    words += [f"Values in {counted(erased, 'image')} are redacted."] if erased else []
    if plan.refusal is not None:
        return " ".join([*words, f"{then}{plan.refusal.revision} would be refused."])
    words += _verdict(plan)
    if plan.unplannable is not None:
        words.append(f"{then}{_title(plan.unplannable)}.")
    return " ".join(words)


def _verdict(plan: Plan) -> list[str]:
    reversals = [run.reversal for run in plan.runs if run.reversal is not None]
    if any(run.reloaded for run in plan.runs):
        return ["The upgrade will differ: a declaration changes at each load."]
    if not plan.is_sound:
        return ["Not all of it can be reverted."]
    if not all(one.tried for one in reversals):
        return ["Not all of it could be reverted as a proof."]
    if any(run.batches for run in plan.runs):
        return ["It can be reverted: that was tried on one batch."]
    return ["All of it can be reverted: that was tried."] if reversals else []


def _sections(step: PlannedStep) -> list[Section]:
    title = " ".join(part for part in (step.revision, step.title) if part)
    if step.gives_up is not None:
        notes = ("Their runs cannot be reverted any more. The ledger keeps which they were.",)
        one = replace(section_of_given_up(step.gives_up), title=f"{title} Copies given up", notes=notes)
        return [one, *(_section(title, run) for run in step.runs)]
    if step.redacts is not None:
        notes = ("These values are gone for good. A revert leaves their columns out.",)
        one = replace(section_of_redacted(step.redacts), title=f"{title} Values redacted", notes=notes)
        return [one, *(_section(title, run) for run in step.runs)]
    if not step.runs:
        locks = (Fact("Locks", "; ".join(step.locks)),) if step.locks else ()
        return [Section(title, facts=locks, notes=("No data fix. The revision ran without an error.",))]
    return [_section(title, run) for run in step.runs]


def _section(title: str, planned: PlannedRun) -> Section:
    run = planned.run
    facts = [
        Fact("Fix", run.fix),
        Fact("Reason", run.reason or "", links=True),
        Fact("Outcome", _outcome(planned)),
        *(Fact(table.of_run.target, _rows(table)) for table in planned.tables),
        *([] if planned.batches is None else of_batches(planned.batches)),
    ]
    if run.already:
        facts.append(Fact("Already as wanted", run.already, below=True))
    if planned.reloaded:
        facts.append(Fact("Declaration", _reloaded(planned), "bad"))
    if planned.reversal is not None:
        facts.append(_reversal(planned.reversal))
    facts += [Fact("Sequence", one.words, "attention") for table in planned.tables for one in table.sequences]
    inexact = (table.of_run for table in planned.tables if table.of_run.inexact)
    facts += [Fact("Kept as text", one.inexactly_kept, below=True) for one in inexact]
    facts += [
        Fact("Not copied", f"{', '.join(one.of_run.without)} of {one.of_run.target}", below=True)
        for one in planned.tables
        if one.of_run.without
    ]
    facts += [Fact("Acting", line, below=True) for table in planned.tables for line in table.acting]
    facts.append(
        Fact(
            "Locks",
            f"{'; '.join(planned.locks) or 'none'}; held for {planned.seconds:.2f} s and until the commit"
            + (" of the batch" if planned.batches is not None else ""),
            below=True,
        )
    )
    return Section(
        title,
        state="" if planned.is_fine else "bad",
        facts=tuple(facts),
        block=planned.reversal.detail if planned.reversal is not None else "",
        changes=tuple(_named(table) for table in planned.tables if table.of_run.changed),
    )


def _reversal(reversal: Reversal) -> Fact:
    if not reversal.tried:
        return Fact("Can be reverted", f"not tried: {reversal.words}", "unknown")
    answer = "yes" if reversal.proven else "no"
    return Fact("Can be reverted", f"{answer}: {reversal.words}", "good" if reversal.proven else "bad")


def _reloaded(planned: PlannedRun) -> str:
    return (
        f"differs at each load (fingerprint {(planned.run.fingerprint or '')[:12]}, then {planned.reloaded[:12]}):"
        " it reads the clock, random values or its process, so the upgrade will differ from this plan and cannot be"
        " bound to it. To find where: datafixes check"
    )


def _named(table: PlannedTable) -> Changes:
    """The rows, with readable names beside their keys."""
    changes = only_changed(table.changes)
    rows = tuple(replace(row, name=table.names.get(row.key, "")) for row in changes.rows)
    return replace(changes, rows=rows)


def _outcome(planned: PlannedRun) -> str:
    run = planned.run
    if planned.batches is not None:
        return f"in batches: {planned.batches.left:,} rows, each batch is committed by itself"
    if run.outcome == "declined":
        return f"declined, so nothing changes: {run.declined_because}"
    if run.outcome == "not_applicable" and run.direction == "revert":
        return "not_applicable: the run that it reverts changed nothing, so there is nothing to restore"
    if run.outcome == "not_applicable":
        return "not_applicable: the database has none of the rows that the fix was written for, so nothing changes"
    numbers = {"found": run.rows_found, "changed": run.rows_changed, "already as wanted": run.rows_already,
            "skipped": run.rows_skipped or None, "overwritten": run.rows_overwritten or None}  # fmt: skip
    return f"{run.outcome}: " + ", ".join(f"{n} {word}" for word, n in numbers.items() if n is not None)


def _rows(table: PlannedTable) -> str:
    of_run = table.of_run
    label = f"found {counts(of_run.inserted, of_run.updated, of_run.deleted)}"
    if table.expected:
        label = f"expected {table.expected}; {label}"
    if not of_run.key:
        label += "; it has no key: its rows are identified by their whole image"
    return label


def _refused(refusal: Refusal) -> Section:
    facts = [Fact("Why", refusal.message, "bad")]
    if refusal.hint:
        facts.append(Fact("What to do", refusal.hint))
    return Section(
        f"{refusal.revision} would be refused", state="bad", facts=tuple(facts), block=refusal.detail
    )


def _title(unplannable: Unplannable) -> str:
    before = f" before {unplannable.after} is committed" if unplannable.after != unplannable.revision else ""
    return f"{unplannable.revision} cannot be planned{before}"


def _unplannable(unplannable: Unplannable) -> Section:
    return Section(
        _title(unplannable),
        state="unknown",
        facts=(Fact("Why", unplannable.message, "unknown"), Fact("What to do", unplannable.hint)),
    )


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON of the kind ``plan``."""
    return {
        "version": 1,
        "kind": "plan",
        "direction": plan.direction,
        "database": plan.database,
        "start": list(plan.start),
        "target": plan.target,
        "digest": plan.digest,
        "fine": plan.is_sound and plan.is_whole,
        "steps": [
            {
                "revision": step.revision,
                "title": step.title,
                "locks": list(step.locks),
                "gives_up": None if step.gives_up is None else gave_up_as_json(step.gives_up),
                "redacts": None if step.redacts is None else gave_up_as_json(step.redacts),
                "runs": [_run_as_json(run) for run in step.runs],
            }
            for step in plan.steps
        ],
        "stamped_past": [vars(one) for one in plan.stamped_past],
        "refusal": None if plan.refusal is None else vars(plan.refusal),
        "unplannable": None if plan.unplannable is None else vars(plan.unplannable),
    }


def _run_as_json(planned: PlannedRun) -> dict[str, Any]:
    return {
        **run_as_json(planned.run),
        "digest": planned.digest,
        "seconds": round(planned.seconds, 3),
        "locks": list(planned.locks),
        "reversal": None if planned.reversal is None else vars(planned.reversal),
        "reloaded": planned.reloaded or None,
        "in_batches": None if planned.batches is None else batches_as_json(planned.batches),
        "changes": [
            {
                **changes_as_json(table.of_run, table.changes),
                "expected": table.expected,
                "acting": list(table.acting),
                "names": dict(table.names),
                "sequences": [_behind_as_json(one) for one in table.sequences],
            }
            for table in planned.tables
        ],
    }


def _behind_as_json(one: Behind) -> dict[str, Any]:
    masked = not one.numbers
    return {
        "sequence": one.sequence.name,
        "column": one.sequence.column,
        "next": None if masked else one.sequence.next,
        "numbers": list(one.numbers),
        "count": one.count,
        "repair": one.repair or None,
    }
