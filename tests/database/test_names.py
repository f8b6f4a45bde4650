"""Tables and columns with names that scripts trip over: apply and revert work, or the name is refused."""

import pytest

from datafixes import DataFix, Delete, Insert, Rows, Update, sql
from datafixes.errors import Conflicts, DeclarationError, ShapeMismatch
from tests.fixes import apply, create_audit_table, revert
from tests.servers import Database

ODD = [
    "Order Items",
    "select",
    "user",
    "50% off %s %I %1$s",
    "it's",
    'a "quoted" one',
    "back\\slash",
    "a$sql$b$datafix$c$engine$",
    "semi;colon -- and /* comment",
    ":name $1 {0} {name}",
    "Übergröße Ω 😀",
    "é" * 31 + "x",
    "n" * 63,
    "tab\tand\nline",
    "pg_temp",
    "datafix_restore",
    "target",
    "1",
    " ",
]
# Names that the engine uses itself: variables, parameters, aliases, columns of its temporary tables.
OURS = [
    "fix", "action", "a", "b", "t", "i", "r", "p", "e", "c", "k", "key", "run", "lock", "columns", "target", "audit", "done", "restored", "copied",
    "changed", "after", "before", "left", "now", "name", "column", "position", "verdict", "total", "policy", "same", "reference", "statement",
    "datafix_matches_", "f", "facts", "child", "other", "image", "digest", "excluded", "value", "ctid_", "description",
]  # fmt: skip


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def short(name: str) -> str:
    """A name for an audit table: the view of its changes has eight bytes more."""
    return name if len(name.encode()) <= 55 else name[: 55 // len(name[0].encode())]


def test_every_name_can_be_an_odd_one(database: Database) -> None:
    """Each name is that of two things at least; one table with three fixes costs a second."""
    for start in range(0, len(ODD), 3):
        names = [ODD[(start + offset) % len(ODD)] for offset in range(6)]
        try:
            all_called(database, names)
        except BaseException as error:
            error.add_note(f"The names: {names!r}")
            raise


def all_called(database: Database, names: list[str]) -> None:
    """Apply and revert three fixes of a table that is called so, with its key, column, schema and audit table."""
    name, key, column, schema, elsewhere, audit = names
    schema, elsewhere, audit = (
        f"s{each}"[:63] if each.startswith("pg_") else each for each in (schema, elsewhere, short(audit))
    )
    table = f"{quoted(schema)}.{quoted(name)}"
    database.execute(
        *(f"CREATE SCHEMA IF NOT EXISTS {quoted(each)}" for each in (schema, elsewhere)),
        f"CREATE TABLE {table} ({quoted(key)} text PRIMARY KEY, {quoted(column)} text)",
        f"INSERT INTO {table} VALUES ('k1', 'a'), ('k2', 'b'), ('k3', 'c')",
    )
    create_audit_table(database, name, audit, schema=schema, audit_schema=elsewhere)

    def fix(what: str, change: Update | Delete | Insert, expect: list[str] | int) -> DataFix:
        rows = Rows(key=key, expect=expect)
        return DataFix(
            name=what, reason=f"{name} is odd.", change=change, rows=rows, audit=audit, audit_schema=elsewhere
        )

    update = fix(
        "update",
        Update(name, set={column: name}, schema=schema, where=f"{quoted(key)} <> 'k4'"),
        ["k1", "k2"],
    )
    delete = fix("delete", Delete(name, schema=schema), ["k3"])
    insert = fix("insert", Insert(name, [{key: name, column: name}], schema=schema), 1)
    was = database.dump()[f"{schema}.{name}"]
    for each in (update, delete, insert):
        apply(database, each)
    assert {row[0] for row in database.rows(f"SELECT {quoted(column)} FROM {table}")} == {name}
    database.execute(f"UPDATE {table} SET {quoted(column)} = 'theirs' WHERE {quoted(key)} = 'k1'")
    with pytest.raises(Conflicts, match="k1 changed since") as refused:
        revert(database, update)
    assert " ".join(column.split()) in " ".join(refused.value.detail.split())
    for each in (update, delete, insert):
        revert(database, each, "overwrite")
    assert database.dump()[f"{schema}.{name}"] == was


def test_names_of_the_engine_are_free_for_columns(database: Database) -> None:
    definitions = ", ".join(f"{quoted(name)} text DEFAULT 'x'" for name in OURS if name != "key")
    database.execute(
        f"CREATE TABLE item (id integer, key text, {definitions}, PRIMARY KEY (id, key))",
        "INSERT INTO item (id, key) VALUES (1, 'k'), (2, 'k'), (3, 'k')",
        "CREATE TABLE was AS TABLE item",
        f"ALTER DATABASE {database.name} SET plpgsql.variable_conflict = use_column",
    )
    create_audit_table(database, "item", "item_audit")
    keys = ("id", "key")
    update = DataFix(
        name="update",
        reason="A test.",
        change=Update("item", set={name: "y" for name in OURS if name != "key"}, where="fix = 'x'"),
        rows=Rows(key=keys, expect=[(1, "k"), (2, "k")], ensure="action = 'y'"),
        audit="item_audit",
    )
    delete = DataFix(
        name="delete",
        reason="A test.",
        change=Delete("item"),
        rows=Rows(key=keys, expect=[(3, "k")]),
        audit="item_audit",
    )
    insert = DataFix(
        name="insert",
        reason="A test.",
        change=Insert("item", [{"id": 4, "key": "k", "fix": "new"}]),
        rows=Rows(key=keys, expect=1),
        audit="item_audit",
    )
    for fix in (update, delete, insert):
        apply(database, fix)
    database.execute("UPDATE item SET action = 'theirs' WHERE id = 1")
    with pytest.raises(Conflicts, match="1/k changed since"):
        revert(database, update)
    for fix in (update, delete, insert):
        revert(database, fix, "overwrite")
    same = "SELECT count(*) FROM item AS item_ JOIN was AS was_ USING (id) WHERE record_image_eq(item_, was_)"
    assert database.rows(f"SELECT ({same}), (SELECT count(*) FROM item)") == [(3, 3)]


def test_a_name_in_the_form_of_the_engines_own_marks_is_refused(database: Database) -> None:
    database.execute(
        'CREATE TABLE item (id integer PRIMARY KEY, v text, "{{a.key}}" text)',
        "INSERT INTO item VALUES (1, 'a')",
    )
    create_audit_table(database, "item", "item_audit")
    rows = Rows(key="id", expect=[1])
    fix = DataFix(
        name="f", reason="A test.", change=Update("item", set={"v": "b"}), rows=rows, audit="item_audit"
    )
    with pytest.raises(
        ShapeMismatch, match=r'the column "\{\{a.key\}\}" of public.item has a name that the engine reserves'
    ):
        apply(database, fix)
    for wrong in (
        lambda: Update("item", set={"{{key}}": 1}),
        lambda: Update("{{columns}}", set={"v": 1}),
        lambda: Update("item", set={"v": sql("'{{run}}'")}),
        lambda: Rows(key="{{lock}}", expect=[1]),
    ):
        with pytest.raises(DeclarationError, match="engine's marks"):
            wrong()
