"""Draws stories: a table, its rows, a fix and what others write later, so that much of it meets on the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from hypothesis import strategies as st

from tests.database.stories import (
    INTEGER,
    NAME,
    NUMBER,
    TEXT,
    TYPES,
    Column,
    Key,
    Plan,
    Row,
    Shape,
    State,
    Value,
    Write,
    happen,
)

_NAMES = ("v", "Order Item", "t", "i", "fix")
"""Some are names that the engine uses itself."""


@dataclass(frozen=True)
class Story:
    """A table with rows, a fix, and what others write after it. With `plain`, values are given as Python values."""

    shape: Shape
    rows: State
    plan: Plan
    later: tuple[Write, ...]
    plain: bool


@st.composite
def stories(draw: st.DrawFn, kind: str) -> Story:
    """A story with a fix of this kind."""
    shape = draw(_shapes())
    keys = draw(st.permutations(_keys(shape)))
    rows, _ = happen(shape, {}, draw(_inserted(shape, keys[: draw(st.integers(1, 5))])))
    plan = draw({"insert": _inserts, "recorded": _recorded}.get(kind, _changes)(kind, shape, rows))
    left = plan.apply(shape, rows)
    later = () if isinstance(left, str) else draw(_later(shape, plan, rows, left))
    return Story(shape, rows, plan, later, draw(st.booleans()))


@st.composite
def _shapes(draw: st.DrawFn) -> Shape:
    key = draw(st.sampled_from([(NUMBER,), (NAME,), (NUMBER, NAME)]))
    columns = []
    for name in _NAMES[: draw(st.integers(1, 6 - len(key)))]:
        type_ = draw(st.sampled_from((TEXT, INTEGER, *TYPES)))
        unique = bool(type_.equal) and draw(_once_in(4))
        columns.append(Column(name, type_, nullable=draw(st.booleans()), unique=unique))
    keys = tuple(Column(f"key{n}", type_) for n, type_ in enumerate(key))
    return Shape(keys, tuple(columns), trigger=draw(_once_in(4)))


def _keys(shape: Shape) -> list[Key]:
    """All keys that occur."""
    return list(product(range(7))) if len(shape.key) == 1 else list(product(range(3), range(3)))


def _rows(shape: Shape) -> st.SearchStrategy[Row]:
    return st.tuples(*(_values(column) for column in shape.columns))


def _inserted(shape: Shape, keys: Sequence[Key]) -> st.SearchStrategy[list[Write]]:
    """An insert for each of these keys."""
    return st.tuples(*(_rows(shape) for _ in keys)).map(
        lambda rows: [Write("insert", key, row) for key, row in zip(keys, rows, strict=True)]
    )


def _once_in(times: int) -> st.SearchStrategy[bool]:
    return st.sampled_from([False] * (times - 1) + [True])


def _values(column: Column) -> st.SearchStrategy[Value]:
    values: st.SearchStrategy[Value] = st.integers(0, len(column.type.values) - 1)
    return st.none() | values if column.nullable else values


@st.composite
def _changes(draw: st.DrawFn, kind: str, shape: Shape, rows: State) -> Plan:
    columns = range(len(shape.columns))
    set_ = {}
    if kind == "update":
        for n in draw(st.sets(st.sampled_from(columns), min_size=1)):
            # Now and then a null that the column does not take.
            present = draw(st.sampled_from([row[n] for row in rows.values()]))
            set_[n] = None if draw(_once_in(10)) else draw(_others(shape, n, present))
    comparable = [n for n in columns if shape.columns[n].type.equal]
    where = None
    if draw(st.booleans()) and comparable:
        n = draw(st.sampled_from(comparable))
        where = (n, draw(st.sampled_from([row[n] for row in rows.values()]) | _values(shape.columns[n])))
    named = None
    identity = None
    if not draw(_once_in(4)):
        met = Plan(kind, where=where).chosen(shape, rows)
        known = list(rows) if isinstance(met, str) or draw(_once_in(8)) else met
        named = tuple(draw(st.permutations(known))[: draw(st.integers(1, len(known)))])
        if draw(_once_in(6)):
            named = tuple({*named, draw(st.sampled_from(_keys(shape)))})
        texts = [n for n in columns if shape.columns[n].type == TEXT]
        if not draw(_once_in(4)) and texts:
            n = draw(st.sampled_from(texts))
            meant: dict[Key, Value] = {key: rows[key][n] if key in rows else None for key in named}
            if draw(_once_in(8)):
                meant[named[0]] = draw(_values(shape.columns[n]))
            identity = (n, meant)
    miscounted = 1 if draw(_once_in(10)) else 0
    return Plan(kind, set=set_, named=named, where=where, identity=identity, miscounted=miscounted)


@st.composite
def _inserts(draw: st.DrawFn, kind: str, shape: Shape, rows: State) -> Plan:
    # Now and then a key that is there already.
    keys = _keys(shape) if draw(_once_in(8)) else [key for key in _keys(shape) if key not in rows]
    new = draw(_inserted(shape, draw(st.permutations(keys))[: draw(st.integers(1, 3))]))
    if not draw(_once_in(6)):  # mostly rows that the table takes
        new = happen(shape, rows, new)[1] or new
    return Plan(kind, new=tuple((write.key, write.row) for write in new))


@st.composite
def _recorded(draw: st.DrawFn, kind: str, shape: Shape, rows: State) -> Plan:
    aim = _Aim(_keys(shape), list(rows.items()), range(len(shape.columns)))
    writes = draw(_writes(shape, aim, rows, draw(st.integers(1, 5))))
    return Plan(kind, writes=writes, miscounted=1 if draw(_once_in(10)) else 0)


@dataclass(frozen=True)
class _Aim:
    """Where writes tend to go: to these keys and columns, with values of these rows."""

    keys: Sequence[Key]
    rows: Sequence[tuple[Key, Row]]
    columns: Sequence[int]


def _later(shape: Shape, plan: Plan, rows: State, left: State) -> st.SearchStrategy[tuple[Write, ...]]:
    """What others write meets the rows of the fix: as they were, and as it left them."""
    keys = [key for key, _, _ in plan.captured(shape, rows, left)] or list(rows)
    columns = [*plan.set, *([plan.identity[0]] if plan.identity else [])] or range(len(shape.columns))
    aim = _Aim(keys, [*rows.items(), *left.items()], columns)
    return st.sampled_from([1, 1, 2, 2, 3, 0]).flatmap(lambda count: _writes(shape, aim, left, count))


@st.composite
def _writes(draw: st.DrawFn, shape: Shape, aim: _Aim, state: State, count: int) -> tuple[Write, ...]:
    """Writes that each find the row that they change, or find none where they add one."""
    writes = []
    for _ in range(count):
        key = draw(st.sampled_from(_keys(shape) if draw(_once_in(4)) else aim.keys))
        if key not in state:
            row = dict(aim.rows).get(key) if draw(st.booleans()) else None  # as it was, or as the fix left it
            writes.append(Write("insert", key, row or draw(_rows(shape))))
        elif draw(_once_in(4)):
            writes.append(Write("delete", key))
        else:
            n = draw(st.sampled_from(range(len(shape.columns)) if draw(_once_in(3)) else aim.columns))
            known = [row[n] for _, row in aim.rows if row[n] != state[key][n]]
            others = _others(shape, n, state[key][n])
            value = draw(st.sampled_from(known) if draw(st.booleans()) and known else others)
            writes.append(Write("update", key, column=n, value=value))
        state, _ = happen(shape, state, writes[-1:])
    return tuple(writes)


def _others(shape: Shape, n: int, present: Value) -> st.SearchStrategy[Value]:
    """The values of a column, but for one."""
    return _values(shape.columns[n]).filter(lambda value: value != present)
