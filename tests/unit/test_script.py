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

from datafixes import DataFix, Rows, Update, sql
from datafixes.script import literal
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from datafixes.script.frame import Limits
from datafixes.script.revert import revert_script

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
    block = compile_(phantom_cleanup(), context, Limits()).block + ";\n"
    golden = GOLDEN / f"015_{direction}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(block, "ascii")
    assert block == golden.read_text("ascii")


def test_a_script_holds_the_functions_that_it_calls_and_no_others() -> None:
    script = apply_script(small(), Context(), Limits())
    defined = {
        line.split("pg_temp.")[1].split("(")[0]
        for line in script.text.splitlines()
        if "REPLACE FUNCTION" in line
    }
    assert "datafix_begin" in defined
    assert "datafix_compare" not in defined  # that is for reverts
    for name in defined - {"datafix_open"}:
        assert script.text.count(f"pg_temp.{name}(") > 1, f"{name} is defined and never called"


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
