"""Later revisions that change tables so that a fix can no longer be reverted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from datafixes.check.acting import Act, acts_of
from datafixes.check.chain import Chain, revision_of
from datafixes.check.declaring import DeclaredFix, fixes_of
from datafixes.check.finding import Finding
from datafixes.check.following import strings_of
from datafixes.check.module import Module, argument
from datafixes.check.op_shapes import Shaping, shapings_of, table_named
from datafixes.check.sql_deeds import Shape, Table
from datafixes.script.tables import LEDGER, LEDGER_TABLES


class Facts:
    """The contents of a revision, read once.

    Attributes:
        module: the file.
        revision: its id.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.revision = revision_of(module)

    @cached_property
    def fixes(self) -> list[DeclaredFix]:
        """The fixes that it declares."""
        return fixes_of(self.module)

    @cached_property
    def acts(self) -> list[Act]:
        """Its operations on fixes."""
        return acts_of(self.module, self.fixes)

    @cached_property
    def shapings(self) -> list[Shaping]:
        """Its changes of tables' definitions."""
        return shapings_of(self.module)

    @cached_property
    def upward(self) -> list[Shaping]:
        """Its upgrade's changes of tables' definitions."""
        return [one for one in self.shapings if self.module.goes(one.call, "upgrade")]

    @cached_property
    def in_force(self) -> list[DeclaredFix]:
        """The fixes that its upgrade applies or records."""
        acts = [act for act in self.acts if act.verb != "reverts" and self.module.goes(act.call, "upgrade")]
        return [fix for fix in self.fixes if any(set(fix.names) & act.names or not act.known for act in acts)]

    @cached_property
    def copied(self) -> frozenset[Table]:
        """The tables of the fixes that its upgrade applies or records."""
        return frozenset(table for fix in self.in_force for table in fix.tables)

    def reverts(self, fix: DeclaredFix) -> bool:
        """Whether its upgrade reverts a fix."""
        return any(
            act.verb == "reverts" and set(fix.names) & act.names and self.module.goes(act.call, "upgrade")
            for act in self.acts
        )

    @cached_property
    def updated_audits(self) -> set[Table]:
        """The tables whose audit tables it updates."""
        calls = self.module.calls_by_name.get("update_audit_table", [])
        return {table_named(self.module, call, 0, "target") for call in calls}


@dataclass(frozen=True)
class _Applied:
    """A fix, the revision that applies it, and the descendants of that."""

    fix: DeclaredFix
    revision: str
    above: frozenset[str]

    @property
    def words(self) -> str:
        return f"{self.fix.names[0] if self.fix.names else 'a fix'} (revision {self.revision})"


_CODES = {"retypes": "FIX503", "renames": "FIX504", "adds": "FIX505"}


def later_findings(
    everything: Iterable[Facts], chain: Chain, wanted: Iterable[Facts]
) -> Iterator[tuple[Facts, Finding]]:
    """Findings about changes to tables of fixes in earlier revisions.

    Args:
        everything: all revisions.
        chain: their order.
        wanted: the revisions to check.
    """
    known = {one.revision: one for one in everything if one.revision}
    applied = [
        _Applied(fix, one.revision, chain.above(one.revision))
        for one in known.values()
        for fix in one.in_force
        if fix.tables
    ]
    tables = {table for one in applied for table in one.fix.tables}
    for later in wanted:
        touching = [one for one in later.upward if one.shape.table in tables and one.shape.deed != "creates"]
        below = chain.below(later.revision) if touching else frozenset()
        for shaping in touching:
            covered = [
                one
                for one in applied
                if shaping.shape.table in one.fix.tables
                and one.revision in below
                and _in_the_way(shaping.shape, one, [*(known[name] for name in below & one.above), later])
            ]
            if covered and not _mended(shaping.shape, later, known, chain):
                yield later, _finding(later.module, shaping, covered)


def _in_the_way(shape: Shape, applied: _Applied, since: list[Facts]) -> bool:
    """Whether a fix is still in force after the revisions since, and has copies of what the last of them changes."""
    if any(one.reverts(applied.fix) for one in since):
        return False
    came_since = any(
        one.shape.deed == "adds" and (one.shape.table, one.shape.column) == (shape.table, shape.column)
        for facts in since
        for one in facts.upward
    )
    return shape.deed == "adds" or not shape.column or not came_since


def _mended(shape: Shape, later: Facts, known: dict[str, Facts], chain: Chain) -> bool:
    """Whether the audit table gets a new column too, in the same revision or a later one."""
    if shape.deed != "adds":
        return False
    updating = {one.revision for one in known.values() if shape.table in one.updated_audits}
    return bool(updating & (chain.above(later.revision) | {later.revision}))


def _finding(module: Module, shaping: Shaping, covered: list[_Applied]) -> Finding:
    shape = shaping.shape
    code = _CODES.get(shape.deed) or ("FIX502" if shape.column else "FIX501")
    named = ", ".join(one.words for one in covered[:3]) + (
        f" and {len(covered) - 3} more" if len(covered) > 3 else ""
    )
    which = "The fix" if len(covered) == 1 else "The fixes"
    doing = {
        "drops": f"{shape.words} is dropped",
        "retypes": f"the type of {shape.words} is changed",
        "renames": f"{shape.words} is renamed",
        "adds": f"{shape.words} is added here, and not to the audit table",
    }[shape.deed]
    return module.finding(code, shaping.call, f"{which} {named} cannot be reverted once {doing}.")


def dropped_copies(everything: Iterable[Facts], wanted: Iterable[Facts]) -> Iterator[tuple[Facts, Finding]]:
    """Findings about upgrades that drop an audit table or the ledger.

    Args:
        everything: all revisions, which create the audit tables.
        wanted: the revisions to check.
    """
    audits = {table for one in everything for table in _made_by(one)}
    ledgers = {(schema, name) for schema, _ in audits for name in (LEDGER, LEDGER_TABLES)}
    for facts in wanted:
        for one in facts.upward:
            if one.shape.deed == "drops" and not one.shape.column and one.shape.table in audits | ledgers:
                what = "the ledger" if one.shape.table in ledgers else "the only copies of rows"
                yield (
                    facts,
                    facts.module.finding("FIX506", one.call, f"{one.shape.words} is dropped: {what}."),
                )


def _made_by(facts: Facts) -> Iterator[Table]:
    """The audit tables that a revision creates."""
    for call in facts.module.calls_by_name.get("create_audit_table", []):
        schemas = [
            one
            for name in ("audit_schema", "schema")
            for one in strings_of(facts.module, argument(call, None, name))
        ]
        for name in strings_of(facts.module, argument(call, None, "name")):
            yield (schemas[0] if schemas else "public"), name
