"""Operations of revisions on fixes; fixes that are never reverted, and names used twice."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from datafixes.check.declaring import DeclaredFix
from datafixes.check.finding import Finding
from datafixes.check.following import values_of
from datafixes.check.module import Module, argument

_DOING = {"apply_datafix": "applies", "record_datafix": "records", "revert_datafix": "reverts"}


@dataclass(frozen=True, eq=False)
class Act:
    """An operation on a fix.

    Attributes:
        call: the operation.
        verb: ``applies``, ``records`` or ``reverts``.
        names: the fixes that it may concern.
        known: whether these are all.
    """

    call: ast.Call
    verb: str
    names: frozenset[str]
    known: bool


def acts_of(module: Module, fixes: list[DeclaredFix]) -> list[Act]:
    """Every operation on a fix, in the order of the file."""
    declared = {fix.call: fix for fix in fixes}
    found = []
    for operation, verb in _DOING.items():
        for call in module.calls_by_name.get(operation, []):
            given = argument(call, 0, "fix")
            values = [] if given is None else values_of(module, given)
            names: set[str] = set()
            known = bool(values)
            for one in values:
                if isinstance(one, ast.Call) and one in declared and declared[one].names:
                    names |= set(declared[one].names)
                elif isinstance(one, ast.Constant) and isinstance(one.value, str):
                    names.add(one.value)
                else:
                    known = False
            found.append(Act(call, verb, frozenset(names), known))
    return sorted(found, key=lambda act: (act.call.lineno, act.call.col_offset))


def ways_back(module: Module, acts: list[Act]) -> Iterator[Finding]:
    """Findings about operations on fixes that the downgrade does not undo."""
    up = [act for act in acts if module.function(act.call) and module.goes(act.call, "upgrade")]
    down = [act for act in acts if act.verb == "reverts" and module.goes(act.call, "downgrade")]
    undone = frozenset[str]().union(*(act.names for act in down))
    everything = any(not act.known for act in down)
    for act in up:
        if module.goes(act.call, "downgrade"):
            continue
        why, place = _why(module, bool(down))
        open_ = act.names - undone
        if not why and (everything or not act.known or not open_):
            continue
        named = ", ".join(sorted(act.names if why else open_))
        message = f"The upgrade {act.verb} {f'the fix {named}' if named else 'a fix'}, and "
        yield module.finding(
            "FIX303", place or act.call, message + (why or "downgrade() does not revert it") + "."
        )


def _why(module: Module, reverts: bool) -> tuple[str, ast.stmt | None]:
    """Why the downgrade undoes nothing, and the place of the finding; empty if it may undo something."""
    functions = [one for name, one in module.functions.items() if name.startswith("downgrade")]
    if not functions:
        return "the revision has no downgrade()", None
    function = functions[0]
    body = [one for one in function.body if not says_nothing(one)]
    if not body:
        return "downgrade() is empty", function
    if isinstance(body[0], ast.Raise):
        return "downgrade() raises an error", body[0]
    return ("", None) if reverts else ("downgrade() does not revert it", function)


def says_nothing(node: ast.stmt) -> bool:
    """Whether a statement does nothing."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def names_used_twice(
    declared: list[tuple[Module, str, list[DeclaredFix], list[Act]]],
) -> Iterator[tuple[Module, Finding]]:
    """Findings about fixes of one name, at each but the first.

    Args:
        declared: from base to head: a revision, its id, its fixes and its operations on them. A fix that a revision
            only reverts is an earlier one, declared again.
    """
    first: dict[str, tuple[Module, str]] = {}
    for module, revision, fixes, acts in declared:
        for fix in fixes:
            touching = [act for act in acts if set(fix.names) & act.names or not act.known]
            if touching and all(act.verb == "reverts" for act in touching):
                continue
            for name in fix.names:
                if name not in first:
                    first[name] = (module, revision)
                    continue
                other, of = first[name]
                where = "this revision" if other is module else f"revision {of}" if of else other.source.shown
                message = f"The name {name} is used by another fix of {where}."
                yield module, module.finding("FIX304", argument(fix.call, None, "name") or fix.call, message)
