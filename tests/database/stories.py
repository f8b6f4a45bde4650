"""What can happen to a table: its shape, its rows, a fix and what others write later; and a model of what must come of it.

The model knows nothing of how the engine works. It holds a value as its place in the list of its type's values, each of
which has other bits than the others; two of them may be equal all the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Value = int | None
"""The place of a value among those of its type; None is NULL."""

Key = tuple[int, ...]
Row = tuple[Value, ...]
State = Mapping[Key, Row]


@dataclass(frozen=True)
class Type:
    """A type of a column.

    Attributes:
        name: in SQL.
        values: SQL literals.
        equal: for each value, which others it is equal to: those with the same number. Empty where the type has no
            equality.
        plain: the same values in Python, where there are such.
    """

    name: str
    values: tuple[str, ...]
    equal: tuple[int, ...] = ()
    plain: tuple[str | int | bool, ...] = ()

    def sql(self, value: Value) -> str:
        return f"({'NULL' if value is None else self.values[value]})::{self.name}"


INTEGER = Type("integer", ("1", "2", "3", "4", "-7"), (0, 1, 2, 3, 4), (1, 2, 3, 4, -7))
TEXT = Type("text", ("'a'", "'b'", "'B%'", "''", "'a '"), (0, 1, 2, 3, 4), ("a", "b", "B%", "", "a "))

_NAMES = ("a", "b", "B%", "it's", "\u00e9", "x-y", "Z")
NUMBER = Type("integer", tuple("1234567"), tuple(range(7)), tuple(range(1, 8)))
NAME = Type("text", tuple("'" + name.replace("'", "''") + "'" for name in _NAMES), tuple(range(7)), _NAMES)
"""The types of keys."""

TYPES = (
    INTEGER,
    TEXT,
    Type("boolean", ("true", "false"), (0, 1), (True, False)),
    Type("numeric", ("1.0", "1.00", "'NaN'", "'Infinity'"), (0, 0, 1, 2)),
    Type("double precision", ("'0'", "'-0'", "'NaN'", "0.1"), (0, 0, 1, 2)),
    Type("interval", ("'1 day'", "'24:00:00'", "'-1 mon +1 day'"), (0, 0, 1)),
    Type("timestamp with time zone", ("'infinity'", "'0044-03-15 12:00:00+00 BC'", "'10000-01-01 00:00:00+00'"), (0, 1, 2)),
    Type("jsonb", ("'null'", "'{\"a\": 1.0}'", "'{\"a\": 1.00}'"), (0, 1, 1)),
    Type("integer[]", ("'{1,NULL}'", "'[5:6]={1,NULL}'", "'{}'"), (0, 1, 2)),
    Type("public.mood", ("'so so'", "'glad'"), (0, 1)),
    Type("json", ("'null'", "'{\"a\":1}'", "'{ \"a\":1}'")),
    Type("point", ("'(1,1)'", "'(1,1.0000000001)'", "'(-0,0)'")),
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column, and what its values must be."""

    name: str
    type: Type
    nullable: bool = False
    unique: bool = False


@dataclass(frozen=True)
class Shape:
    """A table. A trigger that does nothing makes the engine look at what changed, not at what was said."""

    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    trigger: bool = False

    def allows(self, state: State) -> bool:
        """Whether every row is one that PostgreSQL would take."""
        complete = all(
            value is not None or column.nullable
            for row in state.values()
            for value, column in zip(row, self.columns, strict=True)
        )
        return complete and not self.collisions(state)

    def collisions(self, state: State) -> set[tuple[Key, int]]:
        """The rows, and the columns, whose values should be unique and are not."""
        return {
            (key, n)
            for n, column in enumerate(self.columns)
            if column.unique
            for key, row in state.items()
            for other, theirs in state.items()
            if key != other and row[n] is not None and self.equal(n, row[n], theirs[n])
        }

    def equal(self, n: int, one: Value, other: Value) -> bool:
        """Whether two values of a column are not distinct, whatever their bits."""
        if one is None or other is None:
            return one is other
        return self.columns[n].type.equal[one] == self.columns[n].type.equal[other]


@dataclass(frozen=True)
class Write:
    """What somebody does to one row: gives it another value, removes it or adds it."""

    what: str
    key: Key
    row: Row = ()
    column: int = 0
    value: Value = None

    def on(self, shape: Shape, state: State) -> State | None:
        """The state afterwards; None where PostgreSQL would not do it, or there is nothing to do it to."""
        if (self.what == "insert") == (self.key in state):
            return None
        after = dict(state)
        if self.what == "delete":
            del after[self.key]
        elif self.what == "insert":
            after[self.key] = self.row
        else:
            after[self.key] = _with(state[self.key], {self.column: self.value})
        return after if shape.allows(after) else None


def happen(shape: Shape, state: State, writes: Iterable[Write]) -> tuple[State, list[Write]]:
    """What comes of writes, one after the other, and which of them PostgreSQL does."""
    done = []
    for write in writes:
        after = write.on(shape, state)
        if after is not None:
            done.append(write)
            state = after
    return state, done


@dataclass(frozen=True)
class Plan:
    """A fix, and the rows that its author has in mind.

    Attributes:
        kind: ``update``, ``delete``, ``insert`` or ``recorded``.
        set: column -> value, for an update.
        new: the rows to insert.
        writes: the statements to record.
        named: the keys of the expected rows; None: a number of rows is expected.
        where: a column and the value that it must be equal to.
        identity: a column that tells whether the row is the one that was meant, and its value in each named row.
        miscounted: by how many the expected number is wrong.
    """

    kind: str
    set: Mapping[int, Value] = field(default_factory=dict)
    new: tuple[tuple[Key, Row], ...] = ()
    writes: tuple[Write, ...] = ()
    named: tuple[Key, ...] | None = None
    where: tuple[int, Value] | None = None
    identity: tuple[int, Mapping[Key, Value]] | None = None
    miscounted: int = 0

    def captured(self, shape: Shape, before: State, after: State) -> list[tuple[Key, Row | None, Row | None]]:
        """The rows that have images: those that differ, and those that an update set to what they were."""
        chosen = self.chosen(shape, before) if self.kind == "update" else ""
        same = [key for key in chosen if before[key] == after[key]] if not isinstance(chosen, str) else []
        return [*changes(before, after), *((key, before[key], after[key]) for key in same)]

    def chosen(self, shape: Shape, state: State) -> list[Key] | str:
        """The rows that an update or a delete changes, or why it changes none."""
        met = [
            k
            for k, row in state.items()
            if self.where is None or shape.equal(self.where[0], row[self.where[0]], self.where[1])
        ]
        if self.named is None:
            if met and self.miscounted:
                return "refused"
            return met or "not applicable"
        if not any(key in state for key in self.named):
            return "not applicable"
        right = [
            key
            for key in self.named
            if key in met and (self.identity is None or state[key][self.identity[0]] == self.identity[1][key])
        ]
        return right if len(right) == len(self.named) else "refused"

    def apply(self, shape: Shape, state: State) -> State | str:
        """The state that the fix must leave, or why it must change nothing."""
        if self.kind == "recorded":
            recorded, _ = happen(shape, state, self.writes)
            return "refused" if self.miscounted else recorded
        after = dict(state)
        if self.kind == "insert":
            after.update(self.new)
            if len(after) < len(state) + len(self.new):
                return "refused"
        else:
            chosen = self.chosen(shape, state)
            if isinstance(chosen, str):
                return chosen
            for key in chosen:
                if self.kind == "delete":
                    del after[key]
                else:
                    after[key] = _with(after[key], self.set)
        return after if shape.allows(after) else "refused"


@dataclass(frozen=True)
class Verdict:
    """What a revert must do.

    Attributes:
        state: the table afterwards, if nothing stands in the way.
        certain: the rows that stand in the way, whatever happens to the others.
        possible: these, and the rows that would stand in the way if those were left alone.
    """

    state: State
    certain: frozenset[Key]
    possible: frozenset[Key]


def judge(shape: Shape, plan: Plan, states: tuple[State, State, State]) -> Verdict:
    """Decide what must come of a revert, from the states before and after the fix and the present one."""
    before, after, now = states
    certain: set[Key] = set()
    restored: dict[Key, Row | None] = {}
    captured = list(plan.captured(shape, before, after))
    others = [row for key, row in now.items() if key not in {key for key, *_ in captured}]
    for key, was, left in captured:
        back = _back(shape, plan, (was, left, now.get(key)))
        moved = left is not None and key not in now and any(_is_one(shape, left, row) for row in others)
        if isinstance(back, str) or moved:
            certain.add(key)
        else:
            restored[key] = back
    possible = set(certain)
    while True:
        state = _merged(now, {key: row for key, row in restored.items() if key not in possible})
        collide = {
            key
            for key, n in shape.collisions(state)
            if key in restored and key not in possible and (key not in now or state[key][n] != now[key][n])
        }
        if not collide:
            return Verdict(state, frozenset(certain), frozenset(possible))
        possible |= collide


def _back(shape: Shape, plan: Plan, images: tuple[Row | None, Row | None, Row | None]) -> Row | str | None:
    """What a row must be after a revert (None: gone), or why it cannot be restored."""
    was, left, now = images
    if was is None or left is None:  # inserted or deleted by the fix
        return was if now in (was, left) else "changed since"
    if now is None:
        return "gone"
    to_undo = [n for n in range(len(was)) if was[n] != left[n]]
    if all(now[n] == was[n] for n in to_undo):
        return now
    if plan.identity and not shape.equal(plan.identity[0], now[plan.identity[0]], left[plan.identity[0]]):
        return "taken"
    if any(now[n] not in (was[n], left[n]) for n in to_undo):
        return "changed since"
    return _with(now, {n: was[n] for n in to_undo})


def _is_one(shape: Shape, left: Row, other: Row) -> bool:
    """Whether a row may be the one that the fix left, under another key."""
    unique = (n for n, column in enumerate(shape.columns) if column.unique and left[n] is not None)
    return (left == other and any(value is not None for value in left)) or any(
        left[n] == other[n] for n in unique
    )


def _with(row: Row, values: Mapping[int, Value]) -> Row:
    return tuple(values.get(n, value) for n, value in enumerate(row))


def _merged(state: State, rows: Mapping[Key, Row | None]) -> State:
    merged = {**state, **rows}
    return {key: row for key, row in merged.items() if row is not None}


def changes(before: State, after: State) -> list[tuple[Key, Row | None, Row | None]]:
    """The rows that differ between two states: key, before, after."""
    keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return [(key, before.get(key), after.get(key)) for key in keys]
