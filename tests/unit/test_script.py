"""What a fix compiles to: one text, ASCII, to be read from top to bottom."""

import dataclasses
import datetime as dt
import decimal
import importlib.util
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql
from datafixes.script import literal
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from datafixes.script.decline import decline_script
from datafixes.script.frame import Limits
from datafixes.script.record import recorded_script
from datafixes.script.revert import revert_script
from datafixes.script.tables import AuditTable, create_script, drop_script, ledger_script

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


def phantom_cleanup() -> DataFix:
    spec = importlib.util.spec_from_file_location(
        "r015", ROOT / "alembic/versions/015_close_phantom_positions.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fix: DataFix = module.fix
    return fix


def small(**change: Any) -> DataFix:
    given = {"set": {"status": "closed"}, "where": "status = 'open'"} | change
    return DataFix(
        name="small",
        reason="a test",
        change=Update("t", **given),
        rows=Rows(key="id", expect=[1]),
        audit="t_audit",
    )


@pytest.mark.parametrize(("direction", "compile_"), [("apply", apply_script), ("revert", revert_script)])
def test_the_block_of_015_reads_as_reviewed(direction: str, compile_: Any) -> None:
    """Rewrite the files with UPDATE_GOLDEN=1, and review what changed."""
    upgrading = direction == "apply"
    context = Context(
        revision="015",
        upgrading=upgrading,
        after=("014",) if upgrading else ("015",),
        version_table_schema="public",
        application="commit 3f2a",
    )
    block = compile_(phantom_cleanup(), context, Limits()).own[0] + ";\n"
    golden = GOLDEN / f"015_{direction}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(block, "ascii")
    assert block == golden.read_text("ascii")


def some_declared_fixes() -> list[DataFix]:
    """One of each kind, and one with everything that a declaration can say."""
    rows = Rows(key="id", expect=1)
    every = Rows(key="id", expect={1: "x"}, identity={"name": "name"}, ensure="n > 0")
    inserted: list[dict[str, Any]] = [{"id": 1, "n": decimal.Decimal("1.5")}]
    changes = [
        (Delete("t", where="true"), rows, {}),
        (Insert("t", rows=inserted, where="true"), rows, {}),
        (Update("t", set={"at": dt.datetime(2026, 1, 1), "n": sql("n + 1")}), every,
         {"fire_triggers": False, "may_differ": ["other"]}),
    ]  # fmt: skip
    made = (
        DataFix(name="f", reason="a test", change=change, rows=of, audit="t_audit", **more)  # type: ignore[arg-type]
        for change, of, more in changes
    )
    return [small(), phantom_cleanup(), *made]


def test_the_engine_is_the_same_for_every_declared_fix() -> None:
    """A reviewer who has read it once recognizes it by its digest."""
    contexts = (Context(), Context(revision="b", after=("a",), masks=("t.*",)))
    engines = [
        apply_script(fix, context, Limits()).engine for fix in some_declared_fixes() for context in contexts
    ]
    engine = engines[0]
    assert all(other == engine for other in engines)
    assert engine.digest in apply_script(small(), Context(), Limits()).run
    assert "datafix_begin" in engine.functions
    assert "datafix_compare" not in engine.functions  # that is for reverts
    reverts = [
        revert_script(fix, dataclasses.replace(context, chosen=chosen), Limits()).engine
        for fix in some_declared_fixes() for context in contexts for chosen in (None, {"": [(1,)]})
    ]  # fmt: skip
    assert all(other == reverts[0] for other in reverts)


def test_a_transaction_gets_each_function_once() -> None:
    script = apply_script(small(), Context(), Limits())
    first, *_ = script.engine.functions
    assert script.statements(script.engine.functions) == (
        *script.before,
        *script.own,
        script.run,
        *script.after,
    )
    some = script.statements([first])
    assert len(some) == len(script.statements()) - 1
    assert f"FUNCTION pg_temp.{first}(" not in "".join(some)
    assert "does not have yet" in "".join(some)


def test_the_fix_comes_first() -> None:
    text = apply_script(phantom_cleanup(), Context(), Limits()).text.splitlines()
    assert text[0] == "-- datafix close_phantom_positions: apply"
    assert next(n for n, line in enumerate(text) if "PROCEDURE pg_temp.datafix_run()" in line) < 60
    assert text.index("CALL pg_temp.datafix_run();") > next(
        n for n, line in enumerate(text) if "datafixes_engine" in line
    )


def test_b39_a_script_is_ascii_whatever_the_fix_says() -> None:
    fix = DataFix(
        name="accents",
        reason="Die Bücher stimmen nicht — wirklich",
        change=Update("größe", set={"straße": "Zürich"}, where="name = 'Käse'"),
        rows=Rows(key="schlüssel", identity={"ort": "coalesce(ort, 'Öde')"}, expect={"ä": "ö"}),
        audit="prüfung",
    )
    assert apply_script(fix, Context(), Limits()).text.isascii()
    assert revert_script(fix, Context(), Limits()).text.isascii()


def test_the_fingerprint_is_of_what_decides_and_not_of_prose() -> None:
    one = phantom_cleanup()
    assert dataclasses.replace(one, reason="another one").fingerprint == one.fingerprint
    assert dataclasses.replace(one, name="other").fingerprint != one.fingerprint
    assert small(set={"status": "1"}).fingerprint != small(set={"status": 1}).fingerprint
    assert small(set={"status": sql("1")}).fingerprint != small(set={"status": 1}).fingerprint
    assert small(where="status = 'opened'").fingerprint != small().fingerprint


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("status", "status"),
        ("Order Items", '"Order Items"'),
        ("order", '"order"'),
        ('say "no"', '"say ""no"""'),
        ("größe", 'U&"gr\\00f6\\00dfe"'),
        ("a\\ß", 'U&"a\\\\\\00df"'),
        ("🂡", 'U&"\\+01f0a1"'),
        ("1st", '"1st"'),
    ],
)
def test_names(name: str, quoted: str) -> None:
    assert literal.name(name) == quoted


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "NULL"),
        (True, "TRUE"),
        (-7, "-7"),
        (decimal.Decimal("1.50"), "1.50"),
        (decimal.Decimal("NaN"), "'NaN'"),
        (0.1, "'0.1'"),
        (-0.0, "'-0.0'"),
        (float("inf"), "'inf'"),
        ("it's", "'it''s'"),
        ("100% \\ tab\there", "E'100% \\\\ tab\\there'"),
        ("Zürich", "E'Z\\u00fcrich'"),
        (b"\x00\xff", "pg_catalog.decode('00ff', 'hex')"),
        (dt.date(2026, 2, 3), "'2026-02-03'"),
        (dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC), "'2026-02-03 16:00:00+00:00'"),
        (uuid.UUID(int=1), "'00000000-0000-0000-0000-000000000001'"),
        (sql("now()"), "(now())"),
    ],
)
def test_values(value: Any, written: str) -> None:
    assert literal.value(value) == written


def test_a_body_is_quoted_with_a_tag_that_is_not_in_it() -> None:
    assert literal.body("SELECT 1") == "$sql$SELECT 1$sql$"
    assert literal.body("SELECT '$sql$'") == "$sql_$SELECT '$sql$'$sql_$"
    assert literal.body("SELECT 'ü'").startswith("E'")


def test_no_line_of_a_script_is_wider_than_a_reviewer_can_read() -> None:
    """What an author writes stays on the lines that it has."""
    recorded = RecordedFix(
        name="merge_customers",
        reason="The import made two of one.",
        tables=[
            Table("customers", "customers_audit", key="id", identity={"name": "name"}, deleted={7: "Acme Inc"}, ensure="id > 0"),
            Table("orders", "orders_audit", inserted=2, updated=3, deleted=4, tolerance=1),
        ],
        ensure="(SELECT count(*) FROM customers) > 0",
    )  # fmt: skip
    masked = Context(revision="015", after=("014",), application="commit 3f2a", masks=("customers.name",))
    table = AuditTable("active_positions", "position_reconciliation_audit", "public", "public")
    scripts = {
        "015": apply_script(phantom_cleanup(), masked, Limits()),
        "015 reverted": revert_script(
            phantom_cleanup(), dataclasses.replace(masked, chosen={"": [(16,)]}), Limits()
        ),
        "recorded": recorded_script(recorded, ["DELETE FROM customers WHERE id = 7"], masked, Limits()),
        "declined": decline_script(phantom_cleanup(), "closed by hand", masked, Limits()),
        "audit table": create_script(table, Limits()),
        "ledger": ledger_script("public", Limits()),
        "drop": drop_script(table.name, "public", Limits(), discard=True),
    }
    wide = {
        name: line for name, script in scripts.items() for line in script.text.splitlines() if len(line) > 120
    }
    assert wide == {}
