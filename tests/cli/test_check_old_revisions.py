"""`datafixes check` in a project with a history: what is chosen, what is known already, and what is new."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cli.commands import answer, datafixes
from tests.projects import Ran

ROOT = Path(__file__).parents[2]

REVISION = """revision = "{0}"
down_revision = {1!r}


def upgrade():
    {2}


def downgrade():
    pass
"""
VERSIONS = "migrations/versions"


def revision(name: str, below: str | None, body: str) -> None:
    Path(VERSIONS, f"{name}.py").write_text(REVISION.format(name, below, body), "utf-8")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Revisions a and b in the current directory: one deletes rows, one reads its SQL from a file."""
    (tmp_path / VERSIONS).mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\npath_separator = os\n", "utf-8"
    )
    monkeypatch.chdir(tmp_path)
    revision("a", None, 'op.execute("DELETE FROM orders")')
    revision("b", "a", 'op.execute(open("x.sql").read())')
    return tmp_path


def run(*arguments: str) -> Ran:
    return datafixes(None, "check", *arguments)


def codes(*arguments: str) -> list[str]:
    return [one["code"] for one in answer(None, "check", *arguments, code=None)["findings"]]


def configure(project: Path, *, ini: str = "", toml: str = "") -> None:
    with (project / "alembic.ini").open("a", encoding="utf-8") as file:
        file.write(f"\n[datafixes]\n{ini}\n" if ini else "")
    if toml:
        (project / "pyproject.toml").write_text(f"[tool.datafixes]\n{toml}\n", "utf-8")


# Which codes, of which files.


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["FIX201", "FIX205"]),
        (("--select", "FIX201"), ["FIX201"]),
        (("--select", "FIX3"), []),
        (("--ignore", "FIX2"), []),
        (("--ignore", "FIX205,FIX3"), ["FIX201"]),
        (("--ignore", "FIX2", "--select", "FIX205"), ["FIX205"]),  # the longer beginning decides
        (("--select", "FIX2", "--ignore", "FIX20"), []),
    ],
)
def test_codes_are_chosen_by_options(options: tuple[str, ...], found: list[str]) -> None:
    assert codes(*options) == found


@pytest.mark.parametrize(
    ("ini", "toml", "found"),
    [
        ("check_select = FIX201", "", ["FIX201"]),
        ("", 'check_select = ["FIX201"]', ["FIX201"]),
        ("", 'check_select = "FIX201"', ["FIX201"]),
        ("check_ignore = FIX201", 'check_ignore = ["FIX205"]', ["FIX205"]),  # alembic.ini comes first
        ("check_per_file_ignores =\n  versions/a*.py: FIX201\n  b.py: FIX3", "", ["FIX205"]),
        ("", 'check_per_file_ignores = {"versions/*.py" = ["FIX201", "FIX205"]}', []),
        ("", 'check_per_file_ignores = {"other/*.py" = ["FIX2"], "b.py" = "FIX205"}', ["FIX201"]),
        ("check_since = a", "", ["FIX205"]),
        ("", 'check_since = "b"', []),
    ],
)
def test_codes_files_and_revisions_are_chosen_by_configuration(
    project: Path, ini: str, toml: str, found: list[str]
) -> None:
    configure(project, ini=ini, toml=toml)
    assert codes() == found
    assert "check_select" in datafixes(None, "where").out


def test_options_come_before_the_configuration(project: Path) -> None:
    configure(project, toml='check_select = ["FIX201"]\ncheck_since = "a"')
    assert codes() == []
    assert codes("--since", "base") == ["FIX201"]
    assert codes("--since", "base", "--select", "FIX") == ["FIX201", "FIX205"]


def test_what_is_left_out_is_counted() -> None:
    assert run("--ignore", "FIX201").out.endswith("\n0 errors, 1 note in 2 revisions, 1 ignored.\n")
    assert run("--ignore", "FIX2").out == "Nothing found in 2 revisions, 2 ignored.\n"
    assert run("--ignore", "FIX201").code == 0


@pytest.mark.parametrize(
    ("ini", "toml", "problem"),
    [
        ("check_select = FIX777", "", "No code begins with FIX777. Did you mean"),
        (
            "check_ignore = E501",
            "",
            "check_ignore is 'E501' (alembic.ini [datafixes] check_ignore): write codes",
        ),
        ("", 'check_ignore = "E501"', "(pyproject.toml [tool.datafixes] check_ignore): write codes"),
        (
            "",
            'check_ignroe = "FIX2"',
            "[tool.datafixes] check_ignroe: unknown setting. Did you mean check_ignore?",
        ),
        ("", "check_ignore = [1]", "[tool.datafixes] check_ignore: write a text"),
        ("", "check_ignore = ", "pyproject.toml cannot be read: "),
        ("check_per_file_ignores = FIX201", "", "write 'PATTERN: CODES'"),
        ("check_since = zz", "", "alembic.ini [datafixes] check_since zz: No file has the revision zz."),
        ("check_baseline = nowhere.json", "", "nowhere.json cannot be read: No such file or directory."),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line(project: Path, ini: str, toml: str, problem: str) -> None:
    configure(project, ini=ini, toml=toml)
    ran = run()
    assert (ran.code in (1, 2), ran.out) == (True, "")
    assert problem in ran.err
    assert "Traceback" not in ran.err


def test_a_mistake_in_an_option_names_the_option() -> None:
    for option, value in (("--select", "E501"), ("--ignore", "E501"), ("--since", "")):
        ran = run(option, value)
        assert ran.code == 2
        assert option in ran.err


# The baseline.


def test_only_what_is_new_is_reported_after_a_baseline_was_written(project: Path) -> None:
    written = run("--write-baseline")
    assert (written.code, written.out) == (0, "")
    assert "2 findings accepted." in written.err
    assert run().out == "Nothing found in 2 revisions, 2 in the baseline.\n"
    revision("c", "b", 'op.execute("DELETE FROM orders")')
    ran = run()
    assert ran.code == 3
    assert [line.split(":")[0] for line in ran.out.splitlines()[::2]] == [
        f"{VERSIONS}/c.py",
        "1 error, 0 notes in 3 revisions, 2 in the baseline.",
    ]
    assert codes("--no-baseline") == ["FIX201", "FIX205", "FIX201"]
    assert answer(None, "check", code=3)["known"] == 2


def test_a_known_finding_stays_known_elsewhere_in_its_file_and_not_if_its_statement_changes() -> None:
    run("--write-baseline")
    revision("a", None, 'print("first")\n    if True:\n        op.execute("DELETE FROM orders")')
    assert run().code == 0
    revision("a", None, 'op.execute("DELETE FROM orders")\n    op.execute("DELETE FROM orders")')
    assert codes() == ["FIX201"]  # one was known, and this is the second
    revision("a", None, 'op.execute("DELETE FROM customers")')
    ran = run()
    assert ran.code == 3
    assert (
        "No longer found: 1 finding of the baseline. To update it: datafixes check --write-baseline"
        in ran.err
    )
    revision("a", None, 'op.execute(\n        """\n        DELETE FROM customers\n        """)')
    run("--write-baseline")
    revision("a", None, 'op.execute(\n        """\n        DELETE FROM clients\n        """)')
    assert codes() == ["FIX201"]  # the first line is the same, the statement is not


def test_a_baseline_serves_any_current_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--write-baseline").code == 0
    content = (project / "datafixes-baseline.json").read_text("utf-8")
    assert list(json.loads(content)["files"]) == [f"{VERSIONS}/a.py", f"{VERSIONS}/b.py"]
    monkeypatch.chdir(project.parent)
    ini = str(project / "alembic.ini")
    text = (project / "alembic.ini").read_text("utf-8").replace("= migrations", "= %(here)s/migrations")
    (project / "alembic.ini").write_text(text, "utf-8")
    assert "2 in the baseline" in datafixes(None, "-c", ini, "check").out
    assert datafixes(None, "-c", ini, "check", "--write-baseline").code == 0
    assert (project / "datafixes-baseline.json").read_text("utf-8") == content


def test_a_baseline_elsewhere_and_a_broken_one(project: Path) -> None:
    (project / "quality").mkdir()
    configure(project, toml='check_baseline = "quality/known.json"')
    assert run("--write-baseline").code == 0
    assert run().out == "Nothing found in 2 revisions, 2 in the baseline.\n"
    for content, why in (
        ("{", "JSONDecodeError"),
        ('{"version": 9}', "it has version 9"),
        ("[]", "TypeError"),
    ):
        (project / "quality/known.json").write_text(content, "utf-8")
        ran = run()
        assert (ran.code, ran.out) == (1, "")
        assert why in ran.err
    assert run("--write-baseline").code == 0
    assert run().code == 0


def test_what_cannot_be_read_is_never_known() -> None:
    Path(VERSIONS, "c.py").write_text("def (", "utf-8")
    run("--write-baseline")
    assert codes() == ["FIX101"]


def test_a_baseline_concerns_all_revisions() -> None:
    for options in (("--since", "a"), (f"{VERSIONS}/a.py",)):
        ran = run("--write-baseline", *options)
        assert ran.code == 2
        assert "--write-baseline concerns all revisions" in ran.err
    assert not Path("datafixes-baseline.json").exists()


def test_many_findings_come_with_the_way_to_begin() -> None:
    for number in range(60):
        revision(f"r{number}", "b", 'op.execute("DELETE FROM orders")')
    wanted = "To accept all of these, and see only new ones: datafixes check --write-baseline"
    assert wanted in run().err
    run("--write-baseline")
    assert wanted not in run("--no-baseline").err


# What git calls changed.


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def repository(project: Path) -> None:
    """The project on a branch that left main, which went on."""
    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "--message=First")
    git("checkout", "--quiet", "-b", "branch")


CHANGE = 'op.execute("DELETE FROM items")'


@pytest.mark.parametrize("state", ["new", "staged", "committed"])
@pytest.mark.usefixtures("repository")
def test_only_files_that_changed_since_a_branch_was_left(state: str) -> None:
    ran = run("--since-git", "main")
    assert (ran.code, ran.err) == (0, "No revision has changed since main.\n")
    revision("ö c", "b", CHANGE)
    if state != "new":
        git("add", ".")
    if state == "committed":
        git("commit", "--quiet", "--message=Second")
        git("checkout", "--quiet", "main")
        revision("b", "a", 'op.execute("DELETE FROM shops")')
        git("commit", "--quiet", "--all", "--message=Elsewhere")
        git("checkout", "--quiet", "branch")
    ran = run("--since-git", "main")
    assert ran.code == 3
    assert ran.out.startswith(f"{VERSIONS}/ö c.py:6:5: FIX201 ")
    assert "1 error, 0 notes in 1 revision." in ran.out
    assert run("--since-git", "main", f"{VERSIONS}/a.py").code == 0


@pytest.mark.usefixtures("repository")
def test_a_file_that_is_changed_or_deleted_counts_as_it_is_now() -> None:
    revision("a", None, CHANGE)
    Path(VERSIONS, "b.py").unlink()
    assert codes("--since-git", "HEAD") == ["FIX201"]


@pytest.mark.parametrize("reference", ["nowhere", "--output=x", "HEAD:alembic.ini"])
@pytest.mark.usefixtures("repository")
def test_a_reference_that_git_does_not_know(reference: str) -> None:
    ran = run(f"--since-git={reference}")
    assert (ran.code, ran.out) == (1, "")
    assert f"git knows no {reference}. Fetch it first" in ran.err
    assert not Path("x").exists()


@pytest.mark.usefixtures("repository")
def test_no_common_ancestor_and_no_repository(project: Path) -> None:
    git("checkout", "--quiet", "--orphan", "other")
    git("commit", "--quiet", "--message=Apart")
    ran = run("--since-git", "main")
    assert (ran.code, "no common ancestor of main and HEAD. A shallow clone" in ran.err) == (1, True)
    shutil.rmtree(project / ".git")
    ran = run("--since-git", "main")
    assert (ran.code, "git rev-parse failed in " in ran.err) == (1, True)


# Overviews, and files as a whole.


def test_statistics_count_the_findings_of_each_code() -> None:
    revision("c", "b", 'op.execute(open("y.sql").read())')
    assert run("--statistics").out == (
        "2  FIX205  note   SQL in another file\n"
        "1  FIX201  error  SQL that changes rows without a fix\n"
        "1 error, 2 notes in 3 revisions.\n"
    )
    assert run("--statistics", "--format", "json").code == 2
    assert run("--statistics", "--select", "FIX3").out == "Nothing found in 3 revisions, 3 ignored.\n"


def comment(text: str) -> None:
    path = Path(VERSIONS, "a.py")
    path.write_text(f"{path.read_text('utf-8')}\n\n# datafixes: {text}\n", "utf-8")


def test_a_comment_silences_a_code_in_its_whole_file() -> None:
    revision("a", None, 'op.execute("DELETE FROM orders")\n    op.execute("DELETE FROM items")')
    comment("ignore-file[FIX201] written before datafixes")
    assert run().out.endswith("0 errors, 1 note in 2 revisions, 2 silenced.\n")


def test_a_comment_for_a_file_needs_a_reason_and_something_to_silence() -> None:
    comment("ignore-file[FIX201]")
    assert codes() == ["FIX901", "FIX205"]
    revision("a", None, "pass")
    comment("ignore-file[FIX201, FIX202] written before datafixes")
    ran = run()
    assert "a.py:13:1: FIX902 (note) FIX201, FIX202 does not occur in this file.\n" in ran.out


# The hook for pre-commit.


def test_the_hook_takes_revisions_and_runs_check(monkeypatch: pytest.MonkeyPatch) -> None:
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert {"id", "name", "entry", "language"} <= set(hook)
    assert hook["require_serial"]  # several processes would each see a part of the revisions
    names = [
        "a/versions/1.py",
        "versions/2026/1.py",
        "versions/__init__.py",
        "versions/x.sql",
        "subversions/a.py",
    ]
    taken = [
        name for name in names if re.search(hook["files"], name) and not re.search(hook["exclude"], name)
    ]
    assert taken == ["a/versions/1.py", "versions/2026/1.py"]
    program, *arguments = hook["entry"].split()
    assert program == "datafixes"
    assert datafixes(None, *arguments, f"{VERSIONS}/a.py").code == 3
    assert datafixes(None, *arguments, f"{VERSIONS}/b.py").code == 0
