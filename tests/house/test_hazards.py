"""Every known hazard has a test that carries its number, or a reason why it cannot concern the tool."""

import ast
import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
HIGHEST = {"A": 21, "B": 41, "C": 44}
"""The last number of each kind: A, the fidelity of copies; B, Alembic, psql and drivers; C, PostgreSQL."""

KNOWN = {f"{kind}{number}" for kind, highest in HIGHEST.items() for number in range(1, highest + 1)}

_LINE = re.compile(r"- \*\*([ABC]\d+)\*\* \S.*\.")


def _numbers_in(name: str) -> set[str]:
    """`test_b2_c07_the_rest` → B2 and C7: numbers stand right behind `test_`, one after the other."""
    leading = re.match(r"test((?:_[abc]\d+)+)(?:_|$)", name)
    return (
        {f"{part[0].upper()}{int(part[1:])}" for part in leading[1].split("_") if part} if leading else set()
    )


def _tested() -> dict[str, str]:
    """Hazard → one of the tests that carry its number."""
    return {
        number: f"{path.relative_to(TESTS)}: {node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for number in _numbers_in(node.name)
    }


def _excused() -> list[str]:
    """The hazards of hazards.md, in its order; a line of any other form is an error."""
    lines = [
        line
        for line in (TESTS / "hazards.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("- ")
    ]
    matches = {line: _LINE.fullmatch(line) for line in lines}
    assert [line for line, match in matches.items() if not match] == []
    return [match[1] for line in lines if (match := matches[line])]


def _in_order(numbers: set[str]) -> list[str]:
    return sorted(numbers, key=lambda number: (number[0], int(number[1:])))


def test_every_hazard_has_a_test_or_a_reason() -> None:
    missing = _in_order(KNOWN - _tested().keys() - set(_excused()))
    assert not missing, f"neither a test nor a line in tests/hazards.md: {', '.join(missing)}"


def test_no_hazard_is_excused_twice_or_unknown_or_although_it_has_a_test() -> None:
    excused = Counter(_excused())
    assert [number for number, times in excused.items() if times > 1] == []
    assert _in_order(excused.keys() - KNOWN) == []
    assert {number: test for number, test in _tested().items() if number in excused} == {}


def test_no_test_carries_a_number_that_no_hazard_has() -> None:
    assert {number: test for number, test in _tested().items() if number not in KNOWN} == {}


def test_numbers_are_read_from_names() -> None:
    # The tests above would pass if everything were read as everything.
    assert _numbers_in("test_c14_a_write") == {"C14"}
    assert _numbers_in("test_b02_c7_after_b3_came") == {"B2", "C7"}
    assert _numbers_in("test_a_lock_of_c14") == _numbers_in("test_c14th") == set()
    assert len(_tested()) > 70
