"""Revisions that change or lose rows without a fix."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from datafixes.check.course import Course
from datafixes.check.doing import Unsure, deeds_by
from datafixes.check.finding import Finding
from datafixes.check.losing import loss_of
from datafixes.check.module import Function, Module, attribute
from datafixes.check.objects import attributes_set, function_around, writes_objects
from datafixes.check.op_shapes import Shaping, statement_of
from datafixes.check.own import Own
from datafixes.check.sql_deeds import Called, Change, Deed, Defined, Shape, Table
from datafixes.check.sql_reading import UNKNOWN

_SHOWN = 3
_NAMING = {"", "id", "uuid", "name", "key", "code", "slug", "label", "value", "title", "identifier", "email"}


@dataclass
class _Judged:
    """What is known of a call."""

    losing: list[tuple[str, Change]] = field(default_factory=list)
    filling: list[Change] = field(default_factory=list)
    seeding: list[Change] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)  # message -> code
    where: str = ""


class _Judge:
    """Collects what the calls of a revision do to rows that were there before."""

    def __init__(self, module: Module, shapings: list[Shaping], copied: Set[Table]) -> None:
        self.module, self.copied = module, copied
        self.judged: dict[ast.Call, _Judged] = defaultdict(_Judged)
        self.way = ""
        self.upgrade, self.dropped = Own(), Own()
        self.seeds: list[Change] = []
        self.guards: dict[Table, _Judged] = {}
        self.changed = False
        for one in shapings:
            if one.shape.deed == "drops" and module.goes(one.call, "downgrade"):
                table, column = one.shape.table, one.shape.column
                (self.dropped.columns.add((table, column)) if column else self.dropped.tables.add(table))

    def visit(self, call: ast.Call, place: ast.Call, own: Own) -> None:
        """Judge a call; what it makes is new from here on."""
        known = self.judged[place]
        if place is not call:
            known.where = f" in {attribute(place)}() of {self.module.home(call).source.shown}"
        recorded = self.module.recorded(place)
        for done in deeds_by(self.module, call):
            deed = done.deed
            if isinstance(deed, Unsure):
                if self.way and not recorded:
                    known.told[deed.message] = deed.code
                continue
            for change in _changes(deed, own):
                self.changed = True
                if not recorded:
                    self._change(known, done.code, change, own)
            if isinstance(deed, Called) and deed.name not in own.functions and not recorded:
                known.told[f"{deed.name}() may change rows, and is not checked."] = "FIX209"
            self._definition(known, deed, own)
        if statement := statement_of(self.module, call):
            own.statements.append(statement)

    def _change(self, known: _Judged, code: str, change: Change, own: Own) -> None:
        if own.has_table(change.table):
            return
        if "update" in change.verb.lower() and own.has_columns(change.table, change.columns):
            known.filling.append(change)
        elif self._goes_with_its_table(change):
            return
        elif change.cells is not None and ("INSERT" in change.verb or "session." in change.verb):
            known.seeding.append(change)
            self.seeds += [change] if self.way == "upgrade" else []
        elif not (self.way == "downgrade" and _undoes(change, self.seeds)):
            known.losing.append((code, change))

    def _goes_with_its_table(self, change: Change) -> bool:
        """Whether a downgrade writes only into what its upgrade added, and it drops."""
        if self.way != "downgrade":
            return False
        if self.upgrade.has_table(change.table) and self.dropped.has_table(change.table):
            return True
        made, dropped = self.upgrade.has_columns, self.dropped.has_columns
        return made(change.table, change.columns) and dropped(change.table, change.columns)

    def _definition(self, known: _Judged, deed: Deed, own: Own) -> None:
        if isinstance(deed, Defined):
            own.functions[deed.name] = deed.changes
        elif isinstance(deed, Shape):
            if self.way == "upgrade" and (loss := loss_of(self.module, deed, own, self.copied)):
                known.told[loss[1]] = loss[0]
                if deed.if_exists:
                    self.guards[deed.table] = known
            own.apply(deed)
            if self.way == "upgrade" and deed.deed in ("creates", "adds", "renames"):
                self.upgrade.apply(deed)
                if deed.deed == "creates" and deed.table in self.guards:
                    # DROP TABLE IF EXISTS before CREATE TABLE only tidies up.
                    self.guards.pop(deed.table).told.clear()

    def objects(self, own: Own) -> Iterator[Finding]:
        """The finding about changed attributes of objects, which leave no other trace."""
        if any(one.losing or one.filling for one in self.judged.values()):
            return
        for call in self.module.calls:
            if (how := writes_objects(self.module, call)) and not self.module.recorded(call):
                names = set(attributes_set(self.module, function_around(self.module, call)))
                added = {column for _, column in own.columns}
                if names and names <= added:
                    message = f"{how} {', '.join(sorted(names))}, which this revision adds."
                    yield self.module.finding("FIX203", call, message)
                elif names or not self.changed:
                    yield self.module.finding("FIX202", call, f"{how} changed objects without a fix.")
                else:
                    continue
                return


def unrecorded_changes(module: Module, shapings: list[Shaping], copied: Set[Table]) -> Iterator[Finding]:
    """Findings about statements that change or lose rows outside of a recorded body.

    Args:
        module: the revision.
        shapings: its changes of tables' definitions.
        copied: the tables of the fixes that it applies.
    """
    judge = _Judge(module, shapings, copied)
    own = _run(judge)
    found = [finding for call, known in judge.judged.items() for finding in _findings(module, call, known)]
    yield from found
    yield from judge.objects(own)


def _run(judge: _Judge) -> Own:
    """Run upgrade, downgrade, and what neither of them calls; returns what the upgrade made."""
    module = judge.module
    course = Course(module, judge.visit)
    made = Own()
    course.run([one for one in module.source.tree.body if not isinstance(one, Function)], made)
    for way in ("upgrade", "downgrade"):
        judge.way = way
        for function in _roots(module, way):
            if function not in course.entered:
                own = made.copy()
                course.function(function, own)
                if way == "upgrade":
                    judge.upgrade.add(own)
    judge.way = ""
    every = [node for node in module.nodes if isinstance(node, Function)]
    for function in every:
        if function not in course.entered:
            course.function(function, judge.upgrade.copy())
    return judge.upgrade


def _roots(module: Module, way: str) -> list[Function]:
    # Projects of several databases have upgrade_first(), upgrade_second().
    found = [one for name, one in module.functions.items() if name.startswith(f"{way}_")]
    return [*([module.functions[way]] if way in module.functions else []), *found]


def _changes(deed: Deed, own: Own) -> list[Change]:
    if isinstance(deed, Called):
        return list(own.functions.get(deed.name, ()))
    return [deed] if isinstance(deed, Change) else []


def _undoes(change: Change, seeds: list[Change]) -> bool:
    """Whether a DELETE is limited to values of rows that the upgrade inserted."""
    if not change.cells or any(UNKNOWN in value for _, value in change.cells):
        return False
    inserted = {cell for one in seeds if one.table == change.table for cell in one.cells or ()}
    values = {value for column, value in inserted if not column}
    naming = any(column in _NAMING or column == f"{change.table[1]}_id" for column, _ in change.cells)
    return naming and all(cell in inserted or cell[1] in values for cell in change.cells)


def _findings(module: Module, call: ast.Call, known: _Judged) -> Iterator[Finding]:
    if known.losing:
        changes = [change for _, change in known.losing]
        yield module.finding(known.losing[0][0], call, f"{_listed(changes)}{known.where} without a fix.")
    elif known.filling:
        columns = sorted({column for one in known.filling for column in one.columns})
        message = f"{known.filling[0].words} fills {', '.join(columns)}, which this revision adds."
        yield module.finding("FIX203", call, message)
    elif known.seeding:
        message = f"{known.seeding[0].words} adds rows that this revision contains, without a fix."
        yield module.finding("FIX206", call, message)
    for message, code in known.told.items():
        yield module.finding(code, call, message)


def _listed(changes: list[Change]) -> str:
    listed = list(dict.fromkeys(one.words for one in changes))
    if len(listed) == 1:
        return f"{listed[0]} changes rows"
    if len(listed) > _SHOWN:
        return f"{', '.join(listed[:_SHOWN])} and {len(listed) - _SHOWN} more change rows"
    return f"{', '.join(listed[:-1])} and {listed[-1]} change rows"
