"""What `datafixes check` makes of existing code: each way to change rows, what a revision made itself, and what is lost."""

from pathlib import Path
from textwrap import dedent

import pytest

from datafixes.check.sql_statements import deeds_of, may_matter
from tests.unit.revision_folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("up", "told"),
    [
        # Operations and methods under other names.
        ('execute("DELETE FROM a")', "FIX201 DELETE FROM a"),
        ('run("DELETE FROM a")', "FIX201 DELETE FROM a"),
        ('do = op.get_bind().execute\ndo(text("DELETE FROM a"))', "FIX201 DELETE FROM a"),
        ('do = partial(op.execute)\ndo("DELETE FROM a")', "FIX201 DELETE FROM a"),
        ("helper(op.execute)", "FIX201 DELETE FROM a"),
        ('run_sql(op.get_bind(), "DELETE FROM a")', "FIX201 DELETE FROM a"),
        ('session.exec(text("DELETE FROM a"))', "FIX201 DELETE FROM a"),
        ('async def move(c):\n    await c.execute(text("DELETE FROM a"))\nop.run_async(move)', "FIX201 DELETE FROM a"),
        ('op.run_async(lambda c: c.execute(text("DELETE FROM a")))', "FIX201 DELETE FROM a"),
        # Texts that are put together elsewhere.
        ("op.execute(Texts.ONE)", "FIX201 DELETE FROM a"),
        ("op.execute(Texts.ONE.value)", "FIX201 DELETE FROM a"),
        ('def made(x):\n    return f"DELETE FROM a WHERE b = {x}"\nop.execute(made(1))', "FIX201 DELETE FROM a"),
        ('def made(x):\n    return f"DELETE FROM a WHERE b = {x}"\nfor one in [made]:\n    op.execute(one(1))',
         "FIX201 DELETE FROM a"),
        ('def made():\n    yield "DELETE FROM a"\nfor one in made():\n    op.execute(one)', "FIX201 DELETE FROM a"),
        ('x = []\nx.append("DELETE FROM a")\nfor one in x:\n    op.execute(one)', "FIX201 DELETE FROM a"),
        ('for one in "SELECT 1; DELETE FROM a".split(";"):\n    op.execute(one)', "FIX201 DELETE FROM a"),
        ('for n, one in enumerate(["DELETE FROM a"]):\n    op.execute(one)', "FIX201 DELETE FROM a"),
        ('for one in [x.strip() for x in ["DELETE FROM a"]]:\n    op.execute(one)', "FIX201 DELETE FROM a"),
        ('def inner(sql="DELETE FROM a"):\n    op.execute(sql)\ninner()', "FIX201 DELETE FROM a"),
        # SQL that is parsed as something harmless, or not at all.
        ('op.execute("EXPLAIN ANALYZE DELETE FROM a")', "FIX201 DELETE FROM a"),
        ('op.execute("EXPLAIN (VERBOSE, ANALYZE) DELETE FROM a")', "FIX201 DELETE FROM a"),
        ('op.execute("CREATE TABLE n AS WITH d AS (DELETE FROM a RETURNING *) SELECT * FROM d")', "FIX201 DELETE FROM a"),
        ('op.execute("PREPARE p AS DELETE FROM a")\nop.execute("EXECUTE p")', "FIX201 DELETE FROM a"),
        ('op.execute("PREPARE p (int) AS DELETE FROM a WHERE b = $1")', "FIX201 DELETE FROM a"),
        ('op.execute("COPY (DELETE FROM a RETURNING *) TO STDOUT")', "FIX201 DELETE FROM a"),
        ('op.execute("FROB x; DELETE FROM a")', "FIX201 DELETE FROM a"),
        # Functions whose bodies are here.
        ('op.execute("CREATE FUNCTION f() RETURNS void AS $$ DELETE FROM a $$ LANGUAGE sql")\nop.execute("SELECT f()")',
         "FIX201 DELETE FROM a"),
        ('op.execute("CREATE PROCEDURE f() AS $$ BEGIN DELETE FROM a; END $$ LANGUAGE plpgsql; CALL f()")',
         "FIX201 DELETE FROM a"),
        # Drivers, data frames, and another ORM.
        ('c = op.get_bind().connection.cursor()\nc.copy_expert("COPY a FROM STDIN", f)', "FIX201 COPY a"),
        ('with cursor.copy("COPY a FROM STDIN") as copy:\n    pass', "FIX201 COPY a"),
        ('cursor.copy_from(f, "a")', "FIX202 COPY a"),
        ('frame.to_sql("a", op.get_bind(), if_exists="append")', "FIX202 INSERT INTO a"),
        ('frame.to_sql("a", op.get_bind(), if_exists="replace")', "FIX202 DROP and INSERT INTO a"),
        ('frame.write_database("a", op.get_bind(), if_table_exists="append")', "FIX202 INSERT INTO a"),
        ('Parcel.update(x=1).where(Parcel.x == 2).execute()', "FIX202 UPDATE Parcel"),
        ('Parcel.delete().execute()', "FIX202 DELETE FROM Parcel"),
        ('Parcel.create(**row)', "FIX202 INSERT INTO Parcel"),
        ('for p in Parcel.select():\n    p.save()', "FIX202 save()"),
    ],
)  # fmt: skip
def test_every_way_to_change_rows_is_found(folder: Folder, up: str, told: str) -> None:
    top = """
    from functools import partial
    from alembic.op import execute, execute as run
    from shop.db import run_sql
    from peewee import Model

    class Parcel(Model):
        pass

    def helper(do):
        do("DELETE FROM a")

    class Texts(Enum):
        ONE = "DELETE FROM a"
    """
    folder.write("a", up, top=top)
    assert folder.told() == [f"{told} changes rows without a fix."]


@pytest.mark.parametrize(
    "up",
    [
        "with session_scope() as db:\n    for one in db.query(Parcel):\n        one.x = 1",
        "with Maker.begin() as db:\n    db.scalars(sa.select(Parcel)).first().x += 1",
        "with Session(op.get_bind()) as s, s.begin():\n    for one in s.query(Parcel):\n        one.x = 1",
        "db = sessionmaker()(bind=op.get_bind())\nfor one in db.query(Parcel):\n    one.tags.append(1)\ndb.commit()",
        "with session_scope() as db:\n    db.delete(one)",
        "with session_scope() as db:\n    db.query(Parcel).delete()",
    ],
)
def test_objects_that_a_session_writes_by_itself_are_found(folder: Folder, up: str) -> None:
    top = "from shop.db import session_scope\nfrom shop.models import Parcel\nfrom sqlalchemy.orm import sessionmaker\nMaker = sessionmaker()\n"
    assert folder.codes(up, top=top) == ["FIX202"]
    assert folder.codes("with session_scope() as db:\n    print(db.query(Parcel).all())", top=top) == []


@pytest.mark.parametrize(
    "up",
    [
        'op.execute("EXPLAIN DELETE FROM a")',
        'op.execute("EXPLAIN (ANALYZE off) DELETE FROM a")',
        'op.execute("CREATE FUNCTION f() RETURNS void AS $$ DELETE FROM a $$ LANGUAGE sql")',
        'frame.to_sql("a", op.get_bind())',
        "service.files().delete(fileId=1).execute()",
        'exec("DELETE FROM a")',
        "shutil.copy('a', 'b')\nx = {}.copy()",
        "op.execute(\"SELECT setval('a_id_seq', (SELECT max(id) FROM a))\")",
        "op.execute(\"SELECT pg_advisory_xact_lock(1), set_config('a', 'b', true)\")",
        "op.get_bind().execute(sa.select(sa.func.count()).select_from(orders)).scalar()",
        'op.execute(sa.schema.CreateSequence(sa.Sequence("x")))',
        "state.create(op.get_bind(), checkfirst=True)\nBase.metadata.create_all(bind=op.get_bind())",
        "has_column(op.get_context().dialect, 'a')",
    ],
)
def test_what_looks_like_a_change_and_is_none(folder: Folder, up: str) -> None:
    assert folder.codes(up, top="from shop.models import Base, state\nfrom shop.db import has_column\n") == []


@pytest.mark.parametrize(
    ("up", "told"),
    [
        ("recode(op.get_bind())", "FIX208 recode() gets the connection, and its file is not there."),
        ("tools.recode(connection=conn)", "FIX208 tools.recode() gets the connection, and its file is not there."),
        ("for one in TEXTS:\n    op.execute(one)", "FIX207 The SQL of one is not in this file."),
        ("op.execute(tools.TEXT)", "FIX207 The SQL of tools.TEXT is not in this file."),
        ("op.execute(tools.made())", "FIX207 The SQL of tools.made() is not in this file."),
        ('op.execute("SELECT shop.purge(90)")', "FIX209 shop.purge() may change rows, and is not checked."),
        ('op.execute("SELECT purge(id) FROM a")', "FIX209 purge() may change rows, and is not checked."),
        ('op.execute("SELECT * FROM purge(1)")', "FIX209 purge() may change rows, and is not checked."),
        ('op.execute("CALL purge(1)")', "FIX209 purge() may change rows, and is not checked."),
        ('op.execute("DO $$ BEGIN PERFORM purge(1); END $$")', "FIX209 purge() may change rows, and is not checked."),
        ('for one in Path("x").read_text().split(";"):\n    op.execute(one)',
         "FIX205 The SQL that this executes is in another file."),
        ('with open("x") as file:\n    for line in file:\n        op.execute(line.strip())',
         "FIX205 The SQL that this executes is in another file."),
        ('x = Path("x").read_text()\nfor one in sqlparse.split(x):\n    op.execute(sa.text(one))',
         "FIX205 The SQL that this executes is in another file."),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_one_note(folder: Folder, up: str, told: str) -> None:
    folder.write(
        "a", up, top="import sqlparse\nfrom shop import tools\nfrom shop.helpers import TEXTS, recode\n"
    )
    assert folder.told() == [told]
    recorded = f"with op.record_datafix(fix) as body:\n{'    ' + up.replace(chr(10), chr(10) + '    ')}"
    fix = "fix = RecordedFix(name='a', reason='r', tables=[Table('a', 'b', updated=1)])\n"
    top = f"import sqlparse\nfrom shop import tools\nfrom shop.helpers import TEXTS, recode\n{fix}"
    assert not {"FIX205", "FIX207", "FIX208", "FIX209"} & set(
        folder.codes(recorded, "op.revert_datafix(fix)", top=top)
    )


def test_functions_and_texts_of_other_files_are_followed(folder: Folder) -> None:
    package = folder.path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import recode as again\n", "utf-8")
    (package / "inner.py").write_text(
        dedent("""
        import sqlalchemy as sa
        from shop.texts import ONE
        raise SystemExit("imported")

        def recode(connection, table):
            connection.execute(sa.text(f"DELETE FROM {table}"))
            connection.execute(sa.text(ONE))

        def count(connection):
            return connection.execute(sa.text("SELECT count(*) FROM a")).scalar()
        """),
        "utf-8",
    )
    (package / "texts.py").write_text('ONE = "UPDATE lines SET x = 1"\nEACH = [ONE, "SELECT 1"]\n', "utf-8")
    top = "from shop import again, texts\nfrom shop.inner import count, recode\nfrom shop.texts import EACH\n"
    for call, name in (
        ("recode(op.get_bind(), 'orders')", "recode"),
        ("again(op.get_bind(), table='orders')", "again"),
    ):
        folder.write("a", f"count(op.get_bind())\n{call}", top=top)
        [told] = folder.told()
        where = f"in {name}() of "
        assert told.startswith(f"FIX201 DELETE FROM orders and UPDATE lines change rows {where}")
        assert told.endswith("shop/inner.py without a fix.")
    for up in ("for one in EACH:\n    op.execute(one)", "op.execute(texts.ONE)"):
        folder.write("a", up, top=top)
        assert folder.told() == ["FIX201 UPDATE lines changes rows without a fix."]
    # A table that the helper fills, and this revision made, is new there too.
    made = 'op.create_table("orders", sa.Column("x"))\nop.create_table("lines", sa.Column("x"))\n'
    folder.write("a", f"{made}recode(op.get_bind(), 'orders')", top=top)
    assert folder.told() == []


@pytest.mark.parametrize(
    ("up", "top"),
    [
        ("recode(op.get_bind())", f"from {'x' * 300}.y import recode\n"),
        ("recode(op.get_bind())", f"from {'.' * 40}x import recode\n"),
        ("recode(op.get_bind())", "from a import recode\n"),
        ("f0()", "".join(f"def f{n}():\n    f{n + 1}()\n    f{n + 2}()\n" for n in range(300)) + "def f300():\n    f0()\n"),
        ("with a.begin() as a:\n    a = a.begin()\n    a.add(1)\n    a.commit()", ""),
        ("x.append(x)\nx.extend(x)\nfor x in x:\n    op.execute(x)", "x = []\n"),
        ("class A:\n    B = A.B\nop.execute(A.B)", ""),
        ("op.execute('{} {0} {x.y} {'.format(1))\nop.execute('{} {0}'.format(*x))", ""),
    ],
    ids=range(8),
)  # fmt: skip
def test_code_in_circles_and_names_of_no_file_come_to_an_end(folder: Folder, up: str, top: str) -> None:
    for name, text in (("a.py", "from b import recode\n"), ("b.py", "from a import recode\n")):
        (folder.path / name).write_text(text, "utf-8")
    path = folder.write("revision", up, top=top)
    assert not [one for one in folder.check(only=[path]).findings if one.severity == "error"]


OWN = """
from shop import models
from shop.models import tables, Parcel as Imported

class Parcel(Base):
    __tablename__ = "parcels"
    slug = sa.Column(sa.Text)
"""
MADE = 'op.create_table("parcels", sa.Column("id"))\n'
ADDED = 'op.add_column("parcels", sa.Column("slug"))\n'


@pytest.mark.parametrize(
    ("up", "down", "codes"),
    [
        # A table is new from where it is made, and only on that way.
        (f'op.execute("DELETE FROM parcels")\n{MADE}', "pass", ["FIX201"]),
        ('op.execute("DELETE FROM parcels")', MADE, ["FIX201"]),
        (f'if x:\n    op.execute("DELETE FROM parcels")\nelse:\n    {MADE}', "pass", ["FIX201"]),
        (
            f'try:\n    pass\nexcept E:\n    {MADE}else:\n    op.execute("DELETE FROM parcels")',
            "pass",
            ["FIX201"],
        ),
        ('op.execute("DELETE FROM a; CREATE TABLE a (x int)")', "pass", ["FIX201"]),
        ('op.execute("CREATE TABLE a (x int); DELETE FROM a")', "pass", []),
        (f'if x:\n    {MADE}op.execute("DELETE FROM parcels")', "pass", []),
        (f'if x:\n    {MADE}op.execute("INSERT INTO parcels SELECT 1 FROM b")', "pass", []),
        ("make()\nop.execute('DELETE FROM parcels')", "pass", []),
        ("op.execute('DELETE FROM parcels')\nmake()", "pass", ["FIX201"]),
        (f'{MADE}op.rename_table("parcels", "boxes")\nop.execute("UPDATE boxes SET x = 1")', "pass", []),
        (f'op.rename_table("parcels", "old")\n{MADE}op.execute("DELETE FROM old")', "pass", ["FIX201"]),
        # By a model, a reflected table, an imported one.
        (f"{MADE}op.bulk_insert(tables.parcels, [])", "pass", []),
        (f"{MADE}op.bulk_insert(models.Parcel.__table__, [])", "pass", []),
        (f"{MADE}op.execute(sa.update(Imported).values(x=1))", "pass", []),
        (f"{MADE}op.execute(sa.update(Parcel).values(x=1))", "pass", []),
        (f"{MADE}op.execute(sa.delete(meta.tables['parcels']))", "pass", []),
        (f"{MADE}op.execute(sa.delete(Base.classes.parcels))", "pass", []),
        (f"{MADE}session.add(Parcel(slug=x))\nsession.commit()", "pass", []),
        (f"{MADE}session.query(Parcel).delete()", "pass", []),
        ("session.query(Parcel).delete()", "pass", ["FIX202"]),
        # Columns.
        (f"{ADDED}op.execute(sa.update(Parcel).values(slug='x'))", "pass", ["FIX203"]),
        (f"{ADDED}op.execute(sa.update(Parcel).values({{Parcel.slug: 'x'}}))", "pass", ["FIX203"]),
        (f"{ADDED}session.query(Parcel).update({{'slug': 'x'}})", "pass", ["FIX203"]),
        (f"{ADDED}session.query(Parcel).update({{'name': 'x'}})", "pass", ["FIX202"]),
        (f"{ADDED}for one in session.query(Parcel):\n    one.slug = 1\nsession.commit()", "pass", ["FIX203"]),
        (f"{ADDED}for one in session.query(Parcel):\n    one.name = 1\nsession.commit()", "pass", ["FIX202"]),
        (f'op.execute("UPDATE parcels SET slug = 1")\n{ADDED}', "pass", ["FIX201"]),
        ("pass", f'{ADDED}op.execute("UPDATE parcels SET slug = 1")', ["FIX203"]),
        # A downgrade may do what it likes to what it drops, if the upgrade made it.
        (ADDED, 'op.execute("UPDATE parcels SET slug = 1")\nop.drop_column("parcels", "slug")', []),
        (ADDED, 'op.execute("UPDATE parcels SET slug = 1")', ["FIX201"]),
        (MADE, 'op.execute("DELETE FROM parcels")\nop.drop_table("parcels")', []),
        (MADE, 'op.execute("DELETE FROM parcels")', ["FIX201"]),
    ],
)
def test_what_a_revision_made_before_held_no_rows(
    folder: Folder, up: str, down: str, codes: list[str]
) -> None:
    top = f"{OWN}\ndef make():\n    {MADE}"
    assert folder.codes(up, down, top=top) == codes


SEED = "op.execute(\"INSERT INTO state (id, name) VALUES (7, 'lost')\")"


@pytest.mark.parametrize(
    ("up", "down", "codes"),
    [
        (SEED, 'op.execute("DELETE FROM state WHERE id = 7")', ["FIX206"]),
        (SEED, "op.execute(\"DELETE FROM state WHERE id = 7 AND name = 'lost'\")", ["FIX206"]),
        (SEED, "op.execute(\"DELETE FROM state WHERE name IN ('lost')\")", ["FIX206"]),
        (SEED, "op.execute(sa.delete(state).where(state.c.name == 'lost'))", ["FIX206"]),
        ("op.bulk_insert(state, [{'name': 'lost'}])", "op.execute(\"DELETE FROM state WHERE name = 'lost'\")", ["FIX206"]),
        ("op.execute(sa.insert(state).values(name='lost'))", "pass", ["FIX206"]),
        ("session.add(State(name='lost'))\nsession.commit()", "pass", ["FIX206"]),
        ("op.execute(\"INSERT INTO state SELECT 1, 'x' WHERE NOT EXISTS (SELECT FROM state)\")", "pass", ["FIX206"]),
        ("op.execute(\"INSERT INTO state VALUES ('x', now()) ON CONFLICT DO NOTHING\")", "pass", ["FIX206"]),
        ("op.get_bind().execute(text('INSERT INTO state (name) VALUES (:n)'), {'n': 'lost'})",
         "op.get_bind().execute(text('DELETE FROM state WHERE name = :x'), {'x': 'lost'})", ["FIX206"]),
        ("op.execute(text('INSERT INTO state (name) VALUES (:n)').bindparams(n='lost'))", "pass", ["FIX206"]),
        ("op.get_bind().execute(text('INSERT INTO state (name) VALUES (:n)'), {'n': row.name})", "pass", ["FIX201"]),
        # More than what was inserted.
        ("op.get_bind().execute(text('INSERT INTO state (name) VALUES (:n)'), {'n': 'lost'})",
         "op.get_bind().execute(text('DELETE FROM state WHERE name = :x'), {'x': name})", ["FIX206", "FIX201"]),
        (SEED, 'op.execute("DELETE FROM state")', ["FIX206", "FIX201"]),
        (SEED, "op.execute(\"DELETE FROM state WHERE name IN ('lost', 'found')\")", ["FIX206", "FIX201"]),
        (SEED, 'op.execute("DELETE FROM state WHERE id > 6")', ["FIX206", "FIX201"]),
        (SEED, "op.execute(\"DELETE FROM other WHERE name = 'lost'\")", ["FIX206", "FIX201"]),
        ("op.execute(\"INSERT INTO state (id, kind) VALUES (7, 'a')\")",
         "op.execute(\"DELETE FROM state WHERE kind = 'a'\")", ["FIX206", "FIX201"]),
        ("pass", "op.execute(\"DELETE FROM state WHERE name = 'lost'\")", ["FIX201"]),
        # Rows that come from elsewhere, or overwrite others.
        ('op.execute("INSERT INTO state SELECT id FROM other")', "pass", ["FIX201"]),
        ('op.execute("INSERT INTO state (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2")', "pass", ["FIX201"]),
        ('op.execute(sa.text("INSERT INTO state VALUES (:a)").bindparams(a=row))', "pass", ["FIX201"]),
        ("op.bulk_insert(state, rows)", "pass", ["FIX202"]),
    ],
)  # fmt: skip
def test_a_seed_and_its_way_back_are_one_note(folder: Folder, up: str, down: str, codes: list[str]) -> None:
    assert folder.codes(up, down, top='state = sa.table("state", sa.column("name"))\n') == codes


RECORD = """
fix = RecordedFix(name="keep", reason="r", tables=[Table("parcels", "parcels_audit", updated=3)])
"""


@pytest.mark.parametrize(
    ("up", "codes"),
    [
        ('op.drop_column("parcels", "slug")', ["FIX601"]),
        ('with op.batch_alter_table("parcels") as batch:\n    batch.drop_column("slug")', ["FIX601"]),
        ('op.execute("ALTER TABLE parcels DROP COLUMN IF EXISTS slug")', ["FIX601"]),
        ('op.drop_table("parcels")', ["FIX602"]),
        ('op.execute("DROP TABLE parcels, boxes")', ["FIX602", "FIX602"]),
        ('op.execute("DROP SCHEMA shop CASCADE")', ["FIX602"]),
        ('op.alter_column("parcels", "slug", type_=sa.Integer(), postgresql_using="length(slug)")', ["FIX603"]),
        ('op.execute("ALTER TABLE parcels ALTER slug TYPE int USING CASE slug WHEN \'a\' THEN 1 END")', ["FIX603"]),
        # Values that are only cast, moved, new, or copied by a fix.
        ('op.alter_column("parcels", "slug", type_=sa.Integer(), postgresql_using="slug::text::integer")', []),
        ('op.execute("ALTER TABLE parcels ALTER slug TYPE int USING CAST(slug AS int)")', []),
        ('op.execute("UPDATE parcels SET url = slug")\nop.drop_column("parcels", "slug")', ["FIX201"]),
        (f'{ADDED}op.drop_column("parcels", "slug")', []),
        (f'{MADE}op.drop_table("parcels")', []),
        ('op.execute("CREATE TABLE boxes AS SELECT * FROM parcels")\nop.drop_table("parcels")', []),
        ('op.execute("DROP TABLE IF EXISTS parcels")\nop.create_table("parcels", sa.Column("x"))', []),
        ('op.drop_table("parcels")\nop.create_table("parcels", sa.Column("x"))', ["FIX602"]),
        ('with op.record_datafix(fix) as body:\n    body.execute("UPDATE parcels SET slug = NULL")\n'
         'op.drop_column("parcels", "slug")', []),
    ],
)  # fmt: skip
def test_values_that_go_with_a_definition_are_noted(folder: Folder, up: str, codes: list[str]) -> None:
    down = "op.revert_datafix(fix)" if "record_datafix" in up else 'op.drop_index("x")'
    assert folder.codes(up, down, top=RECORD) == codes
    if codes and codes[0].startswith("FIX6"):
        assert folder.codes(up, "pass", top=RECORD) == [*codes, "FIX604"]
        assert folder.codes(up, "raise NotImplementedError", top=RECORD) == codes
    # A downgrade drops what its upgrade added.
    assert not [one for one in folder.codes("pass", up, top=RECORD) if one.startswith("FIX6")]


@pytest.mark.parametrize(
    "text",
    ["ALTER TYPE state ADD VALUE 'lost'", "CREATE INDEX CONCURRENTLY a ON b (lower(c))", "SET lock_timeout = '5s'",
     "COMMENT ON COLUMN a.b IS 'x'", "SELECT count(*) FROM a WHERE lower(b) IN (SELECT c FROM d)"],
)  # fmt: skip
def test_most_texts_need_no_parser(text: str) -> None:
    assert not may_matter(text)
    assert deeds_of(text) == ()
