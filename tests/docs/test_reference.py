"""The references name what there is: every argument, every column of every view, every kind of JSON; and links lead somewhere."""

import dataclasses
import inspect
import json
import re
from importlib import resources
from pathlib import Path

import pytest

import datafixes.operations
from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update
from datafixes.running import redact_operations, table_operations
from tests.docs.pages import PAGES, ROOT, name_of, prose
from tests.projects import our_project
from tests.servers import Database

REFERENCE = ROOT / "docs/reference"


def _section(page: Path, heading: str) -> str:
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found, f"{name_of(page)} has no section {heading}"
    return found[1]


@pytest.mark.parametrize(
    ("declared", "heading"),
    [
        (DataFix, "DataFix"),
        (RecordedFix, "RecordedFix"),
        (Rows, "Rows"),
        (Table, "Table"),
        (Update, "Update, Delete, Insert"),
        (Delete, "Update, Delete, Insert"),
        (Insert, "Update, Delete, Insert"),
    ],
)
def test_every_argument_of_a_declaration_is_explained(declared: type, heading: str) -> None:
    page = REFERENCE / "declarations.md"
    text = _section(page, heading) + _section(page, "Arguments of both")
    assert [one.name for one in dataclasses.fields(declared) if not re.search(rf"\b{one.name}\b", text)] == []


def _kinds() -> list[type]:
    """The classes of all operations."""
    return [
        one
        for module in (datafixes.operations, table_operations, redact_operations)
        for name, one in vars(module).items()
        if inspect.isclass(one) and name.endswith("Op") and name != "MigrateOperation"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "apply_datafix", "record_datafix", "revert_datafix", "create_audit_table", "update_audit_table",
        "drop_audit_table", "update_ledger", "protect_audit_table", "unprotect_audit_table",
        "prune_audit",
    ],
)  # fmt: skip
def test_every_argument_of_an_operation_is_named(name: str) -> None:
    [operation] = [getattr(kind, name) for kind in _kinds() if hasattr(kind, name)]
    line = re.search(rf"op\.{name}\((.*?)\)", (REFERENCE / "operations.md").read_text("utf-8"))
    assert line
    given = {part.strip().rstrip("=") for part in line[1].split(",")}
    assert given == set(inspect.signature(operation).parameters) - {"operations"}


def test_no_operation_is_left_out() -> None:
    assert len(_kinds()) == 11


def _columns(heading: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", _section(REFERENCE / "views.md", heading), re.MULTILINE)


def test_every_column_of_every_view_is_explained(database: Database) -> None:
    assert our_project(database).alembic("upgrade", "014").code == 0
    query = (
        "SELECT attname FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum"
    )
    for view in ("datafix_history", "datafix_open", "datafix_show", "datafix_row", "datafix_chain"):
        assert [column for (column,) in database.rows(query.format(view))] == _columns(view)
    audit = [column for (column,) in database.rows(query.format("position_reconciliation_audit"))]
    assert audit[-4:] == _columns("Audit tables")
    [(allowed,)] = database.rows(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'datafix_run_outcome_check'"
    )
    assert set(re.findall(r"'(\w+)'", allowed)) == set(_columns("Outcomes"))


def test_every_kind_of_json_is_named() -> None:
    schemas = [
        json.loads(resources.files(package).joinpath("schema.json").read_text("utf-8"))
        for package in ("datafixes.report", "datafixes.book.report")
    ]
    kinds = {
        definition["properties"]["kind"]["const"]
        for schema in schemas
        for definition in schema["$defs"].values()
        if "const" in definition.get("properties", {}).get("kind", {})
    }
    shown = set(re.findall(r"^\| `([\w-]+)` \|", (REFERENCE / "json.md").read_text("utf-8"), re.MULTILINE))
    assert kinds == shown


def _anchors(page: Path) -> set[str]:
    """What forges make of headings: lower case, without punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} of {name_of(page)}"
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in _anchors(there), f"{target} of {name_of(page)}: there is no such heading"


def test_every_page_can_be_reached_from_readme_and_from_the_index() -> None:
    for start in (ROOT / "README.md", ROOT / "docs/README.md"):
        reached, waiting = set[Path](), [start]
        while waiting:
            page = waiting.pop()
            if page in reached:
                continue
            reached.add(page)
            targets = re.findall(r"\]\(([^)\s#]+\.md)(?:#[^)]*)?\)", prose(page))
            waiting += [(page.parent / target).resolve() for target in targets]
        missing = {name_of(page) for page in PAGES} - {name_of(page) for page in reached}
        assert missing - {"docs/README.md"} <= {"README.md", "CONTRIBUTING.md", "SECURITY.md"} - (
            {"CONTRIBUTING.md", "SECURITY.md"} if start.parent == ROOT else set()
        )
