"""A fix depends on nothing of the application: what its models are called and hold may change at any time (B41)."""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from datafixes import Delete, Insert, Rows, Update, sql
from datafixes.errors import DeclarationError
from tests.projects import FIX, our_project, project_with_fix
from tests.servers import Database

PROJECT = Path(__file__).parents[2]
item = sa.Table("item", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("status", sa.Text))


def imported(file: Path) -> Iterator[str]:
    """The top-level packages that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0] if not node.level else "(relative)"


def test_b41_our_revisions_import_no_application() -> None:
    revisions = sorted((PROJECT / "alembic/versions").glob("*.py"))
    assert len(revisions) >= 4
    allowed = {"alembic", "datafixes", "sqlalchemy", *sys.stdlib_module_names}
    assert {
        (file.name, name) for file in revisions for name in imported(file) if name not in allowed
    } == set()


def test_b41_our_revisions_run_without_the_directory_they_stand_in(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A deploy has the migrations, and not always the application beside them.
    monkeypatch.chdir(tmp_path)
    ran = our_project(database).process("upgrade", "head")
    assert ran.code == 0, ran.err


def test_b41_a_fix_outlives_the_model_that_its_project_had(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    model = tmp_path / "migrations/models.py"
    model.write_text(
        "import sqlalchemy as sa\n\ntarget_metadata = sa.MetaData()\n"
        "sa.Table('item', target_metadata, sa.Column('id', sa.Integer, primary_key=True), sa.Column('status', sa.Text))\n",
        encoding="utf-8",
    )
    with_model = (
        "import sys\nfrom pathlib import Path\nfrom alembic import context\nfrom datafixes.environment import run_migrations\n\n"
        "sys.path.insert(0, str(Path(__file__).parent))\nfrom models import target_metadata\n\n"
        "run_migrations(context, target_metadata=target_metadata)\n"
    )
    project.env(with_model)
    assert project.process("upgrade", "b").code == 0
    # The model is another one by now: the column that the fix wrote is not in it any more.
    text = model.read_text(encoding="utf-8")
    model.write_text(text.replace("'status'", "'state'").replace("'item'", "'thing'"), encoding="utf-8")
    assert project.process("downgrade", "a").code == 0
    assert database.rows("SELECT DISTINCT status FROM item") == [("open",)]


PIECES_OF_MODELS: dict[str, Callable[[], object]] = {
    "a table": lambda: Update(item, set={"status": "closed"}),  # type: ignore[arg-type]
    "a table to delete from": lambda: Delete(item, where="true"),  # type: ignore[arg-type]
    "a table to insert into": lambda: Insert(item, rows=[{"status": "closed"}]),  # type: ignore[arg-type]
    "a column to set": lambda: Update("item", set={item.c.status: "closed"}),  # type: ignore[dict-item]
    "a column as a value": lambda: Update("item", set={"status": item.c.id}),  # type: ignore[dict-item]
    "an expression as a value": lambda: Update("item", set={"status": sa.text("now()")}),  # type: ignore[dict-item]
}
# These are looked at with operators that SQLAlchemy's expressions have a meaning of their own for.
EXPRESSIONS: dict[str, Callable[[], object]] = {
    "a condition": lambda: Update("item", set={"status": "closed"}, where=item.c.status == "open"),  # type: ignore[arg-type]
    "a function": lambda: sql(sa.func.now()),  # type: ignore[arg-type]
    "a text": lambda: sql(sa.text("now()")),  # type: ignore[arg-type]
    "a key": lambda: Rows(key=item.c.id, expect=[1]),  # type: ignore[arg-type]
    "a post-condition": lambda: Rows(key="id", expect=[1], ensure=item.c.id == 1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(
    "declare",
    [pytest.param(declare, id=name) for name, declare in (PIECES_OF_MODELS | EXPRESSIONS).items()],
)
def test_b41_a_piece_of_a_model_is_no_declaration(declare: Callable[[], object]) -> None:
    with pytest.raises(DeclarationError):
        declare()


def test_b41_a_member_of_an_enumeration_never_stands_in_the_table_by_its_name(
    database: Database, tmp_path: Path
) -> None:
    # As applications declare them; the text form of a member is its name then.
    top = f"import enum\n\n\nclass Status(str, enum.Enum):\n    CLOSED = 'closed'\n\n\nfix = {FIX.strip()}"
    project = project_with_fix(tmp_path, database)
    project.revision("b", "a", "op.apply_datafix(fix)", top=top.replace('"closed"', "Status.CLOSED"))
    ran = project.process("upgrade", "b")
    assert "Traceback" not in ran.err
    # Refused, or written by its value.
    status = {value for (value,) in database.rows("SELECT status FROM item WHERE id < 3")}
    assert status == ({"closed"} if ran.code == 0 else {"open"})
