"""Every case of this folder as a recorded fix: its effect and its images, back to the bit, conflicts found, and once more."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.cases.contents import Contents, Effect
from tests.projects import Project, new_project
from tests.servers import Database

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/fix.sql"))
# A fix says that triggers are to be silent; it does not switch them off by itself.
SILENCED = re.compile(r"ALTER\s+TABLE\s+\S+\s+(?:DISABLE|ENABLE)\s+TRIGGER\s+\w+\s*;?", re.IGNORECASE)
CHANGED = re.compile(
    r"\b(?:UPDATE|INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO)\s+(?:ONLY\s+)?([\w.\"]+)", re.IGNORECASE
)


@dataclass(frozen=True)
class Case:
    """One folder."""

    name: str

    @cached_property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text("expect.json"))
        return found

    def text(self, file: str) -> str:
        path = HERE / self.name / file
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def effect(self) -> dict[str, Effect]:
        return {
            table: Effect(rows["insert"], rows["update"], rows["delete"])
            for table, rows in (self.expected["effect"] or {}).items()
        }

    @property
    def tables(self) -> list[str]:
        """What the fix changes, or tries to."""
        tried = [
            name.replace('"', "").removeprefix("public.") for name in CHANGED.findall(self.text("fix.sql"))
        ]
        return list(dict.fromkeys([*self.effect, *(tried if self.expected["expect_error"] else [])]))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture
def project(tmp_path: Path, database: Database, case: Case) -> Project:
    """The case's tables with their audit tables, and its fix as revision `b`."""
    database.psql(case.text("setup.sql") + "\nCOMMIT;", "-v", "ON_ERROR_STOP=0", check=False)
    contents = Contents(database, case.tables)
    described = []
    for table in contents.tables:
        effect = case.effect.get(table, Effect(1, 1, 1))
        if not contents.key(
            table
        ):  # without a key, an update is the end of one image and the beginning of another
            effect = Effect(effect.inserted + effect.updated, 0, effect.updated + effect.deleted)
        described.append(
            f"Table({table!r}, {table + '_audit'!r}, inserted={effect.inserted}, updated={effect.updated}, deleted={effect.deleted})"
        )
    body = case.text("fix.sql")
    fix = (
        "from datafixes import RecordedFix, Table\n\n"
        f"fix = RecordedFix(name='case', reason='A case.', tables=[{', '.join(described)}], fire_triggers={not SILENCED.search(body)})\n"
    )
    made = new_project(tmp_path, database)
    made.revision(
        "a", None, "\n".join(f"op.create_audit_table({t!r}, name={t + '_audit'!r})" for t in contents.tables)
    )
    made.revision(
        "b", "a", f"with op.record_datafix(fix) as body:\n    body.execute({SILENCED.sub('', body)!r})",
        "op.revert_datafix(fix)", top=fix,
    )  # fmt: skip
    assert made.alembic("upgrade", "a").code == 0
    return made


def upgrade(project: Project, way: str) -> None:
    if way == "online":
        ran = project.alembic("upgrade", "head")
        assert ran.code == 0, ran.out + ran.err
    else:
        project.database.psql(project.script("a:b"), "-v", "ON_ERROR_STOP=1")


@pytest.mark.parametrize("way", ["online", "script"])
def test_case(project: Project, database: Database, case: Case, way: str) -> None:
    contents = Contents(database, case.tables)
    before = contents.dump()
    if case.expected["expect_error"]:
        ran = project.alembic("upgrade", "head")
        [line] = [line for line in ran.out.splitlines() if line.startswith("FAILED: ")]
        assert f"[SQLSTATE {case.expected['expect_error']}]" in line
        assert (ran.code, contents.dump(), "Traceback" in ran.err) == (255, before, False)
        return
    contents.keep()
    upgrade(project, way)
    for table, effect in case.effect.items():
        assert contents.effect(table) == contents.folded(table, effect), table
        assert contents.images_are_true(table), table
    assert set(contents.changed()) == set(case.effect)
    if after := case.text("after.sql"):
        database.psql(f"BEGIN; {after}; ROLLBACK;", "-v", "ON_ERROR_STOP=1")
    for again in range(2):
        ran = project.alembic("downgrade", "a")
        assert ran.code == 0, ran.out
        assert contents.dump() == before
        upgrade(project, way)
        assert contents.changed() if not again else True
    if contents.somebody_writes(case.effect):
        now = contents.dump()
        ran = project.alembic("downgrade", "a")
        assert ran.code == 255
        assert re.search(r"cannot be restored: .*(changed since|taken|gone)", ran.out), ran.out
        assert contents.dump() == now
