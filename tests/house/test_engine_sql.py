"""The engine's SQL reads like a page: short lines, facts in words, one way to refuse, and every key explained."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SQL_FILES = sorted((PROJECT / "datafixes").rglob("*.sql"))
ENGINE = {path.name: path.read_text(encoding="ascii") for path in SQL_FILES if path.parent.name == "script"}

WIDTH = 120
HAZARD = re.compile(r"\([ABC]\d+(?:, ?[ABC]\d+)*\)")

# What holds a fix, or one of its tables, where its keys are read.
_FIX = r"(?<![\w.])(?:fix|one|declared|child|was\.fix|\$1|t|kept|named)"
_READ = re.compile(rf"{_FIX} (?:->>?|\?) '{{1,2}}(\w+)'")
_EXPLAINED = re.compile(r"^--   (\w+) {2,}\S", re.MULTILINE)

# Reads the session's own settings; runs statements that hold the author's SQL.
UNPINNED = {"datafix_surroundings", "datafix_copy", "datafix_meet"}

# Keys of what the catalog or the ledger tells of a column, a type or a run: `t`, `$1` and `kept` stand for these too.
OTHER_KEYS = {"column", "type", "oid", "labels", "reached", "done"}


def _without_comments(text: str) -> str:
    return re.sub(r"--[^\n]*", "", text)


def _functions() -> dict[str, str]:
    found = (
        re.split(r"(?=^CREATE OR REPLACE FUNCTION pg_temp\.)", text, flags=re.MULTILINE)[1:]
        for text in ENGINE.values()
    )
    return {part.split("(")[0].split(".")[1]: part for parts in found for part in parts}


def test_lines_of_sql_fit_a_screen() -> None:
    long = {
        f"{path.relative_to(PROJECT)}:{number}": len(line)
        for path in SQL_FILES
        for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1)
        if len(line) > WIDTH
    }
    assert long == {}


def test_facts_stand_in_words_and_not_as_numbers_of_hazards() -> None:
    # In SQL, and in the text that Python puts around it: both are read where no list of hazards is at hand.
    texts = dict(ENGINE)
    for path in sorted((PROJECT / "datafixes" / "script").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        texts[path.name] = "\n".join(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documentation
        )
    assert {name: HAZARD.findall(text) for name, text in texts.items() if HAZARD.search(text)} == {}


def test_a_fix_is_refused_in_one_way() -> None:
    # The helper puts the name in front. What is left raises by itself: the helper's own statement, what repeats an
    # error without masked values, and what runs when the engine is gone: at the commit, and ever after.
    raising = {name for name, body in _functions().items() if "RAISE EXCEPTION" in _without_comments(body)}
    assert raising == {"datafix_refuse", "datafix_fail", "datafix_make_guard", "datafix_make_append_only"}
    assert [
        name for name, body in _functions().items() if re.search(r"datafix_refuse\([^;]*'datafix %s:", body)
    ] == ["datafix_refuse_fix"]


def test_columns_beside_those_of_a_table_have_reserved_names() -> None:
    # Temporary tables hold columns of the user's table and the engine's own. A table whose columns are called so is
    # refused, by this pattern.
    pattern = "".join(
        re.findall(r"'([^']*)'", ENGINE["guards.sql"].split("c ->> 'name' ~ ")[1].split(";")[0])
    )
    own = {
        name
        for text in ENGINE.values()
        for name in re.findall(r"\b(?:false|NULL::\w+|END|datafix_image text) AS (datafix_[a-z_]+)\b", text)
    }
    reserved = re.compile(pattern.split("|[{]")[0])
    assert own >= {"datafix_state", "datafix_contested"}
    assert [name for name in sorted(own) if not reserved.match(name)] == []


def test_functions_pin_the_search_path() -> None:
    # Operators and functions without a schema are found there, whatever the caller has set.
    loose = {
        name for name, body in _functions().items() if "SET search_path = pg_catalog, pg_temp" not in body
    }
    assert loose == UNPINNED


def test_each_key_of_a_fix_is_explained() -> None:
    explained = _EXPLAINED.findall(ENGINE["engine.sql"].split("\n\n")[0])
    read = {key for text in ENGINE.values() for key in _READ.findall(_without_comments(text))}
    assert len(read) > 50
    assert sorted(read - set(explained) - OTHER_KEYS) == []
    assert len(explained) == len(set(explained))


def test_no_key_is_explained_that_nothing_knows() -> None:
    explained = _EXPLAINED.findall(ENGINE["engine.sql"].split("\n\n")[0])
    python = "\n".join(path.read_text() for path in (PROJECT / "datafixes" / "script").glob("*.py"))
    known = "\n".join(_without_comments(text) for text in ENGINE.values()) + python
    assert [key for key in explained if not re.search(rf"['\"]{key}['\"]", known)] == []
