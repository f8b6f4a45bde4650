"""A declaration that is another one at each load: found by the plan, and named by the upgrade that was bound to a plan.

Kinds: a clock, chance, the process, the order of a set, what a helper of another file makes; a recorded fix; an insert. What
stays the same between two loads, and another day or another machine would change, shows in the upgrade only.
"""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.projects import FIX, Project, project_with_fix
from tests.servers import LEDGER, Database

UPDATE = """
fix = DataFix(name="f1", reason="r 1", change=Update("item", set={{"note": {value}}}), rows=Rows(key="id", expect=[1, 2]), audit="item_audit")
"""
DIFFERS = {
    "clock": UPDATE.format(value="dt.datetime.now(dt.UTC).isoformat()"),
    "chance": UPDATE.format(value="str(uuid.uuid4())"),
    "process": UPDATE.format(value="str(os.getpid())"),
    "hash": UPDATE.format(value="str(hash('x'))"),
    "set": UPDATE.format(value="','.join({'n%d' % n for n in range(40)})"),
    "other file": "import shop_helper\n" + UPDATE.format(value="shop_helper.NOW"),
    "insert": """
import random
fix = DataFix(name="f1", reason="r 1", change=Insert("item", rows=[{"id": random.randrange(10**8), "symbol": "X", "status": "open"}]),
              rows=Rows(key="id", expect=1), audit="item_audit")
""",
    "recorded": """
import time
from datafixes import RecordedFix, Table
fix = RecordedFix(name="f1", reason="r 1", tables=[Table("item", "item_audit", updated=1, ensure=f"{time.time_ns()} > 0")])
""",
}
RECORD = "with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE item SET note = 'x' WHERE id = 1\")"


def project(directory: Path, database: Database, top: str) -> Project:
    up = RECORD if "RecordedFix(" in top else "op.apply_datafix(fix)"
    return project_with_fix(directory, database, up=up, top=top)


@pytest.mark.parametrize("kind", DIFFERS)
def test_a_plan_says_it_and_is_not_fine(
    tmp_path: Path, database: Database, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/shop_helper.py").write_text("import time\nNOW = str(time.time_ns())\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    of = project(tmp_path, database, DIFFERS[kind])
    before = database.dump()
    plan = answer(of, "plan", code=3)
    [run] = plan["steps"][0]["runs"]
    assert (plan["fine"], plan["digest"], plan["refusal"]) == (False, "", None)
    assert len(run["reloaded"]) == 64
    assert run["reloaded"] != run["fingerprint"]
    for form in ("terminal", "markdown", "html"):
        ran = datafixes(of, "plan", "--format", form)
        assert ran.code == 3
        assert "differs at each load" in " ".join(ran.out.split())
        assert "All of it can be reverted" not in ran.out
        assert "-x plan=" not in ran.out
    assert database.dump() == before


@pytest.mark.parametrize(
    "top",
    [
        f"fix = {FIX.strip()}",
        UPDATE.format(value="os.environ.get('HOME')"),
        UPDATE.format(value="sql('now()::text')"),
    ],
)
def test_a_declaration_that_stays_is_fine(tmp_path: Path, database: Database, top: str) -> None:
    plan = answer(project(tmp_path, database, top), "plan")
    assert (plan["fine"], plan["steps"][0]["runs"][0]["reloaded"]) == (True, None)
    assert len(plan["digest"]) == 16


def test_a_file_that_cannot_be_loaded_by_itself_is_no_finding(tmp_path: Path, database: Database) -> None:
    """What prints, raises or ends elsewhere is not held against it."""
    top = f"import sys\nif 'pytest' not in sys.modules:\n    print('loud')\n    raise SystemExit(0)\nfix = {FIX.strip()}"
    plan = answer(project(tmp_path, database, top), "plan")
    assert (plan["fine"], plan["steps"][0]["runs"][0]["reloaded"]) == (True, None)


def test_what_prints_while_it_is_loaded_is_compared_all_the_same(tmp_path: Path, database: Database) -> None:
    top = "import sys\nif 'pytest' not in sys.modules:\n    print('loud')\n" + DIFFERS["clock"]
    assert answer(project(tmp_path, database, top), "plan", code=3)["steps"][0]["runs"][0]["reloaded"]


def test_the_second_load_ends_with_a_plan_that_is_given_up(tmp_path: Path, database: Database) -> None:
    pid = tmp_path / "pid"
    slow = f"""
import sys, time
from pathlib import Path
PID = Path({str(pid)!r})
if "pytest" not in sys.modules:
    PID.with_suffix(".new").write_text(str(os.getpid()), "utf-8")
    PID.with_suffix(".new").rename(PID)
    time.sleep(600)
fix = {FIX.strip()}
"""
    up = "while not PID.exists():\n    time.sleep(0.05)\nraise KeyboardInterrupt"
    of = project_with_fix(tmp_path, database, up=up, top=slow)
    with suppress(KeyboardInterrupt):
        assert datafixes(of, "plan").code != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text("utf-8")), 0)


# An upgrade that is bound to a plan.


def bound(of: Project, digest: str) -> str:
    """The last line of an upgrade that must be the planned one, and is refused."""
    before = of.database.dump(*LEDGER)
    ran = of.process("-x", f"plan={digest}", "upgrade", "head")
    assert ran.code == 255
    assert of.database.dump(*LEDGER) == before
    assert of.outcomes == ["failed"]
    return ran.last_line


def test_rows_that_changed_are_called_rows(tmp_path: Path, database: Database) -> None:
    of = project(tmp_path, database, UPDATE.format(value="'n1'"))
    digest = answer(of, "plan")["digest"]
    database.execute("UPDATE item SET note = 'other' WHERE id = 1")
    assert "the rows are not those that were planned" in bound(of, digest)


def test_a_declaration_that_differs_at_each_load_is_called_so(tmp_path: Path, database: Database) -> None:
    of = project(tmp_path, database, DIFFERS["clock"])
    digest = answer(of, "plan", code=3)["steps"][0]["runs"][0]["digest"]
    line = bound(of, digest)
    assert "datafix f1: the declaration differs at each load (fingerprint " in line
    assert "datafixes check" in line
    assert "the rows are not" not in line


@pytest.mark.parametrize(
    ("planned", "applied"),
    [
        (UPDATE.format(value="'n1'"), UPDATE.format(value="'n2'")),
        (UPDATE.format(value="os.environ.get('RELEASE')"), ""),
        ("from pathlib import Path\n" + UPDATE.format(value="Path(__file__ + '.csv').read_text()"), ""),
    ],
    ids=["edited", "environment", "file"],
)
def test_a_declaration_that_is_another_one_since_the_plan_is_called_so(
    tmp_path: Path, database: Database, planned: str, applied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEASE", "one")
    csv = tmp_path / "migrations/versions/b.py.csv"
    of = project(tmp_path, database, UPDATE.format(value="'n1'"))
    csv.write_text("one", "utf-8")
    of.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=planned)
    digest = answer(of, "plan")["digest"]
    monkeypatch.setenv("RELEASE", "two")
    csv.write_text("two", "utf-8")
    if applied:
        of.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=applied)
    line = bound(of, digest)
    assert "is not the one that was planned: the revision was edited" in line
    assert digest in line


def test_what_a_plan_of_0_1_said_is_taken(tmp_path: Path, database: Database) -> None:
    """0.1 made the whole digest of the fix and its rows together."""
    from sqlalchemy import create_engine

    from datafixes.audit.digest import digest_as_before
    from datafixes.declaration.fix import DataFix, Update
    from datafixes.declaration.rows import Rows

    of = project(tmp_path, database, UPDATE.format(value="'n1'"))
    fix = DataFix(
        name="f1",
        reason="r 1",
        change=Update("item", set={"note": "n1"}),
        rows=Rows(key="id", expect=[1, 2]),
        audit="item_audit",
    )
    assert of.alembic("upgrade", "head").code == 0
    with create_engine(of.url).connect() as connection:
        digest = digest_as_before(connection, fix, 1)
    assert of.alembic("downgrade", "a").code == 0
    assert of.alembic("-x", f"plan={digest}", "upgrade", "head").code == 0
