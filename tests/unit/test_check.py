"""What `datafixes check` finds in Python: changes without a fix, fixes that lack something, names, ids, later revisions."""

from pathlib import Path

import pytest

from datafixes.check.checking import UnknownRevision, revision_files
from datafixes.check.finding import CATALOGUE
from tests.unit.revision_folder import Folder

FIX = """
fix = DataFix(
    name="close", reason="Because.", change=Update("orders", set={"status": "closed"}, where="status = 'open'"),
    rows=Rows(key="id", expect=2), audit="orders_audit",
)
"""
RECORDED = """
fix = RecordedFix(name="merge", reason="Because.", tables=[Table("orders", "orders_audit", updated=1)])
"""
BACK = "op.revert_datafix(fix)"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("up", "verb"),
    [
        ('op.execute("UPDATE orders SET a = 1")', "UPDATE orders"),
        ('op.execute("SELECT 1; DELETE FROM orders")', "DELETE FROM orders"),
        ('op.execute("WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x")', "DELETE FROM orders"),
        ('op.execute("MERGE INTO orders USING x ON x.id = orders.id WHEN MATCHED THEN DELETE")', "MERGE INTO orders"),
        ('op.execute("TRUNCATE orders")', "TRUNCATE orders"),
        ('op.execute("COPY orders FROM \'/tmp/x\'")', "COPY orders"),
        ('op.execute("DO $$ BEGIN UPDATE orders SET a = 1; END $$")', "UPDATE orders"),
        ('op.execute("DO $$ BEGIN EXECUTE format(\'DELETE FROM %I\', x); END $$")', "DELETE FROM"),
        # What sqlglot does not know is read by its words.
        ('op.execute("UPDATE orders SET a = 1 WHERE CURRENT OF c")', "UPDATE orders"),
        ('op.execute(sa.text("UPDATE orders SET a = 1").bindparams(b=1))', "UPDATE orders"),
        ('op.get_bind().execute(text("DELETE FROM orders"))', "DELETE FROM orders"),
        ('op.get_bind().exec_driver_sql("DELETE FROM orders WHERE id = %s", (1,))', "DELETE FROM orders"),
        ('op.execute(f"UPDATE {table} SET a = {value!r}")', "UPDATE"),
        ('op.execute("UPDATE {} SET a = 1".format(x))', "UPDATE"),
        ('op.execute("UPDATE {} SET a = {b}".format("orders", b=1))', "UPDATE orders"),
        ('op.execute("UPDATE orders SET a = %s" % 1)', "UPDATE orders"),
        ('op.execute("UPDATE orders " "SET a = 1")', "UPDATE orders"),
        ('op.execute("UPDATE " + "orders" + " SET a = 1")', "UPDATE orders"),
        ('for one in ["SELECT 1", "DELETE FROM orders"]:\n    op.execute(one)', "DELETE FROM orders"),
        ('x = "SELECT 1"\nif y:\n    x = "DELETE FROM orders"\nop.execute(x)', "DELETE FROM orders"),
        ('op.execute("; ".join(["SELECT 1", "DELETE FROM orders"]))', "DELETE FROM orders"),
        ("op.execute(SQL)", "INSERT INTO orders"),
        ('op.execute(BY_NAME["up"])', "INSERT INTO lines"),
        ("op.execute(built(1))", "DELETE FROM orders"),
        ('run("DELETE FROM orders")', "DELETE FROM orders"),
    ],
)  # fmt: skip
def test_sql_that_changes_rows_is_found_however_it_is_put_together(
    folder: Folder, up: str, verb: str
) -> None:
    top = """
    SQL = "INSERT INTO orders SELECT * FROM old"
    BY_NAME = {"up": "INSERT INTO lines SELECT * FROM old", "down": "SELECT 1"}

    def built(x):
        return f"DELETE FROM orders WHERE id = {x}"

    def run(statement):
        op.get_bind().execute(text(statement))
    """
    folder.write("a", up, top=top)
    assert folder.told() == [f"FIX201 {verb} changes rows without a fix."]


@pytest.mark.parametrize(
    ("up", "what"),
    [
        ("op.bulk_insert(orders, [])", "INSERT INTO orders changes rows"),
        ("op.execute(orders.update().where(orders.c.id == 1).values(a=1))", "UPDATE orders changes rows"),
        ("op.execute(update(orders).values({'a': 1}))", "UPDATE orders changes rows"),
        ("op.get_bind().execute(sa.delete(orders))", "DELETE FROM orders changes rows"),
        (
            "op.execute(pg_insert(orders).values(a=1).on_conflict_do_update(set_={'a': 2}))",
            "INSERT INTO orders changes rows",
        ),
        (
            "x = orders.delete()\nx = x.where(orders.c.id == 1)\nop.execute(x)",
            "DELETE FROM orders changes rows",
        ),
        ("session = Session(bind=op.get_bind())\nsession.add(1)", "session.add() changes rows"),
        (
            "s = Session(bind=op.get_bind())\ns.query(X).filter_by(id=1).delete()",
            "query.delete() of X changes rows",
        ),
        ("session.query(X).one().a = 1\nsession.commit()", "session.commit() writes changed objects"),
    ],
)
def test_what_sqlalchemy_changes_is_found(folder: Folder, up: str, what: str) -> None:
    folder.write("a", up)
    assert folder.told() == [f"FIX202 {what} without a fix."]


@pytest.mark.parametrize(
    "up",
    [
        'op.execute("CREATE TRIGGER t BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION f()")',
        'op.execute("CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN DELETE FROM x; END $$ LANGUAGE plpgsql")',
        'op.execute("ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c ON DELETE CASCADE ON UPDATE SET NULL")',
        'op.execute("GRANT SELECT, UPDATE, DELETE ON orders TO x")',
        'op.execute("CREATE RULE r AS ON DELETE TO orders DO INSTEAD UPDATE x SET a = 1")',
        "op.execute(\"COMMENT ON TABLE orders IS 'DELETE FROM me'\")",
        'op.execute("SELECT * FROM orders FOR UPDATE")',
        "op.execute(\"COPY orders TO '/tmp/x'\")",
        "op.execute(\"DO $$ BEGIN RAISE NOTICE 'DELETE FROM orders'; END $$\")",
        "x = {}\nx.update(a=1)\nop.get_bind().execute(sa.select(orders))",
        'session = Session(bind=op.get_bind())\nsession.execute(text("SELECT 1"))',
        # Tables that the revision makes itself held nothing before.
        't = op.create_table("fresh", sa.Column("id"))\nop.bulk_insert(t, [])\nop.execute("INSERT INTO fresh SELECT 1")',
        'op.execute("CREATE TEMP TABLE m AS SELECT 1; UPDATE m SET a = 1")',
        'x = "UPDATE orders SET a = 1"\nx = "SELECT 1"\nop.execute(x)',
    ],
)
def test_what_changes_no_rows_that_were_there_is_not_told(folder: Folder, up: str) -> None:
    assert folder.codes(up) == []


def test_a_new_column_that_is_filled_is_a_note(folder: Folder) -> None:
    up = """
    op.add_column("orders", sa.Column("fresh", sa.Integer))
    with op.batch_alter_table("lines") as batch:
        batch.add_column(sa.Column("note", sa.Text))
    op.execute("UPDATE orders SET fresh = 1")
    op.execute(orders.update().values(fresh=1))
    op.execute("UPDATE lines SET note = ''")
    """
    assert folder.codes(up) == ["FIX203"] * 3
    assert folder.codes(up.replace("fresh = 1", "fresh = 1, total = 2")) == ["FIX201", "FIX203", "FIX203"]
    assert folder.check().findings[1].message == "UPDATE orders fills fresh, which this revision adds."


def test_a_downgrade_changes_rows_too_and_other_files_are_named(folder: Folder) -> None:
    assert folder.codes("op.execute(Path('x.sql').read_text())", 'op.execute("DELETE FROM x")') == [
        "FIX205",
        "FIX201",
    ]


def test_recorded_bodies_are_fixes(folder: Folder) -> None:
    up = """
    with op.record_datafix(fix) as body:
        body.execute("UPDATE orders SET a = 1")
        op.bulk_insert(orders, [])
        move(body)
    """
    top = RECORDED + '\ndef move(body):\n    body.execute("DELETE FROM orders")\n'
    assert folder.codes(up, BACK, top=top) == []
    assert folder.codes(f"{up}\n    op.execute('DELETE FROM orders')", BACK, top=top) == ["FIX201"]
    # A function that is called from outside as well changes rows outside.
    assert folder.codes(f"{up}\n    move(op)", BACK, top=top) == ["FIX201"]
    assert folder.codes(up.replace("UPDATE orders SET a = 1", "TRUNCATE orders"), BACK, top=top) == ["FIX204"]


@pytest.mark.parametrize(
    ("given", "instead", "code"),
    [
        ('reason="Because."', 'reason=" "', "FIX301"),
        ('reason="Because."', "reason=WHY", "FIX301"),
        ('reason="Because.", ', "", "FIX301"),
        ('rows=Rows(key="id", expect=2), ', "", "FIX302"),
        ("expect=2", "expect=[]", "FIX302"),
        (", expect=2", "", "FIX302"),
    ],
)
def test_a_fix_says_why_and_what_it_expects(folder: Folder, given: str, instead: str, code: str) -> None:
    assert given in FIX
    top = "WHY = ''\n" + FIX.replace(given, instead)
    assert folder.codes("op.apply_datafix(fix)", BACK, top=top) == [code]
    assert folder.codes("op.apply_datafix(fix)", BACK, top=FIX) == []


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ('name="close"', 'name="close it"', "DataFix: the name 'close it' is not valid."),
        ('{"status": "closed"}', '{"id": 5}', "datafix close: set changes id, which identifies the row."),
        ('{"status": "closed"}', '{"status": [1]}', "Update of orders: set: status is a list"),
        ('{"status": "closed"}', '{"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}', ""),
        ("where=", "were=", "Update() got an unexpected keyword argument 'were'."),
        ("expect=2", "expect=2, foo=SOMETHING", ""),
        ("expect=2", "expect={(1, 2): 'x'}", "Rows: identity and expect belong together"),
        ('audit="orders_audit"', "audit=7", "7 is not the name of a table or column."),
        ('audit="orders_audit"', "**OTHERS, audit=7", ""),
    ],
)
def test_a_declaration_that_is_refused_is_found_without_loading_it(
    folder: Folder, right: str, wrong: str, words: str
) -> None:
    folder.write("a", "op.apply_datafix(fix)", BACK, top=FIX.replace(right, wrong))
    told = [one.split(" is refused: ")[-1] for one in folder.told()]
    assert len(told) == bool(words), told
    assert all(one.startswith(words) for one in told), told


def test_a_recorded_fix_says_what_it_expects(folder: Folder) -> None:
    up = "with op.record_datafix(fix):\n    pass"
    assert folder.codes(up, BACK, top=RECORDED) == []
    assert folder.codes(up, BACK, top=RECORDED.replace(", updated=1", "")) == ["FIX302"]
    assert folder.codes(up, BACK, top=RECORDED.replace("updated=1", "updated=0, deleted=[]")) == ["FIX302"]
    assert folder.codes(up, BACK, top=RECORDED.replace("updated=1", "key='id', deleted=[7]")) == []
    # What the file does not say is not guessed at.
    assert (
        folder.codes(up, BACK, top=RECORDED.replace("[Table(", "[*more, Table(").replace(", updated=1", ""))
        == []
    )


@pytest.mark.parametrize(
    ("expect", "batches", "codes"),
    [
        ("100_000", "", []),
        ("100_001", "", ["FIX308"]),
        ("AtMost(1_000_000)", "", ["FIX308"]),
        ("30_000_000", "", ["FIX308"]),
        ("AtMost(1_000_001)", "", ["FIX306"]),
        ("AtMost(30_000_000)", "batches=Batches(rows=10_000),", []),
        ("30_000_000", "batches=Batches(),", []),
        ("100_001", "batches=None,", ["FIX308"]),
        ("100_001", "**more,", []),  # the file does not show it
    ],
)
def test_a_fix_of_very_many_rows_is_better_in_batches(
    folder: Folder, expect: str, batches: str, codes: list[str]
) -> None:
    top = FIX.replace("expect=2", f"expect={expect}").replace("audit=", f"{batches}audit=")
    assert folder.codes("op.apply_datafix(fix)", BACK, top=top) == codes


@pytest.mark.parametrize(
    ("up", "down", "codes"),
    [
        ("op.apply_datafix(fix)", BACK, []),
        ('"""Twice."""\nop.apply_datafix(fix)', f'"""Back."""\n{BACK}', []),
        ("op.apply_datafix(fix)", f"print(1)\n{BACK}", ["FIX309"]),
        ("op.drop_table('x')\nop.apply_datafix(fix)", BACK, ["FIX309"]),
        ("op.apply_datafix(fix)\nop.apply_datafix(fix)", BACK, ["FIX309"]),
        ("if fix:\n    op.apply_datafix(fix)", BACK, ["FIX309"]),
        ("for one in (1, 2):\n    op.apply_datafix(fix)\nop.drop_table('x')", BACK, ["FIX309", "FIX309"]),
    ],
)
def test_a_revision_with_a_fix_in_batches_holds_nothing_else(
    folder: Folder, up: str, down: str, codes: list[str]
) -> None:
    batched = FIX.replace("audit=", "batches=Batches(),audit=")
    chosen = [code for code in folder.codes(up, down, top=batched) if code == "FIX309"]
    assert chosen == codes
    assert "FIX309" not in folder.codes(up, down, top=FIX)


@pytest.mark.parametrize(
    ("bound", "codes"),
    [
        ("AtMost(5_000)", []),
        ("AtMost(rows=5_000)", []),
        ("AtMost(50 * 100)", []),
        ("AtMost(BOUND)", []),
        ("AtMost(100_000)", []),
        ("AtMost(how_many())", []),  # the file does not show it
        ("AtMost(**given)", []),
        ("datafixes.AtMost()", ["FIX302"]),
        ("AtMost()", ["FIX302"]),
        ("AtMost(0)", ["FIX302"]),
        ("AtMost(-5)", ["FIX302"]),
        ("AtMost(True)", ["FIX302"]),
        ("AtMost(None)", ["FIX302"]),
        ("AtMost('5')", ["FIX302"]),
        ("AtMost(2.5)", ["FIX302"]),
        ("AtMost(10**9)", ["FIX306"]),
        ("AtMost(2**10**9)", ["FIX306"]),
        ("AtMost(1_000_001)", ["FIX306"]),
        ("AtMost(1000 * BOUND)", ["FIX306"]),
        ("AtMost(sys.maxsize)", ["FIX306"]),
        ("AtMost(rows=sys.maxsize - 1)", ["FIX306"]),
        ("5, tolerance=10**7", ["FIX306"]),
        ("EVERY", ["FIX306"]),
        ("EVERY", []),
    ],
)
def test_a_bound_is_there_and_limits_something(folder: Folder, bound: str, codes: list[str]) -> None:
    silenced = "  # datafixes: ignore[FIX306] the archive has 3 million rows" if codes == [] else ""
    top = f"import datafixes, sys\nBOUND = 5_000\nEVERY = AtMost(3_000_000){silenced if bound == 'EVERY' else ''}\n"
    if bound != "EVERY":
        top = top.replace("AtMost(3_000_000)", "0")
    fix = top + FIX.replace("expect=2", f"expect={bound}")
    assert folder.codes("op.apply_datafix(fix)", BACK, top=fix) == codes
    up = "with op.record_datafix(fix):\n    pass"
    assert folder.codes(up, BACK, top=top + RECORDED.replace("updated=1", f"updated={bound}")) == codes


@pytest.mark.parametrize(
    ("down", "why"),
    [
        ("pass", "downgrade() is empty"),
        ('"""Nothing."""', "downgrade() is empty"),
        ('raise NotImplementedError("no")', "downgrade() raises an error"),
        ('raise NotImplementedError("no")\nop.revert_datafix(fix)', "downgrade() raises an error"),
        ('op.drop_table("x")', "downgrade() does not revert it"),
        ('op.revert_datafix("another")', "downgrade() does not revert it"),
    ],
)
def test_a_fix_without_a_way_back_is_found(folder: Folder, down: str, why: str) -> None:
    folder.write("a", "op.apply_datafix(fix)", down, top=FIX)
    assert folder.told() == [f"FIX303 The upgrade applies the fix close, and {why}."]


@pytest.mark.parametrize(
    "down",
    [
        BACK,
        'op.revert_datafix("close", on_conflict="skip")',
        "back()",
        "for one in (fix,):\n    op.revert_datafix(one)",
        "op.revert_datafix(somewhere.else_)",
    ],
)
def test_every_way_back_counts(folder: Folder, down: str) -> None:
    top = f"{FIX}\ndef back():\n    {BACK}\n"
    assert folder.codes("op.apply_datafix(fix)", down, top=top) == []


def test_no_downgrade_at_all_and_a_revert_that_cannot_be_undone(folder: Folder) -> None:
    path = folder.write("a", "op.apply_datafix(fix)", top=FIX)
    path.write_text(path.read_text("utf-8").partition("def downgrade")[0], "utf-8")
    folder.write("b", "op.revert_datafix('close')", after="a")
    assert folder.told() == [
        "FIX303 The upgrade applies the fix close, and the revision has no downgrade().",
        "FIX303 The upgrade reverts the fix close, and downgrade() is empty.",
    ]


def test_two_fixes_of_one_name(folder: Folder) -> None:
    # By the chain, not by the names of files: z comes first.
    folder.write("z", "op.apply_datafix(fix)", BACK, top=FIX)
    folder.write("b", "op.apply_datafix(fix)", BACK, top=FIX, after="z")
    # A fix that is declared once more to be reverted is the same fix.
    folder.write("c", BACK, BACK, top=FIX, after="b")
    [finding] = folder.check().findings
    assert (Path(finding.file).name, finding.code) == ("b.py", "FIX304")
    assert finding.message == "The name close is used by another fix of revision z."


def test_two_fixes_of_one_name_in_one_revision(folder: Folder) -> None:
    both = "op.apply_datafix(fix)\nop.apply_datafix(other)"
    down = "op.revert_datafix(other)\nop.revert_datafix(fix)"
    folder.write("a", both, down, top=FIX + FIX.replace("fix =", "other ="))
    assert folder.told() == ["FIX304 The name close is used by another fix of this revision."]


def test_ids_that_alembic_cannot_keep_or_find(folder: Folder) -> None:
    folder.write("a" * 33)
    folder.write("b" * 32)
    folder.file("c.py", "x = 1\n")
    assert folder.told() == [
        f"FIX103 The revision id {'a' * 33} has 33 characters.",
        "FIX102 The file has no revision id.",
    ]


@pytest.mark.parametrize(
    ("up", "told"),
    [
        ('op.drop_table("datafix_run")', "FIX506 datafix_run is dropped: the ledger."),
        (
            'op.drop_table("datafix_run_table", schema="public")',
            "FIX506 datafix_run_table is dropped: the ledger.",
        ),
        ('op.drop_table("orders_audit")', "FIX506 orders_audit is dropped: the only copies of rows."),
        (
            'op.execute("DROP TABLE orders_audit CASCADE")',
            "FIX506 orders_audit is dropped: the only copies of rows.",
        ),
        ('op.drop_table("copies", schema="x")', "FIX506 x.copies is dropped: the only copies of rows."),
        ('op.drop_table("datafix_run", schema="x")', "FIX506 x.datafix_run is dropped: the ledger."),
    ],
)
def test_an_upgrade_that_drops_copies_or_the_ledger(folder: Folder, up: str, told: str) -> None:
    folder.write(
        "a", 'op.create_audit_table("orders", name="orders_audit")', 'op.drop_audit_table("orders_audit")'
    )
    folder.write("b", 'op.create_audit_table("orders", name="copies", audit_schema="x")', after="a")
    folder.write("c", up, after="b")
    assert folder.told(without="FIX6") == [told]
    # What is not theirs may be dropped, and a downgrade may drop anything.
    folder.write("c", 'op.drop_table("copies")\nop.drop_table("datafix_run", schema="y")', up, after="b")
    assert folder.told(without="FIX6") == []


SHAPES = [
    ('op.drop_table("orders")', "FIX501 {} orders is dropped."),
    ('op.execute("DROP TABLE IF EXISTS x, orders")', "FIX501 {} orders is dropped."),
    ('op.drop_column("orders", "note")', "FIX502 {} orders.note is dropped."),
    ('op.execute("ALTER TABLE orders DROP COLUMN note")', "FIX502 {} orders.note is dropped."),
    ('with op.batch_alter_table("orders") as b:\n    b.drop_column("note")', "FIX502 {} orders.note is dropped."),
    ('op.alter_column("orders", "note", type_=sa.Text())', "FIX503 {} the type of orders.note is changed."),
    ('op.execute("ALTER TABLE orders ALTER note SET DATA TYPE text")', "FIX503 {} the type of orders.note is changed."),
    ('op.alter_column("orders", "note", new_column_name="n")', "FIX504 {} orders.note is renamed."),
    ('op.execute("ALTER TABLE orders RENAME note TO n")', "FIX504 {} orders.note is renamed."),
    ('op.rename_table("orders", "bills")', "FIX504 {} orders is renamed."),
    ('op.add_column("orders", sa.Column("fresh"))', "FIX505 {} orders.fresh is added here, and not to the audit table."),
]  # fmt: skip


@pytest.mark.parametrize(("up", "told"), SHAPES)
def test_a_later_revision_that_keeps_a_fix_from_being_reverted(folder: Folder, up: str, told: str) -> None:
    folder.write("a", up)  # below the fix, or in its own downgrade, that is all right
    folder.write("b", "op.apply_datafix(fix)", f"{up}\n{BACK}", top=FIX, after="a")
    folder.write("c", after="b")
    assert folder.told(without="FIX6") == []
    folder.write("d", up, after="c")
    assert folder.told(without="FIX6") == [told.format("The fix close (revision b) cannot be reverted once")]
    # Where the fix was taken back in between, nobody needs its copies.
    folder.write("c", "op.revert_datafix('close')", "op.revert_datafix('close')", after="b")
    assert folder.told(without="FIX6") == []


@pytest.mark.parametrize(
    "up",
    [
        'op.drop_table("orders", schema="other")',
        'op.drop_column("lines", "note")',
        'op.drop_column("orders", "fresh")',
        'op.alter_column("orders", "note", nullable=False)',
        'op.drop_index("orders")',
    ],
)
def test_other_shapes_do_not_concern_a_fix(folder: Folder, up: str) -> None:
    folder.write("b", "op.apply_datafix(fix)", BACK, top=FIX)
    add = 'op.add_column("orders", sa.Column("fresh"))\nop.update_audit_table("orders", name="orders_audit")'
    folder.write("c", add, after="b")
    folder.write("d", up, after="c")
    assert folder.told(without="FIX6") == []


def test_branches_are_judged_by_the_chain_alone(folder: Folder) -> None:
    folder.write("b", "op.apply_datafix(fix)", BACK, top=FIX)
    folder.write("side", 'op.drop_table("orders")')
    assert folder.told(without="FIX6") == []
    path = folder.write("merged", 'op.drop_column("orders", "x")')
    path.write_text(
        path.read_text("utf-8").replace("down_revision = None", "down_revision = ('b', 'side')"), "utf-8"
    )
    [told] = folder.told(without="FIX6")
    assert told.startswith("FIX502")


def test_only_what_is_asked_for_is_told_and_all_is_known(folder: Folder) -> None:
    first = folder.write("a", "op.execute('DELETE FROM x')\nop.apply_datafix(fix)", BACK, top=FIX)
    second = folder.write("b", "op.drop_table('orders')", after="a")
    assert [one.code for one in folder.check(only=[second]).findings] == ["FIX501"]
    assert [one.code for one in folder.check(only=[first]).findings] == ["FIX201"]
    checked = folder.check(since="a")
    assert ([one.code for one in checked.findings], checked.revisions) == (["FIX501"], 1)
    with pytest.raises(UnknownRevision, match="No file has the revision c"):
        folder.check(since="c")


def test_a_chain_that_leads_in_circles_ends(folder: Folder) -> None:
    folder.write("a", "op.apply_datafix(fix)", BACK, top=FIX, after="b")
    folder.write("b", "op.drop_table('orders')", after="a")
    folder.write("c", after="nowhere")
    assert [one.code for one in folder.check().findings] == ["FIX501"]


@pytest.mark.parametrize(
    "line",
    [
        'op.execute("DELETE FROM x")  # datafixes: ignore[FIX201] rows of a test',
        # Version 0.1 told of it as FIX201.
        "op.execute(\"INSERT INTO x VALUES ('a')\")  # datafixes: ignore[FIX201] a lookup table",
        '# datafixes: ignore[FIX201] rows of a test,\n# and of another\nop.execute("DELETE FROM x")',
        'op.execute(  # datafixes: ignore[FIX201, FIX202] - rows of a test\n    "DELETE FROM x"\n)',
        'op.execute("""\n    DELETE FROM x\n""")  # noqa # datafixes: ignore[FIX201] rows of a test # noqa',
        'x = op.get_bind(\n).execute("DELETE FROM x")  # datafixes: ignore[FIX201] rows of a test',
    ],
)
def test_a_finding_is_silenced_at_its_place_with_a_reason(folder: Folder, line: str) -> None:
    folder.write("a", line)
    checked = folder.check()
    assert (checked.findings, checked.silenced) == ((), 1)


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ('op.execute("DELETE FROM x")  # datafixes: ignore[FIX201]', ["FIX901"]),
        ('op.execute("DELETE FROM x")  # datafixes: ignore[FIX201]  # noqa', ["FIX901"]),
        ('op.execute("DELETE FROM x")  # datafixes: ignore[FIX202] why', ["FIX201", "FIX902"]),
        ('op.execute("DELETE FROM x")  # datafixes: ignore[FIX200] why', ["FIX201", "FIX901"]),
        ('op.execute("DELETE FROM x")  # datafixes: ignore why', ["FIX201", "FIX901"]),
        ('op.execute("DELETE FROM x")  # datafixes: ignore[] why', ["FIX201", "FIX901"]),
        # The line above is another statement's, and a text is no comment.
        ('y = 1  # datafixes: ignore[FIX201] why\nop.execute("DELETE FROM x")', ["FIX902", "FIX201"]),
        ('y = "# datafixes: ignore[FIX201] why"\nop.execute("DELETE FROM x")', ["FIX201"]),
        ('# datafixes: ignore[FIX201] why\n\nop.execute("DELETE FROM x")', ["FIX902", "FIX201"]),
        ("# datafixes: ignore[FIX902] why", ["FIX902"]),
    ],
)
def test_a_silencer_without_a_reason_or_without_a_use_is_told(
    folder: Folder, line: str, codes: list[str]
) -> None:
    assert folder.codes(f"{line}\npass") == codes


def test_a_place_is_a_line_and_a_character(folder: Folder) -> None:
    folder.write("a", 'ä = "äöü"; op.execute("DELETE FROM x")')
    [finding] = folder.check().findings
    line = (folder.path / "a.py").read_text("utf-8").splitlines()[finding.line - 1]
    assert line[finding.column - 1 :].startswith("op.execute")


HOSTILE = {
    "broken": (b"def upgrade(:\n", "The file is not Python: "),
    "latin": (b"x = 1\ny = '\xe4'\n", "The file is not utf-8: byte 0xe4."),
    "nul": (b"x = 1\0\n", "The file is not Python: "),
    "coding": (b"# -*- coding: nonsense -*-\n", "The file is not Python: "),
    "huge": (b"x = 1\n" * 2_000_000, "The file has 12,000,000 bytes; the maximum is 2,000,000."),
    "deep": (b"x = " + b"(" * 5_000 + b")" * 5_000, "The file"),
    "deeper": (b"x = " + b"-" * 100_000 + b"1", "The file"),
    "longer": (b"x = " + b"a." * 100_000 + b"b", "The file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_finding(folder: Folder, name: str) -> None:
    content, told = HOSTILE[name]
    (folder.path / "a.py").write_bytes(content)
    folder.write("b", "op.execute('DELETE FROM x')")
    first, second = folder.check().findings
    assert (first.code, second.code) == ("FIX101", "FIX201")
    assert first.message.startswith(told)


@pytest.mark.parametrize(
    "up",
    [
        f"op.execute('SELECT ' + '{'(' * 9000}')",
        f"op.execute({' + '.join(['x'] * 900)})",
        f"op.execute('DELETE FROM x WHERE a IN ({', '.join(['1'] * 200_000)})')",
        "op.execute('DELETE FROM x WHERE a = ''')",
        "a = b\nb = a\n" * 50 + "op.execute(a)",
        "".join(f"a{n} = a{n + 1}\na{n} = a{n + 1} or a{n + 2}\n" for n in range(40)) + "op.execute(a0)",
        "a = f'{a}{a}{a}{a}'\na += f'{a}{a}{a}{a}'\nop.execute(a)",
    ],
    ids=range(7),
)
def test_hostile_sql_and_names_in_circles_come_to_an_end(folder: Folder, up: str) -> None:
    folder.write("a", up)
    assert {one.code for one in folder.check().findings} <= {"FIX201", "FIX207"}


def test_what_alembic_takes_for_no_revision_is_left_alone(folder: Folder) -> None:
    for name in ("__init__.py", ".#a.py", "a.sql"):
        folder.file(name, "(")
    (folder.path / "sub").mkdir()
    folder.write("b")
    (folder.path / "sub/c.py").write_text("(", "utf-8")
    assert [path.name for path in revision_files([folder.path])] == ["b.py"]
    assert [path.name for path in revision_files([folder.path], recursive=True)] == ["b.py", "c.py"]


def test_every_code_is_one_of_a_kind_and_says_what_to_do() -> None:
    for code, rule in CATALOGUE.items():
        assert code == rule.code
        assert code.startswith("FIX")
        assert rule.remedy.endswith((".", "reason"))
    assert len({rule.meaning for rule in CATALOGUE.values()}) == len(CATALOGUE)
