"""`datafixes find-in-audit` tells in which runs and images a person appears, and shows no value."""

from pathlib import Path

from datafixes.audit.wording import counted
from tests.cli.commands import answer, datafixes
from tests.projects import Project
from tests.trust.audits import states
from tests.trust.test_redact import ANN, project, redact

__all__ = ["project"]

ASKED = ("find-in-audit", "--table", "item", "--where", "note = 'Ann Smith'")


def test_it_finds_what_a_redaction_would_redact(project: Project) -> None:
    told = answer(project, *ASKED)
    assert [(one["run_id"], one["fix"], one["direction"], one["images"], one["rows"]) for one in told["runs"]] == [
        (1, "close_items", "apply", 2, 1), (2, "close_items", "revert", 2, 1), (3, "close_items", "apply", 2, 1),
    ]  # fmt: skip
    # the after-image of run 1 holds what the fix wrote, and the key
    assert told["runs"][0]["values"] == {"id": 2, "symbol": 1, "status": 2, "note": 1, "amount": 2}
    assert (told["images"], told["runs"][0]["audit_table"], told["runs"][0]["redacted"]) == (
        6,
        "public.item_audit",
        {},
    )
    shown = datafixes(project, *ASKED).out
    assert f"{counted(6, 'image')} in 3 runs." in shown
    assert "Ann" not in shown
    redact(project, ANN)
    ran = datafixes(project, *ASKED)
    assert (ran.code, "No image meets the condition." in ran.out) == (0, True)
    told = answer(project, "find-in-audit", "--table", "public.item", "--where", "id = 2")
    assert [one["redacted"] for one in told["runs"]] == [{"note": 1}, {"note": 2}, {"note": 1}]
    assert "note" not in told["runs"][0]["values"]


def test_what_is_wrong_is_one_line(project: Project) -> None:
    for arguments, code, words in [
        (("--table", "items", "--where", "true"), 1, "No run has changed a table items. Did you mean"),
        (("--table", "item", "--where", " "), 2, "--where is empty."),
        (("--table", "item", "--where", "nothing = 1"), 1, 'column "nothing" does not exist'),
    ]:
        ran = datafixes(project, "find-in-audit", *arguments)
        assert (ran.code, words in ran.err) == (code, True), ran.err


def test_a_command_writes_the_revision(project: Project) -> None:
    asked = ("redact", "item_audit", "--column", "note", "--rev-id", "c", "--reason", "Asked for.", "--where")
    before = project.database.dump()
    ran = datafixes(project, *asked, "id = 1")
    assert (ran.code, ran.out) == (0, "")
    assert "No image in item_audit has such values: nothing was written." in ran.err
    ran = datafixes(project, *asked, "note = 'Ann Smith'")
    assert (ran.code, "It redacts note in 4 images. Next: datafixes plan" in ran.err) == (0, True), ran.err
    text = Path(ran.out.strip()).read_text("utf-8")
    assert "    op.redact_audit(\n        \"item_audit\",\n        where=\"note = 'Ann Smith'\",\n        columns=[\"note\"],\n" in text  # fmt: skip
    told = datafixes(project, "plan")
    assert "Values in 4 images are redacted." in told.out, told.out + told.err
    assert [one["images"] for one in answer(project, "plan")["steps"][0]["redacts"]] == [1, 2, 1]
    assert project.database.dump() == before
    assert project.alembic("upgrade", "c").code == 0
    assert states(project) == {1: "redacted", 2: "redacted", 3: "redacted", 4: "proven"}
    ran = datafixes(
        project, "redact", "item_audit", "--column", "nothing", "--reason", "r", "--where", "id = 2"
    )
    assert (ran.code, "item_audit copies no column nothing." in ran.err) == (1, True), ran.err
