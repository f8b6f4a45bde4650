"""``datafixes doctor``: each known trouble is found in a project that has it, and none in one that has not."""

import datetime as dt
import json
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from datafixes.doctor.env_file import check_env, read_env
from datafixes.doctor.plugin import check_autogenerate, check_plugin
from datafixes.doctor.project_checks import check_folder
from datafixes.doctor.server import check_clock, check_counts, check_version
from datafixes.report.document import Fact
from tests.cli.commands import datafixes
from tests.projects import STOCK_ENV, TABLE, Project, new_project, our_project, project_with_fix
from tests.servers import Database


@dataclass(frozen=True)
class Told:
    code: int
    findings: list[dict[str, Any]]

    def of(self, check: str) -> dict[str, Any]:
        [found] = [one for one in self.findings if one["check"] == check]
        return found

    def bad(self) -> list[str]:
        return [one["check"] for one in self.findings if one["state"] == "bad"]


def doctor(project: Project, *more: str) -> Told:
    ran = datafixes(project, *more, "doctor", "--format", "json")
    assert ran.out, ran.err
    value = json.loads(ran.out)
    assert (value["kind"], value["version"]) == ("doctor", 1)
    assert value["fine"] is (ran.code == 0)
    assert all(bool(one["remedy"]) is (one["state"] != "good") for one in value["findings"])
    return Told(ran.code, value["findings"])


def test_a_healthy_project_is_all_good(database: Database) -> None:
    project = our_project(database)
    assert project.alembic("upgrade", "head").code == 0
    before = database.dump()
    told = doctor(project)
    # One role owns the copies and runs fixes.
    assert [one["check"] for one in told.findings if one["state"] != "good"] == ["owner"]
    assert told.code == 0
    assert len(told.findings) >= 16
    assert database.dump() == before


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_it_can_be_read(tmp_path: Path, database: Database, form: str) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("ALTER TABLE item ADD COLUMN extra text")
    ran = datafixes(project, "doctor", "--format", form)
    assert ran.code == 3
    assert "op.update_audit_table" in ran.out
    assert "1 to fix, 1 to review" in ran.out


def test_without_a_database_the_project_is_looked_at_all_the_same(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_with_fix(tmp_path, database)
    ini = tmp_path / "alembic.ini"
    ini.write_text(ini.read_text().partition("sqlalchemy.url")[0])
    for url, state, code in (("", "attention", 0), ("postgresql://me:s3cret@127.0.0.1:1/x", "bad", 3)):
        monkeypatch.setenv("DATABASE_URL", url)
        ran = datafixes(None, "-c", str(ini), "doctor", "--format", "json")
        told = Told(ran.code, json.loads(ran.out)["findings"])
        assert (told.code, told.of("database")["state"]) == (code, state)
        assert told.of("heads")["evidence"] == "The project has one: b."
        assert "s3cret" not in ran.out


# env.py, read and not run.

STOCK = STOCK_ENV.replace("import datafixes.operations\n", "")
CONFIGURE = "connection=connection, target_metadata=target_metadata"


def of_env(text: str, version: tuple[int, ...] = (1, 17)) -> dict[str, Fact]:
    env = read_env(text)
    found = [*check_env(env), check_autogenerate(env, version, True, True)]
    return {one.name.removeprefix("env.py: "): one for one in found}


def test_what_alembic_init_writes_needs_attention_and_no_more() -> None:
    found = of_env(STOCK)
    assert {name: one.state for name, one in found.items()} == {
        "env.py": "good",
        "transaction": "good",
        "transactions": "attention",
        "autogenerate": "good",  # it has no metadata
    }
    assert "transaction_per_migration=True" in found["transactions"].remedy


@pytest.mark.parametrize(
    ("before", "state"),
    [
        ('connection.execute(text("SET lock_timeout = 1"))', "bad"),
        ('connection.exec_driver_sql("SELECT 1").scalar()', "bad"),
        ('version = connection.scalar(text("SELECT 1"))', "bad"),
        ('connection.execute(text("SELECT 1"))\n        connection.commit()', "good"),
        ('with connection.begin():\n            connection.execute(text("SELECT 1"))', "good"),
        ('with suppress(ValueError): connection.execute(text("SELECT 1"))', "bad"),
        ("pass", "good"),
        ('with connectable.begin() as other:\n            other.execute(text("CREATE SCHEMA s"))', "good"),
        (
            'with connectable.connect() as other:\n            other.execute(text("CREATE SCHEMA s"))\n            other.commit()',
            "good",
        ),
        ('lock = connectable.connect()\n        lock.execute(text("SELECT pg_advisory_lock(1)"))', "good"),
    ],
)
def test_b23_a_statement_before_configure(before: str, state: str) -> None:
    online, mark, rest = STOCK.rpartition("        context.configure(")
    found = of_env(f"{online}        {before}\n{mark}{rest}")["transaction"]
    assert found.state == state
    if state == "bad":
        assert "before context.configure()" in found.text
        assert f"Line {online.count(chr(10)) + 1} runs connection." in found.text


RUN = "        with context.begin_transaction():\n            context.run_migrations()\n"
ASYNC = """
def do_run_migrations(connection):
    connection.execute(text("SET search_path TO shop"))
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


async def run_async_migrations():
    async with connectable.{opened} as connection:
        await connection.run_sync(do_run_migrations)
        {after}
"""


def test_b23_a_transaction_that_env_py_ends_later() -> None:
    online, mark, rest = STOCK.rpartition("        context.configure(")
    statement = '        connection.execute(text("SET search_path TO shop"))\n'
    assert RUN in rest
    committed = rest.replace(RUN, f"{RUN}        connection.commit()\n")
    for text, state in ((rest, "bad"), (committed, "attention")):
        assert of_env(f"{online}{statement}{mark}{text}")["transaction"].state == state
    for opened, after, state in (
        ("connect()", "pass", "bad"),
        ("connect()", "await connection.commit()", "attention"),
        ("begin()", "pass", "attention"),
    ):
        found = of_env(ASYNC.format(opened=opened, after=after))["transaction"]
        assert found.state == state, (opened, after)
        assert ("nothing is committed" in found.text) is (state == "bad")


def test_b32_autogenerate_would_drop_audit_tables() -> None:
    with_metadata = STOCK.replace(
        "target_metadata = None", "from app import Base\ntarget_metadata = Base.metadata"
    )
    assert of_env(with_metadata)["autogenerate"].state == "bad"
    hook = with_metadata.replace(CONFIGURE, f"{CONFIGURE}, include_object=leave_audit_tables_alone")
    assert hook != with_metadata
    assert (
        of_env(f"from datafixes.environment import leave_audit_tables_alone\n{hook}")["autogenerate"].state
        == "good"
    )
    other = with_metadata.replace(CONFIGURE, f"{CONFIGURE}, include_object=mine")
    assert of_env(other)["autogenerate"].state == "attention"


@pytest.mark.parametrize(
    ("options", "version", "state"),
    [
        ("", (1, 17), "bad"),
        ("", (1, 18), "good"),
        (", include_object=mine", (1, 18), "good"),
        (", **more", (1, 18), "good"),
        (", **more", (1, 17), "attention"),
        (', autogenerate_plugins=["alembic.autogenerate.*", "app.*"]', (1, 20), "good"),
        (
            ', autogenerate_plugins=["alembic.autogenerate.tables", "alembic.autogenerate.datafixes"]',
            (1, 20),
            "good",
        ),
        (', autogenerate_plugins=["alembic.autogenerate.tables"]', (1, 20), "bad"),
        (
            ', autogenerate_plugins=["alembic.autogenerate.*", "~alembic.autogenerate.datafixes"]',
            (1, 20),
            "bad",
        ),
        (', autogenerate_plugins=["alembic.*", "~alembic.autogenerate.*", "app"]', (1, 20), "bad"),
        (", autogenerate_plugins=PLUGINS", (1, 20), "attention"),
    ],
)
def test_b32_the_hook_of_autogenerate(options: str, version: tuple[int, ...], state: str) -> None:
    env = STOCK.replace("target_metadata = None", "from app import Base\ntarget_metadata = Base.metadata")
    env = env.replace(CONFIGURE, f"{CONFIGURE}{options}")
    assert of_env(env, version)["autogenerate"].state == state
    assert of_env(f"import datafixes.operations\n{env}", (1, 13))["autogenerate"].state == "good"
    hook = f"from datafixes.environment import leave_audit_tables_alone\n{env}"
    assert of_env(hook.replace("=mine", "=leave_audit_tables_alone"), version)["autogenerate"].state in (
        state,
        "good",
    )


def test_b32_a_package_without_its_metadata_has_no_hook() -> None:
    env = STOCK.replace("target_metadata = None", "from app import Base\ntarget_metadata = Base.metadata")
    assert check_autogenerate(read_env(env), (1, 20), False, True).state == "bad"


def test_b32_new_check_and_plan_say_what_to_add(tmp_path: Path, database: Database) -> None:
    has_plugins = find_spec("alembic.runtime.plugins") is not None
    wanted = (
        "include_object=datafixes.environment.leave_audit_tables_alone"
        if has_plugins
        else "import datafixes.operations"
    )
    project = project_with_fix(tmp_path, database)
    commands = (
        ("check",), ("plan",), ("new", "reopen", "--table", "item", "--set", "status=open", "--where", "id = 1"),
    )  # fmt: skip
    for command in commands:
        assert wanted not in datafixes(project, *command).err
    (added,) = (tmp_path / "migrations/versions").glob("*reopen*.py")
    added.unlink()
    env = STOCK.replace(
        "target_metadata = None", "import sqlalchemy\ntarget_metadata = sqlalchemy.MetaData()"
    )
    project.env(env.replace(CONFIGURE, f"{CONFIGURE}, autogenerate_plugins=['alembic.autogenerate.tables']"))
    for command in commands:
        ran = datafixes(project, *command)
        assert ran.code == 0, ran.err
        assert wanted in ran.err
        assert wanted not in ran.out


def test_a_new_project_is_healthy_and_nothing_shouts(tmp_path: Path, database: Database) -> None:
    # It has models, and its env.py does not have the hook: that matters once there is an audit table.
    env = STOCK.replace(
        "target_metadata = None", "import sqlalchemy\ntarget_metadata = sqlalchemy.MetaData()"
    )
    env = env.replace(CONFIGURE, f"{CONFIGURE}, autogenerate_plugins=['alembic.autogenerate.tables']")
    project = new_project(tmp_path, database, f"import datafixes.operations\n{env}")
    told = doctor(project)
    assert (told.code, told.bad()) == (0, [])
    plain = "revision, down_revision = 'a', None\n\n\ndef upgrade():\n    pass\n"
    (tmp_path / "migrations/versions/a.py").write_text(plain, "utf-8")
    told = doctor(project)
    assert (told.code, told.bad()) == (0, [])
    hook = find_spec("alembic.runtime.plugins") is not None
    assert told.of("env.py: autogenerate")["state"] == ("attention" if hook else "good")
    for command in ("check", "plan"):
        assert datafixes(project, command).err.count("audit tables") == 0
    project.revision("b", "a", 'op.create_audit_table("item", name="item_audit")', top="# Copies.")
    database.psql(TABLE)
    assert project.alembic("upgrade", "head").code == 0
    assert doctor(project).of("env.py: autogenerate")["state"] == ("bad" if hook else "good")


def test_run_migrations_does_all_of_it() -> None:
    ours = "from alembic import context\nfrom datafixes.environment import run_migrations\nrun_migrations(context, target_metadata=m{})\n"
    assert {one.state for one in of_env(ours.format("")).values()} == {"good"}
    assert of_env(ours.format(", transaction_per_migration=False"))["transactions"].state == "attention"
    assert of_env(ours.format(", include_object=mine"))["autogenerate"].state == "good"  # it imports the hook
    assert of_env("print(1)")["env.py"].state == "attention"


def test_b33_operations_that_nobody_loads() -> None:
    plain, imported = read_env(STOCK), read_env("import datafixes.operations\n" + STOCK)
    assert check_plugin(plain, (1, 20), True).state == "good"
    assert check_plugin(plain, (1, 20), False).state == "bad"
    assert check_plugin(plain, (1, 17), True).state == "bad"
    assert check_plugin(imported, (1, 13), False).state == "good"
    assert check_plugin(read_env("from datafixes import operations"), (1, 13), False).state == "good"


def test_b34_a_package_called_alembic(tmp_path: Path) -> None:
    assert check_folder(tmp_path).state == "good"
    (tmp_path / "alembic").mkdir()
    assert check_folder(tmp_path).state == "good"
    (tmp_path / "alembic/__init__.py").touch()
    found = check_folder(tmp_path / "elsewhere", tmp_path)
    assert (found.state, "hides the library" in found.text) == ("bad", True)


def test_an_env_file_that_is_missing_or_broken(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.env("def (")
    assert "is not Python" in doctor(project).of("env.py")["evidence"]
    (tmp_path / "migrations/env.py").unlink()
    assert "cannot be read" in doctor(project).of("env.py")["evidence"]
    shutil.rmtree(tmp_path / "migrations")
    told = doctor(project)
    assert (told.code, told.bad()) == (3, ["revisions"])


# The revisions.


def test_several_heads_and_long_ids_and_names_used_twice(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c" * 33, "a", "pass", top="# Nothing.")
    top = 'fix = DataFix(name="close_items", reason="r", change=Delete("item"), rows=Rows(key="id", expect=[9]), audit="item_audit")'
    project.revision("d", "a", "op.apply_datafix(fix)", top=top)
    told = doctor(project)
    assert told.bad() == ["fixes", "heads", "revision ids"]
    assert told.of("heads")["evidence"].startswith("The project has 3: ")
    assert "c" * 33 in told.of("revision ids")["evidence"]
    database.execute("ALTER TABLE alembic_version ALTER COLUMN version_num TYPE varchar(64)")
    assert doctor(project).of("revision ids")["state"] == "good"


def test_a_revision_that_cannot_be_loaded(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c", "b", "pass", top="import nowhere_to_be_found")
    told = doctor(project)
    assert told.bad() == ["revisions"]
    assert "nowhere_to_be_found" in told.of("revisions")["evidence"]
    remedy = told.of("revisions")["remedy"]
    assert f"where the project's packages are installed; this is {sys.executable}." in remedy
    assert remedy in datafixes(project, "plan").err  # the same words elsewhere
    (tmp_path / "migrations/versions/c.py").unlink()
    project.env("import nowhere_to_be_found")
    ran = datafixes(project, "plan")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        1,
        f"FAILED: No module named 'nowhere_to_be_found'. {remedy}",
    )
    project.revision("c", "b", "pass", top="raise ValueError(1)")
    assert doctor(project).of("revisions")["remedy"] == "Correct the file: Alembic cannot load it either."


# The database.


def test_b30_another_search_path_finds_another_version_table(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert doctor(project).of("search_path")["state"] == "good"
    database.execute(f"ALTER DATABASE {database.name} SET search_path = other, public", "CREATE SCHEMA other")
    assert doctor(project).of("search_path")["state"] == "attention"
    database.execute(f"ALTER DATABASE {database.name} SET search_path = other")
    hidden = doctor(project).of("search_path")
    assert (hidden["state"], "does not find it" in hidden["evidence"]) == ("bad", True)
    database.execute("CREATE TABLE other.alembic_version (version_num varchar(32))")
    several = doctor(project)
    assert "the search_path (other) decides" in several.of("search_path")["evidence"]
    project.env("""
        from alembic import context
        from datafixes.environment import run_migrations

        run_migrations(context, version_table_schema="public")
        """)
    named = doctor(project)
    assert (named.code, named.of("search_path")["state"]) == (0, "good")
    assert named.of("revision")["evidence"] == "The database is at a; the head is b."


def test_b31_a_revision_that_nobody_knows(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("UPDATE alembic_version SET version_num = 'zz'")
    assert "at zz, which is not a revision of this project" in doctor(project).of("revision")["evidence"]
    database.execute(
        "ALTER TABLE alembic_version DROP CONSTRAINT alembic_version_pkc", "DELETE FROM alembic_version",
        "INSERT INTO alembic_version VALUES ('a'), ('a')",
    )  # fmt: skip
    assert "twice" in doctor(project).of("revision")["evidence"]
    database.execute("DROP TABLE alembic_version")
    assert doctor(project).of("revision")["state"] == "attention"


RECORDED = """
from datafixes import RecordedFix, Table
fix = RecordedFix(name="recorded", reason="r", tables=[Table("item", "item_audit", updated=1)])
"""


def test_privileges_that_a_role_lacks_are_named_with_the_grant(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c", "b", "pass", top=RECORDED)
    name = database.name
    database.execute(
        "CREATE ROLE weak LOGIN", f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
        "GRANT SELECT ON alembic_version, item TO weak",
    )  # fmt: skip
    try:
        told = doctor(project, "-x", f"url={database.url_for('weak')}")
        assert told.code == 3
        remedies = {one["remedy"] for one in told.findings if one["state"] == "bad"}
        assert remedies == {
            f'GRANT TEMPORARY ON DATABASE {name} TO "weak"',
            'GRANT UPDATE ON public.item TO "weak"',
            'GRANT SELECT, INSERT ON public.item_audit TO "weak"',
            'GRANT SELECT, INSERT, UPDATE ON public.datafix_run TO "weak"',
            'GRANT SELECT, INSERT, UPDATE ON public.datafix_run_table TO "weak"',
            'GRANT SELECT, INSERT ON public.datafix_chain TO "weak"',
            'GRANT SELECT, INSERT ON public.datafix_key TO "weak"',
            "Run migrations as postgres, or declare the fix (DataFix).",
        }
        database.execute(*(one for one in remedies if one.startswith("GRANT")))
        assert [one["remedy"] for one in doctor(project, "-x", f"url={database.url_for('weak')}").findings if one["check"] == "privileges"] == [
            "Run migrations as postgres, or declare the fix (DataFix)."
        ]  # fmt: skip
    finally:
        database.execute("DROP OWNED BY weak", "DROP ROLE weak")


def test_who_else_may_read_or_change_the_copies(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("CREATE ROLE doctor_auditor", "GRANT SELECT ON item_audit TO doctor_auditor")
    try:
        told = doctor(project)
        assert (told.code, told.of("copies")["state"]) == (0, "attention")
        assert "doctor_auditor may read public.item_audit" in told.of("copies")["evidence"]
        database.execute(
            "GRANT DELETE, UPDATE ON item_audit TO PUBLIC", "GRANT TRUNCATE ON datafix_run TO doctor_auditor"
        )
        told = doctor(project)
        remedies = [one["remedy"] for one in told.findings if one["state"] == "bad"]
        assert remedies == [
            'REVOKE TRUNCATE ON public.datafix_run FROM "doctor_auditor"',
            "REVOKE DELETE, UPDATE ON public.item_audit FROM PUBLIC",
        ]
        database.execute(*remedies)
        assert doctor(project).code == 0
    finally:
        database.execute("DROP OWNED BY doctor_auditor", "DROP ROLE doctor_auditor")


def test_an_audit_table_that_its_target_has_outgrown(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("ALTER TABLE item ADD COLUMN extra text")
    told = doctor(project)
    assert told.bad() == ["audit tables"]
    found = told.of("audit tables")
    assert "public.item_audit lacks columns of public.item: extra" in found["evidence"]
    assert "op.update_audit_table('item', name='item_audit')" in found["remedy"]


def test_counters_that_are_off(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute(f"ALTER DATABASE {database.name} SET track_counts = off")
    assert doctor(project).bad() == ["track_counts"]


def test_versions_and_clocks() -> None:
    assert [check_version(n).state for n in (13, 14, 18, 19)] == ["bad", "good", "good", "attention"]
    assert [check_counts(on).state for on in (True, False)] == ["good", "bad"]
    now = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
    apart = dt.timedelta(seconds=61)
    later = now + dt.timedelta(seconds=3)
    assert check_clock(now + dt.timedelta(seconds=2), now, later).state == "good"
    for theirs in (now - apart, later + apart):
        found = check_clock(theirs, now, later)
        assert (found.state, "differ by 61 s;" in found.text) == ("attention", True)
