"""What is written for a fix: the declaration again when it is read, as a formatter and a linter want it."""

import datetime as dt
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from datafixes import DataFix, Delete, RecordedFix, Rows, Table, Update, sql
from datafixes.revisions.new import revision_of_audit_tables, revision_of_fix
from datafixes.revisions.placing import Place

PLACE = Place("0042", "0041", Path("x.py"), dt.datetime(2026, 3, 2, 10, 0))
LONG = "the March import left the tax out, and nobody saw it until the books were closed; " * 4

ODD_TEXTS = [
    "it's", 'a "quoted" one', "both ' and \"", "back\\slash\\", "line\nbreak\ttab\r", "\x1b\x00"[:1], "Übergröße Ω 😀",
    "\u202e right to left", "", " ", "x" * 200, "ab'" * 90, '{"a": "b"}, ' * 20 + "it's " * 40, "\\d'" * 60, LONG, "{a} %s %% :name $1", '"""', "\\N{DASH}", "\\",
]  # fmt: skip


def declared(**given: Any) -> DataFix:
    facts: dict[str, Any] = {
        "name": "n",
        "reason": "r",
        "change": Update("orders", set={"a": 1}, where="true"),
        "rows": Rows(key="id", expect=2),
        "audit": "orders_audit",
        **given,
    }
    return DataFix(**facts)


FIXES: dict[str, DataFix | RecordedFix] = {
    "one line each": declared(),
    "delete": declared(change=Delete("orders", where="a IS NULL", schema="shop")),
    "long": declared(reason=LONG, change=Update("orders", set={"a": sql(LONG), "b": LONG}, where=LONG)),
    "texts": declared(
        change=Update("Order Items", set={f"c{n}": text for n, text in enumerate(ODD_TEXTS)}, where="true"),
        rows=Rows(key="id", identity={"s": "s"}, expect=dict(enumerate(ODD_TEXTS))),
    ),
    "values": declared(
        change=Update(
            "orders",
            set={
                "a": None, "b": True, "c": -5, "d": Decimal("-1.50"), "e": 1.5e300, "f": dt.date(2026, 2, 3),
                "g": dt.datetime(2026, 2, 3, 16, 0, 0, 5), "h": dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC), "i": dt.time(16, 0, 1),
                "j": sql("net * 1.19"), "k": Decimal("1E+3"),
            },
        ),
        rows=Rows(key=("x", "y"), expect=[(1, "x"), (2, 'y"')]),
    ),
    "one date as a key": declared(rows=Rows(key=("z",), expect=[(dt.date(2026, 1, n + 1),) for n in range(30)])),
    "many": declared(rows=Rows(key=("y", "z"), identity={"s": "s"}, expect={(n, "y" * n): "z" * n for n in range(50)})),
    "elsewhere": declared(audit_schema="audit"),
}  # fmt: skip

RECORDED = RecordedFix(
    name="n",
    reason="r",
    tables=[
        Table("customers", "customers_audit", key="id", identity={"name": "name"}, deleted={7: "Acme Inc"}),
        Table("Order Items", "order_items_audit", schema="shop", key=("a", "b"), updated=[(1, 2), (3, 4)]),
        Table("lines", "lines_audit", inserted=2, updated=3, deleted=4),
    ],
    audit_schema="audit",
)


def read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(text, "revision.py", "exec"), found)
    return found


@pytest.mark.parametrize("name", FIXES)
def test_what_is_written_is_the_declaration(name: str) -> None:
    found = read(revision_of_fix(PLACE, "Reprice orders", FIXES[name]))
    assert found["fix"] == FIXES[name]
    assert found["fix"].fingerprint == FIXES[name].fingerprint
    assert (found["revision"], found["down_revision"]) == ("0042", "0041")


def test_of_a_recorded_fix_too() -> None:
    found = read(revision_of_fix(PLACE, "Merge", RECORDED, statements="UPDATE x SET y = 1"))
    assert found["fix"] == RECORDED


def test_a_long_declaration_has_one_argument_a_line() -> None:
    change = Update("orders", set={"a": 1, "b": "b" * 40}, where="c IS NULL")
    assert """
fix = DataFix(
    name="n",
    reason="r",
    change=Update(
        "orders",
        set={"a": 1, "b": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"},
        where="c IS NULL",
    ),
    rows=Rows(key="id", expect=2),
    audit="orders_audit",
)
""" in revision_of_fix(PLACE, "x", declared(change=change))


def test_the_linter_has_nothing_to_say_but_of_long_lines(tmp_path: Path) -> None:
    """What a formatter wants besides, a project's post-write hooks do. All at once: each start of ruff takes its time."""
    texts = [revision_of_fix(PLACE, LONG, fix) for fix in FIXES.values()]
    texts += [
        revision_of_fix(PLACE, 'x "y" \\z', RECORDED, statements=statements) for statements in STATEMENTS
    ]
    made = [
        {"target": "Order Items", "name": "order_items_audit", "schema": "shop", "audit_schema": "audit"}
    ] * 2
    texts += [revision_of_audit_tables(PLACE, "audit", made, update=update) for update in (True, False)]
    for number, text in enumerate(texts):
        (tmp_path / f"r{number}.py").write_text(text, encoding="utf-8")
    rules = "E,F,I,UP,B,COM818,C4,SIM,RUF022,PIE,RET,D3"
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", rules, "--ignore", "E501", "--isolated", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


STATEMENTS = [
    "UPDATE orders SET a = 1",
    "UPDATE orders\n   SET a = 'it''s'\n WHERE b = \"B\"",
    "UPDATE orders SET a = '\\d+' WHERE a ~ '\\\\'",
    "SELECT $$it's \"\"\" there$$, E'\\n'",
    'SELECT 1 AS "x"',
    "-- a comment\nUPDATE " + "x" * 300,
    "UPDATE a SET b = 'trailing  \n  \n' || '\t'",
    "UPDATE a SET b = '\x07\u202e Ω'",
    "UPDATE a SET b = 'x' -- ends with \\",
    "UPDATE a SET b = '%' || :x || '%s {0}'",
]


@pytest.mark.parametrize("statements", STATEMENTS)
def test_statements_arrive_as_they_were_given(statements: str) -> None:
    sent: list[str] = []

    class Body:
        def execute(self, text: str) -> None:
            sent.append(text)

    class Op:
        def record_datafix(self, _: object) -> "Op":
            return self

        def __enter__(self) -> Body:
            return Body()

        def __exit__(self, *_: object) -> None:
            pass

    found = read(revision_of_fix(PLACE, "x", RECORDED, statements=statements))
    found["op"] = Op()
    found["upgrade"]()
    assert [text.strip("\n") for text in sent] == [statements]


def test_any_text_survives() -> None:
    chance = random.Random(1)
    marks = "ab '\"\\\n\t\r{}%:é😀\u2028\x7f"
    for _ in range(300):
        text = "".join(chance.choice(marks) for _ in range(chance.randrange(120)))
        fix = declared(change=Update("t", set={"a": text}, where="true"))
        found = read(revision_of_fix(PLACE, text, fix))
        assert found["fix"].change.set["a"] == text


def test_the_first_line_is_a_sentence() -> None:
    text = revision_of_fix(PLACE, 'reprice "untaxed" orders \\ """', declared())
    assert text.startswith("\"\"\"Reprice 'untaxed' orders / '''.\n\nRevision ID: 0042\nRevises: 0041\n")
    assert (
        read(
            revision_of_audit_tables(
                Place("1", None, Path("x"), PLACE.created), "x", [{"target": "a", "name": "b"}]
            )
        )["down_revision"]
        is None
    )


def test_audit_tables_are_made_and_dropped_in_reverse() -> None:
    text = revision_of_audit_tables(
        PLACE,
        "x",
        [{"target": "a", "name": "a_audit"}, {"target": "b", "name": "b_audit", "schema": "shop"}],
    )
    up, down = text.split("def downgrade")
    assert (
        'op.create_audit_table("a", name="a_audit")\n    op.create_audit_table("b", name="b_audit", schema="shop")'
        in up
    )
    assert 'op.drop_audit_table("b_audit", audit_schema="shop")\n    op.drop_audit_table("a_audit")' in down
    assert "from datafixes" not in text
