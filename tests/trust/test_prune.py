"""Old copies are given up by a run of its own, which the ledger keeps; nothing else can make them go."""

import datetime as dt
from pathlib import Path

import pytest

from tests.batches.many import many_project
from tests.cli.commands import answer, datafixes
from tests.projects import Project, project_with_fix
from tests.servers import LEDGER, Database
from tests.tampering import tamper
from tests.trust.audits import states, verified

OLD = "2001-01-01"
LATER = "2099-01-01"
TOP = """
fix = DataFix(
    name="mark", reason="Marked.", change=Update("item", set={"note": "marked"}),
    rows=Rows(key="id", expect=[3]), audit="item_audit",
)
"""
LINE = (
    "SELECT declaration -> 'gives_up' FROM datafix_run WHERE outcome = 'pruned' ORDER BY run_id DESC LIMIT 1"
)


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """Run 1 closed two items and run 2 reverted it; run 3 marked one, and is in force."""
    project = project_with_fix(tmp_path, database)
    for step in (("upgrade", "b"), ("downgrade", "a")):
        assert project.alembic(*step).code == 0
    project.revision("c", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=TOP)
    (tmp_path / "migrations/versions/b.py").unlink()
    assert project.alembic("upgrade", "c").code == 0
    return project


def images(database: Database) -> dict[int, int]:
    return dict(database.rows("SELECT audit_run_id, count(*)::int FROM item_audit GROUP BY 1 ORDER BY 1"))


def prune(project: Project, arguments: str, *, offline: bool = False, name: str = "d") -> str:
    """Write the revision and run it; what the log says."""
    project.revision(name, "c", f'op.prune_audit("item_audit", {arguments})', top="# Retention.")
    if offline:
        return project.database.psql(project.script(f"c:{name}"), "-v", "ON_ERROR_STOP=1").stderr
    ran = project.alembic("upgrade", name)
    assert ran.code == 0, ran.out + ran.err
    return ran.err


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_copies_of_what_is_not_in_force_go_and_the_ledger_keeps_what_went(
    project: Project, offline: bool
) -> None:
    database = project.database
    untouched = ("public.alembic_version", "public.item_audit", "public.datafix_run", "public.datafix_chain")
    before = database.dump(*untouched)
    lines = database.rows("SELECT run_id, outcome, finished_at FROM datafix_run ORDER BY 1")
    digests = {
        str(run): digest
        for run, digest in database.rows("SELECT run_id, images_digest FROM datafix_run_table")
    }
    assert images(database) == {1: 4, 2: 4, 3: 2}
    told = prune(project, f'older_than="{LATER}", reason="Two years are over."', offline=offline)
    if offline:
        assert "copies of 2 runs given up (8 images), run 4" in told
    assert images(database) == {3: 2}
    assert (
        database.rows("SELECT run_id, outcome, finished_at FROM datafix_run WHERE run_id < 4 ORDER BY 1")
        == lines
    )
    assert database.rows(
        "SELECT run_id, fix, revision, outcome, rows_changed, reason, applied_by, finished_at IS NOT NULL FROM datafix_history LIMIT 1"
    ) == [(4, "prune item_audit", "d", "pruned", 0, "Two years are over.", "postgres", True)]
    line = database.value(LINE)
    assert {name: line[name] for name in ("audit_table", "keep", "images")} == {
        "audit_table": "item_audit", "keep": "open", "images": 8,
    }  # fmt: skip
    assert [(one["run"], one["fix"], one["found"], one["images"]) for one in line["runs"]] == [
        (1, "close_items", 4, 4), (2, "close_items", 4, 4),
    ]  # fmt: skip
    assert [database.value(f"SELECT {one['digest']}::numeric") for one in line["runs"]] == [
        digests["1"],
        digests["2"],
    ]
    assert database.dump(*untouched) == before
    # What is in force is still reverted.
    assert project.alembic("downgrade", "a").code == 0
    assert database.value("SELECT note FROM item WHERE id = 3") is None


def test_only_runs_that_were_finished_before(project: Project) -> None:
    database = project.database
    [between] = database.rows(
        "SELECT to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00' FROM datafix_run WHERE run_id = 2"
    )
    prune(project, f'older_than="{between[0]}", keep="none"')
    assert images(database) == {2: 4, 3: 2}


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_nothing_to_give_up_is_a_run_of_its_own(project: Project, offline: bool) -> None:
    database = project.database
    prune(project, f'older_than="{OLD}", keep="none"', offline=offline)
    assert images(database) == {1: 4, 2: 4, 3: 2}
    assert (project.outcomes[-1], database.value(LINE)["runs"], database.value(LINE)["images"]) == (
        "pruned",
        [],
        0,
    )


def test_a_fix_that_was_given_back_keeps_all_of_its_runs(project: Project) -> None:
    """Run 1 was reverted by run 2, which a run 4 reverts: the fix is in force again."""
    database = project.database
    project.revision("e", "c", "op.revert_datafix(run=2)", top="# Again.")
    assert project.alembic("upgrade", "e").code == 0
    assert [one for (one,) in database.rows("SELECT run_id FROM datafix_open ORDER BY 1")] == [1, 3]
    project.revision("f", "e", f'op.prune_audit("item_audit", older_than="{LATER}")', top="# Retention.")
    assert project.alembic("upgrade", "f").code == 0
    assert set(images(database)) == {1, 2, 3, 4}
    assert project.alembic("downgrade", "c").code == 0


# --- afterwards


def test_a_revert_says_when_and_by_which_run_its_copies_were_given_up(project: Project) -> None:
    database = project.database
    prune(project, f'older_than="{LATER}", keep="none"')
    assert images(database) == {}
    before = database.dump("public.alembic_version", *LEDGER)
    today = dt.datetime.now(dt.UTC).date()
    project.revision("e", "d", "op.revert_datafix(run=3)", top="# No more.")
    refused = project.alembic("upgrade", "e")
    assert refused.code == 255
    assert (
        f"run 3 cannot be reverted: copies in item_audit given up on {today} by run 4." in refused.last_line
    )
    assert database.dump("public.alembic_version", *LEDGER) == before
    assert project.outcomes[3:] == ["pruned", "failed"]
    # That was decided: it is named, and is nothing to look into.
    told = f"copies in item_audit given up on {today} by run 4"
    [fix] = answer(project, "open")["fixes"]
    assert (fix["can_be_reverted"], fix["why"], fix["copies_given_up"]) == (False, told, told)
    [tried] = answer(project, "open", "--try")["fixes"]
    assert told in tried["why"]
    [listed] = answer(project, "open", "--no-try")["fixes"]
    assert (listed["can_be_reverted"], listed["why"], listed["copies_given_up"]) == (None, "", told)
    shown = datafixes(project, "open")
    assert (shown.code, "1 fix is in force." in shown.out, told in shown.out) == (0, True, True)
    assert [one for one in shown.out.splitlines() if "mark" in one and "given up" in one]


def test_the_copies_of_all_batches_of_a_fix_are_compared_and_go(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0
    project.revision(
        "o", "n", f'op.prune_audit("many_audit", older_than="{LATER}", keep="none")', top="# Retention."
    )
    damage = "UPDATE many_audit SET v = v + 1 WHERE audit_id = (SELECT max(audit_id) FROM many_audit)"
    tamper(database, damage)
    assert "are not the ones it wrote" in project.alembic("upgrade", "o").last_line
    tamper(database, damage.replace("+", "-"))
    ran = project.alembic("upgrade", "o")
    assert ran.code == 0, ran.err
    assert database.value("SELECT count(*) FROM many_audit") == 0
    assert set(states(project).values()) == {"proven", "pruned"}
    [fix] = answer(project, "open")["fixes"]
    assert fix["copies_given_up"].startswith("copies in many_audit given up on ")


def test_the_run_itself_is_not_taken_back(project: Project) -> None:
    prune(project, f'older_than="{LATER}"')
    project.revision("e", "d", "op.revert_datafix(run=4)", top="# No.")
    refused = project.alembic("upgrade", "e")
    assert "run 4 gave up old copies, which cannot be taken back" in refused.last_line
    project.revision("e", "d", "pass", top="# Nothing.")
    # The revision of a pruning goes down like any other, and up again: another run.
    assert project.alembic("downgrade", "c").code == 0
    assert project.alembic("upgrade", "e").code == 0
    assert project.outcomes == ["applied", "reverted", "applied", "pruned", "failed", "pruned"]


# --- what the triggers let pass


def line_of(runs: str, when: str = "clock_timestamp()") -> str:
    return (
        "INSERT INTO datafix_run (fix, direction, outcome, engine, started_at, finished_at, declaration) VALUES"
        f" ('prune item_audit', 'apply', 'pruned', 'x', {when}, {when}, jsonb_build_object('gives_up',"
        f" jsonb_build_object('audit_table', 'item_audit', 'runs', '{runs}'::jsonb)))"
    )


@pytest.mark.parametrize(
    "statements",
    [
        # a line of an earlier transaction, even one with a time to come
        [line_of('[{"run": 1}]'), "BEGIN", "DELETE FROM item_audit WHERE audit_run_id = 1"],
        [line_of('[{"run": 1}]', "now() + interval '1 hour'"), "BEGIN", "DELETE FROM item_audit WHERE audit_run_id = 1"],
        # other images than the line names
        ["BEGIN", line_of('[{"run": 1}]'), "DELETE FROM item_audit WHERE audit_run_id = 2"],
        ["BEGIN", line_of('[{"run": 1}]'), "DELETE FROM item_audit"],
        # a line of another table, and no line any more
        ["BEGIN", line_of('[{"run": 1}]').replace("'item_audit'", "'other_audit'"), "DELETE FROM item_audit"],
        ["BEGIN", "SAVEPOINT s", line_of('[{"run": 1}]'), "ROLLBACK TO s", "DELETE FROM item_audit WHERE audit_run_id = 1"],
        # neither UPDATE nor TRUNCATE
        ["BEGIN", line_of('[{"run": 1}]'), "UPDATE item_audit SET note = 'x' WHERE audit_run_id = 1"],
        ["BEGIN", line_of('[{"run": 1}, {"run": 2}, {"run": 3}]'), "TRUNCATE item_audit"],
        # the line does not change afterwards
        ["BEGIN", line_of('[{"run": 1}]'), "DELETE FROM item_audit WHERE audit_run_id = 1", "UPDATE datafix_run SET outcome = 'failed'"],
    ],
)  # fmt: skip
def test_copies_go_only_with_a_line_of_the_same_transaction_that_names_them(
    project: Project, statements: list[str]
) -> None:
    database = project.database
    ran = database.psql(
        ";\n".join([*statements, "COMMIT"]) + ";",
        "-v",
        "ON_ERROR_STOP=1",
        "-v",
        "VERBOSITY=verbose",
        check=False,
    )
    assert "ERROR:  DF030: " in ran.stderr
    assert images(database) == {1: 4, 2: 4, 3: 2}


@pytest.mark.parametrize("savepoint", ["", "SAVEPOINT s;", "SAVEPOINT r; SAVEPOINT s;"])
def test_a_line_of_the_same_transaction_counts_whatever_savepoint_wrote_it(
    project: Project, savepoint: str
) -> None:
    database = project.database
    release = "RELEASE s;" if savepoint else ""
    database.psql(
        "BEGIN;" + savepoint + line_of('[{"run": 1}]') + ";" + release
        + "DELETE FROM item_audit WHERE audit_run_id = 1; COMMIT;",
        "-v", "ON_ERROR_STOP=1",
    )  # fmt: skip
    assert images(database) == {2: 4, 3: 2}


def test_another_delete_in_the_same_upgrade_is_refused(project: Project) -> None:
    """One transaction may hold many migrations."""
    database = project.database
    project.revision(
        "d", "c", f'op.prune_audit("item_audit", older_than="{LATER}")\nop.execute("DELETE FROM item_audit")', top="# Both."
    )  # fmt: skip
    refused = project.alembic("upgrade", "d")
    assert refused.code != 0
    assert "audit table public.item_audit only grows: DELETE is refused" in refused.out + refused.err
    assert images(database) == {1: 4, 2: 4, 3: 2}
    assert project.outcomes == ["applied", "reverted", "applied"]


# --- what is there is compared first


@pytest.mark.parametrize(
    ("damage", "there"),
    [
        ("DELETE FROM item_audit WHERE audit_run_id = 2 AND audit_image = 'after' AND id = 1", 3),
        ("UPDATE item_audit SET amount = 7 WHERE audit_run_id = 2 AND audit_image = 'before' AND id = 1", 4),
        ("INSERT INTO item_audit (id, audit_run_id, audit_image) VALUES (3, 2, 'before')", 5),
    ],
    ids=["missing", "changed", "added"],
)
@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_images_that_are_not_those_of_their_run_are_not_given_up(
    project: Project, damage: str, there: int, offline: bool
) -> None:
    """Once they are gone, nobody could see it any more."""
    database = project.database
    tamper(database, damage)
    before = database.dump()
    project.revision("d", "c", f'op.prune_audit("item_audit", older_than="{LATER}")', top="# Retention.")
    if offline:
        told = database.psql(project.script("c:d"), "-v", "ON_ERROR_STOP=1", check=False).stderr
    else:
        refused = project.alembic("upgrade", "d")
        assert refused.code == 255
        told = refused.last_line
    digest = database.value("SELECT images_digest FROM datafix_run_table WHERE run_id = 2")
    assert (
        "datafix prune item_audit: the images of run 2 in public.item_audit are not the ones it wrote: "
        f"it wrote 4 with the digest {digest}, and there are {there} with "
    ) in told
    assert database.dump() == before


def test_images_that_lack_a_column_are_not_given_up(project: Project) -> None:
    project.database.execute("ALTER TABLE item_audit DROP COLUMN note CASCADE")
    project.revision("d", "c", f'op.prune_audit("item_audit", older_than="{LATER}")', top="# Retention.")
    told = project.alembic("upgrade", "d").last_line
    assert (
        "images of run 1 in public.item_audit are not the ones it wrote: these columns are gone: note" in told
    )


def test_a_run_of_which_no_image_is_left_is_not_given_up_with_the_others(project: Project) -> None:
    database = project.database
    tamper(database, "DELETE FROM item_audit WHERE audit_run_id = 2")
    prune(project, f'older_than="{LATER}"')
    assert [one["run"] for one in database.value(LINE)["runs"]] == [1]
    assert states(project, code=3) == {1: "pruned", 2: "removed", 3: "proven", 4: "proven"}


def test_a_pruned_run_that_comes_back_is_named(project: Project) -> None:
    database = project.database
    database.execute("CREATE SCHEMA aside", "CREATE TABLE aside.kept AS SELECT * FROM item_audit")
    prune(project, f'older_than="{LATER}"')
    assert states(project) == {1: "pruned", 2: "pruned", 3: "proven", 4: "proven"}
    database.execute(
        "INSERT INTO item_audit OVERRIDING SYSTEM VALUE SELECT * FROM aside.kept WHERE audit_run_id = 1"
    )
    [first, *others] = verified(project, code=3)["ledgers"][0]["runs"]
    assert (first["state"], first["why"]) == (
        "added", ["4 images in public.item_audit came back, which run 4 gave up."],
    )  # fmt: skip
    assert [one["state"] for one in others] == ["pruned", "proven", "proven"]
    # They go as they went before.
    project.revision("e", "d", f'op.prune_audit("item_audit", older_than="{LATER}")', top="# Again.")
    assert project.alembic("upgrade", "e").code == 0
    assert images(database) == {3: 2}
    assert states(project) == {1: "pruned", 2: "pruned", 3: "proven", 4: "proven", 5: "proven"}


# --- roles, arguments


def test_a_writer_without_the_right_to_delete_cannot_prune(project: Project) -> None:
    database = project.database
    project.revision("d", "c", f'op.prune_audit("item_audit", older_than="{LATER}")', top="# Retention.")
    database.execute(
        "CREATE ROLE pruner LOGIN", "GRANT ALL ON alembic_version, item TO pruner",
        "GRANT SELECT, INSERT ON item_audit TO pruner", "GRANT SELECT, INSERT, UPDATE ON datafix_run, datafix_run_table TO pruner",
        "GRANT SELECT ON datafix_open TO pruner",
    )  # fmt: skip
    try:
        refused = project.process("-x", f"url={database.url_for('pruner')}", "upgrade", "d")
        assert refused.code == 255
        assert "permission denied for table item_audit" in refused.last_line
        assert images(database) == {1: 4, 2: 4, 3: 2}
        database.execute("GRANT DELETE ON item_audit TO pruner")
        ran = project.process("-x", f"url={database.url_for('pruner')}", "upgrade", "d")
        assert ran.code == 0, ran.err
        assert images(database) == {3: 2}
    finally:
        database.execute("DROP OWNED BY pruner", "DROP ROLE pruner")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            'older_than="2 years"',
            "older_than='2 years': must be a date (2024-12-31), or a time with its zone",
        ),
        ('older_than="2024-12-31T00:00:00"', "must be a date (2024-12-31), or a time with its zone"),
        ("older_than=730", "older_than=730: must be a date"),
        ('older_than="2024-12-31", keep="some"', "keep='some': must be open or none"),
    ],
)
def test_what_is_not_said_clearly_is_refused(project: Project, arguments: str, words: str) -> None:
    project.revision("d", "c", f'op.prune_audit("item_audit", {arguments})', top="# Retention.")
    refused = project.alembic("upgrade", "d")
    assert refused.code == 255
    assert words in refused.last_line
    assert images(project.database) == {1: 4, 2: 4, 3: 2}


def test_a_date_is_its_midnight_in_utc(project: Project) -> None:
    prune(project, "older_than=dt.date(2001, 2, 3)")
    assert project.database.value(LINE)["older_than"] == "2001-02-03T00:00:00+00:00"
    project.revision("e", "d", 'op.prune_audit("nothing", older_than="2001-01-01")', top="# Retention.")
    assert "audit table public.nothing: it does not exist" in project.alembic("upgrade", "e").last_line
