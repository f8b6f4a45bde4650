"""Promises 1, 2 and 5 for tables, fixes and later writes of any kind, against a model that knows nothing of the engine."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql
from datafixes.declaration.expressions import Value
from datafixes.errors import Conflicts, Refused
from datafixes.script import literal
from tests import fixes
from tests.database.stories import Column, Key, Row, State, Write, changes, happen, judge
from tests.database.story_strategies import Story, stories
from tests.images import whole_images
from tests.servers import Database

TRIGGER = (
    "CREATE OR REPLACE FUNCTION public.as_it_is() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END'",
    "CREATE TRIGGER as_it_is BEFORE INSERT OR UPDATE OR DELETE ON story.things FOR EACH ROW EXECUTE FUNCTION public.as_it_is()",
)


class Told:
    """A story in a database: its table, and its fix as the author would declare it."""

    def __init__(self, database: Database, cursor: Any, story: Story) -> None:
        self.database, self.cursor = database, cursor
        self.story, self.shape = story, story.shape
        self.columns = [*self.shape.key, *self.shape.columns]
        self.names = [literal.name(column.name) for column in self.columns]
        self.key = tuple(column.name for column in self.shape.key)

    def lay(self) -> None:
        definitions = [
            f"{name} {column.type.name}{'' if column.nullable else ' NOT NULL'}{' UNIQUE' if column.unique else ''}"
            for name, column in zip(self.names, self.columns, strict=True)
        ]
        self.execute(
            "DROP SCHEMA IF EXISTS story CASCADE",
            "CREATE SCHEMA story",
            f"CREATE TABLE story.things ({', '.join(definitions)}, PRIMARY KEY ({', '.join(self.key)}))",
            *(self.statement(Write("insert", key, row)) for key, row in self.story.rows.items()),
            *(TRIGGER if self.shape.trigger else ()),
        )
        fixes.create_audit_table(self.database, "things", "things_audit", schema="story")

    def execute(self, *statements: str) -> None:
        """Run statements, each committed by itself, in a session that lasts for all stories."""
        for statement in statements:
            self.cursor.execute(statement)

    def statement(self, write: Write) -> str:
        where = " AND ".join(
            f"{c.name} = {c.type.sql(k)}" for c, k in zip(self.shape.key, write.key, strict=True)
        )
        if write.what == "delete":
            return f"DELETE FROM story.things WHERE {where}"
        if write.what == "insert":
            return (
                f"INSERT INTO story.things ({', '.join(self.names)}) VALUES {self.row(write.key, write.row)}"
            )
        column = self.shape.columns[write.column]
        value = column.type.sql(write.value)
        return f"UPDATE story.things SET {literal.name(column.name)} = {value} WHERE {where}"

    def row(self, key: Key, row: Row) -> str:
        values = (c.type.sql(v) for c, v in zip(self.columns, (*key, *row), strict=True))
        return f"({', '.join(values)})"

    def differs(self, relation: str, rows: Sequence[tuple[Key, Row]]) -> bool:
        """Whether a relation does not hold exactly these rows, bit for bit."""
        names = ", ".join(self.names)
        on = " AND ".join(f"l.{name} = r.{name}" for name in self.key)
        left, right = (", ".join(f"{side}.{name}" for name in self.names) for side in "lr")
        wanted = f"VALUES {', '.join(self.row(*row) for row in rows)}"
        if not rows:
            wanted = f"SELECT {names} FROM story.things WHERE false"
        self.execute(
            f"SELECT count(*) FILTER (WHERE record_image_ne(ROW({left}), ROW({right}))), (SELECT count(*) FROM {relation} AS l)"
            f" FROM {relation} AS l FULL JOIN ({wanted}) AS r ({names}) ON {on}"
        )
        return bool(self.cursor.fetchone() != (0, len(rows)))

    def holds(self, state: State) -> bool:
        return not self.differs("story.things", list(state.items()))

    def has_images(self, direction: str, image: str, rows: Sequence[tuple[Key, Row]]) -> bool:
        """Whether the runs in a direction wrote these images and no others."""
        columns = ", ".join(
            f"{name}::{column.type.name}" for name, column in zip(self.names, self.columns, strict=True)
        )
        runs = f"SELECT run_id FROM story.datafix_run WHERE direction = '{direction}'"
        whole = whole_images("story", "things_audit", [c.name for c in self.columns], self.key)
        images = (
            f"SELECT {columns} FROM {whole} AS i WHERE audit_image = '{image}' AND audit_run_id IN ({runs})"
        )
        return not self.differs(f"({images})", rows)

    def fix(self) -> DataFix | RecordedFix:
        plan = self.story.plan
        if plan.kind == "recorded":
            return self.recorded()
        names = [column.name for column in self.columns]
        change: Update | Delete | Insert
        rows = Rows(key=self.key, expect=len(plan.new) or 1)
        if plan.kind == "insert":
            added = [dict(zip(names, self.values(key, row), strict=True)) for key, row in plan.new]
            change = Insert("things", added, schema="story")
        else:
            rows = self.expected()
            where = self.where() or ("true" if plan.named is None else "")
            change = Delete("things", where=where, schema="story")
            if plan.kind == "update":
                set_ = {
                    self.shape.columns[n].name: self.value(self.shape.columns[n], v)
                    for n, v in plan.set.items()
                }
                change = Update("things", set=set_, where=where, schema="story")
        return DataFix(name="story", reason="A test.", change=change, rows=rows, audit="things_audit")

    def recorded(self) -> RecordedFix:
        left, _ = happen(self.shape, self.story.rows, self.story.plan.writes)
        happened = [(was is None, became is None) for _, was, became in changes(self.story.rows, left)]
        table = Table(
            "things", audit="things_audit", schema="story", key=self.key,
            inserted=happened.count((True, False)),
            deleted=happened.count((False, True)),
            updated=happened.count((False, False)) + self.story.plan.miscounted,
        )  # fmt: skip
        return RecordedFix(name="story", reason="A test.", tables=[table])

    def expected(self) -> Rows:
        plan = self.story.plan
        if plan.named is None:
            found = replace(plan, miscounted=0).chosen(self.shape, self.story.rows)
            right = 1 if isinstance(found, str) else len(found)
            return Rows(key=self.key, expect=right + plan.miscounted)
        keys = {key: self.key_values(key) for key in plan.named}
        if plan.identity is None:
            return Rows(key=self.key, expect=list(keys.values()))
        n, meant = plan.identity
        column = self.shape.columns[n]
        expect = {
            value: None if meant[k] is None else column.type.plain[meant[k] or 0] for k, value in keys.items()
        }
        return Rows(key=self.key, identity={"meant": literal.name(column.name)}, expect=expect)

    def where(self) -> str:
        plan = self.story.plan
        if plan.where is None:
            return ""
        column, value = self.shape.columns[plan.where[0]], plan.where[1]
        return f"{literal.name(column.name)} IS NOT DISTINCT FROM {column.type.sql(value)}"

    def key_values(self, key: Key) -> Any:
        values = tuple(column.type.plain[k] for column, k in zip(self.shape.key, key, strict=True))
        return values if len(values) > 1 else values[0]

    def values(self, key: Key, row: Row) -> list[Value | sql]:
        return [self.value(column, value) for column, value in zip(self.columns, (*key, *row), strict=True)]

    def value(self, column: Column, value: int | None) -> Value | sql:
        if value is None:
            return None
        if self.story.plain and column.type.plain:
            return column.type.plain[value]
        return sql(column.type.sql(value))

    def apply(self) -> None:
        fix = self.fix()
        if isinstance(fix, DataFix):
            fixes.apply(self.database, fix)
            return
        _, writes = happen(self.shape, self.story.rows, self.story.plan.writes)
        fixes.record(self.database, fix, *map(self.statement, writes))

    def revert(self, on_conflict: str = "refuse") -> None:
        fixes.revert(self.database, self.fix(), on_conflict)

    def named_in(self, message: str) -> set[Key]:
        """The keys that a refusal names."""
        shown = {
            "/".join(map(str, (self.key_values(k),) if len(k) == 1 else self.key_values(k))): k
            for k in self.keys()
        }
        lines = message.partition(" cannot be restored: ")[2].split(", ")
        kinds = (" changed since", " gone", " moved", " taken")
        return {shown[line.removesuffix(kind)] for line in lines for kind in kinds if line.endswith(kind)}

    def keys(self) -> set[Key]:
        writes = (*self.story.later, *self.story.plan.writes)
        return {*self.story.rows, *(key for key, _ in self.story.plan.new), *(write.key for write in writes)}


def tell(told: Told) -> None:
    """Let a story happen, and look at every step whether it is as promised."""
    story, shape = told.story, told.shape
    rows, plan = story.rows, story.plan
    left = plan.apply(shape, rows)
    assume(plan.kind != "recorded" or happen(shape, rows, plan.writes)[0] != rows)
    told.lay()
    if isinstance(left, str):
        event(left)
        if left == "refused":
            with pytest.raises(Refused):
                told.apply()
        else:
            told.apply()
            told.revert()
        assert told.holds(rows)
        assert told.has_images("apply", "before", [])
        assert told.has_images("apply", "after", [])
        return
    told.apply()
    assert told.holds(left), "the fix changed exactly its rows"
    captured = plan.captured(shape, rows, left)
    befores = [(key, was) for key, was, _ in captured if was is not None]
    afters = [(key, became) for key, _, became in captured if became is not None]
    assert told.has_images("apply", "before", befores), "each changed row has its before-image"
    assert told.has_images("apply", "after", afters)
    now, later = happen(shape, left, story.later)
    told.execute(*map(told.statement, later))
    assert told.holds(now), "the model follows what others wrote"
    give_back(told, (rows, left, now))
    assert told.has_images("apply", "before", befores), "the audit table only grows"
    assert told.has_images("apply", "after", afters)


def give_back(told: Told, states: tuple[State, State, State]) -> None:
    """All is given back, or nothing, as the model decides."""
    now = states[2]
    verdict = judge(told.shape, told.story.plan, states)
    if verdict.possible:
        event("in conflict")
        with pytest.raises(Conflicts) as refused:
            told.revert()
        named = told.named_in(refused.value.message)
        assert named
        assert verdict.certain <= named <= verdict.possible
        assert told.holds(now), "nothing at all is changed"
        assert told.has_images("revert", "before", [])
        told.revert("skip")
        assert told.holds(verdict.state), "skip leaves those rows alone, and gives back the others"
        return
    event("given back, with what others wrote since" if verdict.state != states[0] else "given back")
    told.revert()
    assert told.holds(verdict.state), "given back to the bit, and nothing else"
    undone = [*changes(now, verdict.state)]
    assert told.has_images("revert", "before", [(key, was) for key, was, _ in undone if was is not None])
    assert told.has_images("revert", "after", [(key, row) for key, _, row in undone if row is not None])


@pytest.mark.parametrize("kind", ["update", "delete", "insert", "recorded"])
def test_a_fix_and_its_revert_keep_their_promises_whatever_happens_in_between(
    database: Database, kind: str
) -> None:
    @settings(
        max_examples=30, deadline=None, derandomize=True, database=None, print_blob=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(story=stories(kind))
    def promises_hold(story: Story) -> None:
        tell(Told(database, cursor, story))

    with closing(database.connect()) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("CREATE TYPE public.mood AS ENUM ('so so', 'glad')")
        promises_hold()
