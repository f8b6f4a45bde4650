"""Values in images are erased by a run of its own; all other images stay proven, and are reverted."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.projects import Project, project_with_fix
from tests.servers import Database
from tests.trust.audits import forge, states

ANN = """where="note = 'Ann Smith'", columns=["note"], reason="Asked for." """
"""The note of item 2 is personal."""


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """Runs 1 to 3 applied, reverted and applied a fix of items 1 and 2."""
    project = project_with_fix(tmp_path, database)
    database.execute("UPDATE item SET note = 'Ann Smith' WHERE id = 2")
    for order in (("upgrade", "b"), ("downgrade", "a"), ("upgrade", "b")):
        assert project.alembic(*order).code == 0
    return project


def redact(project: Project, arguments: str, *, name: str = "c", after: str = "b") -> str:
    """Write the revision and run it; what the log says."""
    project.revision(name, after, f'op.redact_audit("item_audit", {arguments})', top="# Erasure.")
    ran = project.alembic("upgrade", name)
    assert ran.code == 0, ran.out + ran.err
    return ran.err


def marked(database: Database) -> list[tuple[int, str, int, list[str]]]:
    return database.rows(
        "SELECT audit_run_id::int, audit_image, id, audit_redacted FROM item_audit WHERE audit_redacted <> '{}' ORDER BY audit_id"
    )


def test_values_are_gone_and_all_else_is_proven(project: Project) -> None:
    database = project.database
    others = "SELECT to_jsonb(i) - 'note' - 'audit_redacted' FROM item_audit AS i ORDER BY audit_id"
    before = database.rows(others)
    told = redact(project, ANN)
    assert "audit table item_audit: note redacted in 4 images (run 4)" in told
    assert "run 2 of close_items: 2 images" in told
    # the after-images of runs 1 and 3 do not hold the note
    assert marked(database) == [
        (run, image, 2, ["note"])
        for run, image in [(1, "before"), (2, "before"), (2, "after"), (3, "before")]
    ]
    assert database.rows(others) == before
    assert states(project) == {1: "redacted", 2: "redacted", 3: "redacted", 4: "proven"}
    assert database.value("SELECT count(*) FROM datafix_key") == 0
    # The database holds neither the value nor the condition, but for the item itself.
    database.execute("UPDATE item SET note = NULL")
    assert "Ann" not in json.dumps(database.dump(), default=str) + database.backup()
    # What shows a run tells it apart from NULL.
    assert answer(project, "show", "2")["values_redacted"].startswith("note of item_audit redacted on ")
    assert [(one["run_id"], one["images"]) for one in answer(project, "show", "4")["redacted"]] == [(1, 1), (2, 2), (3, 1)]  # fmt: skip
    assert "redacted: values in 4 images of 3 runs." in datafixes(project, "show", "4").out


def test_the_rest_is_reverted_and_the_log_says_what_is_left_out(project: Project) -> None:
    database = project.database
    project.revision("c", "b", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top="""
fix = DataFix(name="tell", reason="Told.", change=Update("item", set={"note": "told", "status": "told"}),
              rows=Rows(key="id", expect=[1, 2]), audit="item_audit")
""")  # fmt: skip
    assert project.alembic("upgrade", "c").code == 0
    redact(project, ANN, name="d", after="c")
    assert marked(database)[-2:] == [(4, "before", 2, ["note"]), (4, "after", 2, ["note"])]
    [row] = [one for one in answer(project, "show", "4")["changes"][0]["rows"] if one["key"] == "2"]
    assert {one["name"]: (one["before"], one["after"]) for one in row["columns"]}["note"] == (
        {"redacted": True},
    ) * 2
    assert database.rows(
        "SELECT before, after FROM datafix_row WHERE run_id = 4 AND key = '2' AND column_name = 'note'"
    ) == [("(redacted)",) * 2]
    assert "(redacted) → (redacted)" in datafixes(project, "row", "item", "2").out
    ran = project.alembic("downgrade", "b")
    assert ran.code == 0, ran.err
    assert "not restored, because redacted: note of 1 row of public.item" in ran.err
    assert database.rows("SELECT id, note, status FROM item WHERE id < 3 ORDER BY 1") == [(1, None, "closed"), (2, "told", "closed")]  # fmt: skip
    assert answer(project, "show", "6")["left_out"] == ["note of 1 row of public.item"]
    # A run that did not write the column is taken back as before.
    ran = project.alembic("downgrade", "a")
    assert (ran.code, "not restored" in ran.err) == (0, False), ran.err
    assert database.rows("SELECT id, note, status, amount::int FROM item ORDER BY 1") == [
        (1, None, "open", 10), (2, "told", "open", 20), (3, None, "open", 30),
    ]  # fmt: skip
    assert set(states(project).values()) == {"proven", "redacted"}


@pytest.mark.parametrize("column", ["id", "symbol"])
def test_rows_whose_key_or_identity_was_redacted_are_refused(project: Project, column: str) -> None:
    database = project.database
    redact(project, f"""where="symbol = 'NOW'", columns=["{column}"], reason="Asked for." """)
    before = database.rows("SELECT i::text FROM item AS i ORDER BY id")
    refused = project.alembic("downgrade", "a")
    assert refused.code == 255
    assert f"rows of public.item cannot be restored: {column}, which tells them apart, was redacted in " in refused.last_line  # fmt: skip
    assert "of run 3, by run 4. Nothing was changed. To restore the other rows" in refused.last_line
    assert database.rows("SELECT i::text FROM item AS i ORDER BY id") == before
    ran = project.alembic("-x", "on_conflict=close_items:skip", "downgrade", "a")
    assert ran.code == 0, ran.err
    assert "reverted: 2 found, 1 changed, 0 already as wanted, 1 skipped" in ran.err
    assert database.rows("SELECT id, status FROM item ORDER BY 1") == [(1, "open"), (2, "closed"), (3, "open")]  # fmt: skip
    assert {run: state for run, state in states(project).items() if state != "proven"} == {1: "redacted", 2: "redacted", 3: "redacted"}  # fmt: skip


def test_inserted_and_deleted_rows(tmp_path: Path, database: Database) -> None:
    """A deleted row comes back without the value; an inserted one goes, whatever the value is now."""
    project = project_with_fix(
        tmp_path, database, up="for one in fixes:\n        op.apply_datafix(one)", top="""
fixes = [
    DataFix(name="drop", reason="r", change=Delete("item", where="id = 2"), rows=Rows(key="id", expect=1), audit="item_audit"),
    DataFix(name="add", reason="r", change=Insert("item", rows=[{"id": 9, "symbol": "S", "status": "open", "note": "Ann Smith"}]),
            rows=Rows(key="id", expect=1), audit="item_audit"),
]
fix = fixes[0]
""")  # fmt: skip
    database.execute("UPDATE item SET note = 'Ann Smith' WHERE id = 2")
    ran = project.alembic("upgrade", "b")
    assert ran.code == 0, ran.out + ran.err
    redact(project, ANN)
    database.execute("UPDATE item SET note = NULL WHERE id = 9")
    project.revision("d", "c", 'op.revert_datafix("add")\nop.revert_datafix("drop")', top="# Back.")
    ran = project.alembic("upgrade", "d")
    assert ran.code == 0, ran.out + ran.err
    assert ran.err.count("not restored, because redacted: note of 1 row of public.item") == 1
    assert database.rows("SELECT id, note FROM item ORDER BY 1") == [(1, None), (2, None), (3, None)]
    assert set(states(project).values()) == {"proven", "redacted"}


# --- one redaction after another, and with what else happens to a run


def test_a_second_redaction_of_the_same_rows(project: Project) -> None:
    database = project.database
    redact(project, ANN)
    redact(
        project, """where="id = 2", columns=["note", "amount"], reason="Asked again." """, name="d", after="c"
    )
    assert marked(database)[0] == (1, "before", 2, ["amount", "note"])
    assert marked(database)[1] == (1, "after", 2, ["amount"])
    told = answer(project, "verify-audit")["ledgers"][0]["runs"]
    assert [one["state"] for one in told] == ["redacted", "redacted", "redacted", "proven", "proven"]
    assert told[0]["why"] == ["2 images in public.item_audit: note, amount redacted by run 4 and run 5."]
    forge(
        database,
        "UPDATE item_audit SET status = 'x' WHERE audit_run_id = 1 AND id = 2 AND audit_image = 'after'",
    )
    assert states(project, code=3)[1] == "differs"
    # Nothing is built on what is not proven.
    project.revision(
        "e", "d", 'op.redact_audit("item_audit", where="id = 1", columns=["status"], reason="r")', top="# E."
    )
    refused = project.alembic("upgrade", "e")
    assert "the images of run 1 are not those that were sealed. Nothing was changed." in refused.last_line


def test_two_redactions_in_one_transaction(project: Project) -> None:
    redact(project, """where="id = 2", columns=["note"], reason="r")
op.redact_audit("item_audit", where="id = 1", columns=["symbol", "note"], reason="r" """)  # fmt: skip
    assert states(project) == {1: "redacted", 2: "redacted", 3: "redacted", 4: "proven", 5: "proven"}
    assert [state for _, _, _, state in marked(project.database)[:3]] == [["symbol"], ["note"], ["symbol"]]


def test_before_and_after_copies_are_given_up(project: Project) -> None:
    database = project.database
    prune = 'op.prune_audit("item_audit", older_than="2099-01-01")'
    redact(project, ANN)
    project.revision("d", "c", prune, top="# P.")
    assert project.alembic("upgrade", "d").code == 0
    assert states(project) == {1: "pruned", 2: "pruned", 3: "redacted", 4: "proven", 5: "proven"}
    told = redact(project, """where="id = 2", columns=["note", "symbol"], reason="r" """, name="e", after="d")
    assert "note, symbol redacted in 1 image (run 6)" in told
    assert states(project) == {1: "pruned", 2: "pruned", 3: "redacted", 4: "proven", 5: "proven", 6: "proven"}
    assert database.value("SELECT count(*) FROM item_audit") == 4


def test_nothing_to_redact_is_a_run_of_its_own(project: Project) -> None:
    before = project.database.dump("public.datafix_run", "public.datafix_chain", "public.alembic_version")
    told = redact(project, """where="note = 'Bob'", columns=["note"], reason="r" """)
    assert "audit table item_audit: no image has values to redact (run 4)" in told
    assert project.outcomes[-1] == "not_applicable"
    assert (
        project.database.dump("public.datafix_run", "public.datafix_chain", "public.alembic_version")
        == before
    )
    assert set(states(project).values()) == {"proven"}


def test_only_what_is_sealed_is_redacted(project: Project) -> None:
    """In a printed script; online, the run before it is sealed first."""
    database = project.database
    forge(database, "DELETE FROM datafix_chain WHERE run_id = 3")
    project.revision("c", "b", f'op.redact_audit("item_audit", {ANN})', top="# E.")
    script = project.script("b:c")
    assert (
        "DF032"
        in (
            refused := database.psql(script, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", check=False)
        ).stderr
    )
    assert "only sealed runs are redacted, so that the rest of them is proven: run 3 is not" in refused.stderr
    assert datafixes(project, "seal").code == 0
    told = database.psql(script, "-v", "ON_ERROR_STOP=1").stderr
    assert "audit table public.item_audit: note redacted in 4 images of 3 runs, run 4" in told
    assert datafixes(project, "seal").code == 0
    assert states(project) == {1: "redacted", 2: "redacted", 3: "redacted", 4: "proven"}


def test_no_message_repeats_the_condition(project: Project) -> None:
    database = project.database
    for where, words in {
        "note = 'Ann Smith": 'unterminated quoted string at or near "(masked)"',
        "amount = 'Ann Smith'": 'invalid input syntax for type numeric: "(masked)"',
        'note = \\"Ann Smith\\"': 'column "(masked)" does not exist',
    }.items():
        project.revision(
            "c",
            "b",
            f'op.redact_audit("item_audit", where="{where}", columns=["note"], reason="r")',
            top="# E.",
        )
        refused = project.alembic("upgrade", "c")
        assert (
            f"audit table public.item_audit: where cannot be evaluated: {words}" in refused.out + refused.err
        )
        # in the server's words too, with the context
        told = database.psql(
            project.script("b:c"), "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", check=False
        ).stderr
        assert "Ann" not in refused.out + refused.err + told
    assert database.value("SELECT count(*) FROM pg_attribute WHERE attname = 'audit_redacted'") == 0


# --- what is found, and what is not let through


FORGED = [
    # another column of an image that lost a value; of one that did not
    ("UPDATE item_audit SET status = 'x' WHERE audit_run_id = 1 AND id = 2 AND audit_image = 'before'", 1, "differs"),
    ("UPDATE item_audit SET status = 'x' WHERE audit_run_id = 1 AND id = 1 AND audit_image = 'before'", 1, "differs"),
    # the value, or another one, comes back; the mark goes, or another image gets one
    ("UPDATE item_audit SET note = 'Ann Smith' WHERE audit_redacted <> '{}' AND audit_run_id = 2", 2, "differs"),
    ("UPDATE item_audit SET audit_redacted = NULL WHERE audit_run_id = 2", 2, "differs"),
    ("UPDATE item_audit SET audit_redacted = '{note}' WHERE audit_run_id = 2", 2, "differs"),
    # an image passes as redacted; its leaf is known
    ("UPDATE datafix_salt SET sealed_leaf = repeat('x', 32)::bytea WHERE run_id = 3 AND sealed_leaf IS NULL", 3, "differs"),
    ("DELETE FROM datafix_salt WHERE run_id = 3", 3, "differs"),
    ("DELETE FROM item_audit WHERE audit_run_id = 3 AND id = 2", 3, "removed"),
    ("INSERT INTO datafix_key VALUES (3, repeat('x', 32)::bytea)", 3, "added"),
]  # fmt: skip


def test_what_is_done_to_a_redacted_run_is_found(project: Project) -> None:
    redact(project, ANN)
    tables = ("item_audit", "datafix_salt", "datafix_key")
    project.database.execute(
        "CREATE SCHEMA kept", *(f"CREATE TABLE kept.{name} AS TABLE {name}" for name in tables)
    )
    back = [
        statement
        for name in tables
        for statement in (
            f"DELETE FROM {name}",
            f"INSERT INTO {name} OVERRIDING SYSTEM VALUE TABLE kept.{name}",
        )
    ]
    for statement, run, state in FORGED:
        forge(project.database, statement)
        expected = {1: "redacted", 2: "redacted", 3: "redacted", 4: "proven"} | {run: state}
        assert states(project, code=3) == expected, statement
        forge(project.database, *back)
    assert states(project)[1] == "redacted"


LINE = """
INSERT INTO datafix_run (fix, direction, outcome, engine, declaration)
VALUES ('redact item_audit', 'apply', 'redacted', 'x',
        '{"redacts": {"audit_table": "item_audit", "columns": ["note"], "runs": [{"run": 1}]}}')
"""
NOTED = "UPDATE datafix_salt SET redacted_by = (SELECT max(run_id) FROM datafix_run) WHERE run_id = 1 AND audit_id = 1"


REFUSED = [
    # without a line; with one of an earlier transaction
    ["UPDATE item_audit SET note = NULL WHERE audit_id = 1"],
    [LINE, "COMMIT", "BEGIN", NOTED, "UPDATE item_audit SET note = NULL WHERE audit_id = 1"],
    # other images, other columns, another value, another run
    [LINE, NOTED, "UPDATE item_audit SET note = NULL WHERE audit_id IN (1, 3)"],
    [LINE, NOTED, "UPDATE item_audit SET note = NULL, status = 'x' WHERE audit_id = 1"],
    [LINE, NOTED, "UPDATE item_audit SET note = 'Bob' WHERE audit_id = 1"],
    [LINE, NOTED, "UPDATE item_audit SET note = NULL, audit_run_id = 2 WHERE audit_id = 1"],
    [LINE, NOTED, "DELETE FROM item_audit WHERE audit_id = 1"],
    [LINE, NOTED, "TRUNCATE item_audit"],
    # the ledger: any other column, another run
    [LINE, "UPDATE datafix_run_table SET images = 0 WHERE run_id = 1"],
    [LINE, "UPDATE datafix_run_table SET shape = '{}' WHERE run_id = 1"],
    [LINE, "UPDATE datafix_run_table SET images_digest = 1 WHERE run_id = 2"],
    [LINE, "UPDATE datafix_run SET reason = 'x' WHERE run_id = 1"],
]


def test_values_go_only_with_a_line_of_the_same_transaction(project: Project) -> None:
    database = project.database
    redact(project, """where="id = 1", columns=["symbol"], reason="r" """)
    images = "SELECT i::text FROM item_audit AS i ORDER BY 1"
    before = database.rows(images)
    for statements in REFUSED:
        script = ";\n".join(["BEGIN", *statements, "COMMIT"]) + ";"
        ran = database.psql(script, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", check=False)
        assert "ERROR:  DF030: " in ran.stderr, (statements, ran.stderr)
    assert database.rows(images) == before
    # So all of these are refused for what they add:
    database.psql(
        f"BEGIN; {LINE}; {NOTED}; UPDATE item_audit SET note = NULL WHERE audit_id = 1; "
        "UPDATE datafix_run_table SET images_digest = 1 WHERE run_id = 1; COMMIT;",
        "-v", "ON_ERROR_STOP=1",
    )  # fmt: skip


def test_what_is_not_said_clearly_is_refused(project: Project) -> None:
    for arguments, words in {
        'where="", columns=["note"], reason="r"': "redact_audit: where is empty.",
        'where="true", columns=[], reason="r"': "redact_audit: columns is empty.",
        'where="true", columns=["note"], reason=" "': "redact_audit: reason is empty.",
        'where="true", columns=["nothing", "audit_image"], reason="r"': "it copies no columns nothing, audit_image",
    }.items():
        project.revision("c", "b", f'op.redact_audit("item_audit", {arguments})', top="# E.")
        refused = project.alembic("upgrade", "c")
        assert (refused.code, words in refused.last_line) == (255, True), refused.last_line


def test_an_export_proves_it_without_a_database(project: Project, tmp_path: Path) -> None:
    redact(project, ANN)
    assert datafixes(project, "export", "--all", str(tmp_path / "all")).code == 0
    files = {path.name: path.read_text() for path in (tmp_path / "all").iterdir()}
    assert not any("Ann" in text for text in files.values())

    def proven(code: int = 0) -> dict[int, str]:
        told = answer(None, "verify-audit", "--export", str(tmp_path / "all"), code=code)
        return {one["run_id"]: one["state"] for one in told["ledgers"][0]["runs"]}

    assert proven() == {1: "redacted", 2: "redacted", 3: "redacted", 4: "proven"}
    salt = files["run-3-1-salts.csv"].splitlines()[1].split(",")[0].strip('"')
    for name, old, new in [
        ("run-1-1.csv", "{note}", "{status}"),
        ("run-2-1.csv", "20.00", "21.00"),
        ("run-3-1-salts.csv", salt, salt[::-1]),
    ]:
        (tmp_path / "all" / name).write_text(files[name].replace(old, new, 1))
        assert proven(3)[int(name[4])] == "differs"
        (tmp_path / "all" / name).write_text(files[name])


def test_other_tables_of_the_run_stay_proven_and_batches_are_waited_for(
    tmp_path: Path, database: Database
) -> None:
    """The key is of the run, and not of a table: the salts of all of its tables are kept."""
    project = project_with_fix(tmp_path, database, up="pass", top="# Nothing.")
    database.execute(
        "CREATE TABLE part (name text, note text)", "INSERT INTO part VALUES ('a', 'Ann Smith'), ('b', 'y')"
    )
    project.revision("e", "b", 'op.create_audit_table("part", name="part_audit")', top="# P.")
    project.revision("f", "e", """with op.record_datafix(fix) as body:
        body.execute("UPDATE item SET note = 'z' WHERE id = 2; UPDATE part SET note = 'z'")""", "op.revert_datafix(fix)", top="""
from datafixes import RecordedFix, Table
fix = RecordedFix(name="both", reason="r", tables=[Table("item", "item_audit", updated=1),
                                                   Table("part", "part_audit", inserted=2, deleted=2)])
""")  # fmt: skip
    ran = project.alembic("upgrade", "f")
    assert ran.code == 0, ran.out + ran.err
    project.revision("g", "f", f'op.redact_audit("part_audit", {ANN})', top="# E.")
    assert project.alembic("upgrade", "g").code == 0
    assert states(project) == {1: "redacted", 2: "proven"}
    assert database.value("SELECT count(*) FROM part_audit WHERE audit_redacted = '{note}'") == 1
    forge(database, "UPDATE item_audit SET status = 'x'")
    assert states(project, code=3)[1] == "differs"
    refused = project.alembic("downgrade", "e")
    assert "rows of public.part cannot be restored: note, which tells them apart, was redacted" in refused.last_line or "not the ones it wrote" in refused.last_line  # fmt: skip
    # Its batches are to come.
    forge(
        database,
        "UPDATE item_audit SET status = 'open'",
        "UPDATE datafix_run SET outcome = 'running' WHERE run_id = 1",
    )
    project.revision(
        "h",
        "g",
        """op.redact_audit("part_audit", where="name = 'b'", columns=["note"], reason="r")""",
        top="# E.",
    )
    told = database.psql(project.script("g:h"), check=False).stderr
    assert "nothing is redacted while batches are to come: run 1 has not ended" in told
