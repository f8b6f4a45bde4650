"""Types of extensions beside a fix, changed, recorded, deleted and as a key: up and down again, compared to the bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.projects import Project, new_project
from tests.servers import Database


@dataclass(frozen=True)
class Kind:
    """A type, three values of it as SQL, and how it is kept.

    Attributes:
        extension: what makes the type.
        type_: the type.
        values: two values that rows have, and one that they get.
        key: whether a key can be of it.
        own: whether its text does not tell every bit, so that the audit table keeps the type itself.
    """

    extension: str
    type_: str
    values: tuple[str, str, str]
    key: bool = True
    own: bool = False


KINDS = [
    Kind("hstore", "hstore", ("""'a=>1, b=>NULL, "c d"=>"\\"x\\""'""", "''", "'z=>\"\", a=>1'")),
    Kind("citext", "citext", ("'Ann'", "U&'\\00c9\\00e9 '", "'ann'"), key=False),  # the last one is the first one's key
    Kind("citext", "citext", ("'Ann'", "U&'\\00c9\\00e9 '", "'Bob'")),
    Kind("ltree", "ltree", ("'Top.Science.Astronomy'", "''", "'Top.science'")),
    Kind("ltree", "lquery", ("'Top.*{2,4}.!x'", "'*.a*@'", "'a|b'"), key=False),
    Kind("ltree", "ltxtquery", ("'a & !b@'", "'a | b'", "'c'"), key=False),
    Kind("cube", "cube", ("'(0.1,-0),(1e-300,3)'", "'(0.30000000000000004)'", "cube(ARRAY[1.0::float8/3, 2e10])")),
    Kind("isn", "isbn13", ("'978-0-393-04002-9'", "'978-0-11-000222-4'", "'978-1-4028-9462-6'")),
    Kind("isn", "isbn", ("'0-393-04002-X'", "'978-0-11-000222-4'", "'1-4028-9462-7'")),
    Kind("isn", "issn", ("'1436-4522'", "'0378-5955'", "'2049-3630'")),
    Kind("isn", "upc", ("'220356483481'", "'036000291452'", "'012345678905'")),
    Kind("seg", "seg", ("'6.50'", "'1.0 .. 2.0'", "'<7'")),
    Kind("seg", "seg", ("'123456789'", "'0.123456789 .. 1.23456789'", "'987654321'"), own=True),
    Kind("postgis", "geometry", (
        "ST_SetSRID(ST_MakePoint(1.0::float8/3, -0.1), 4326)", "'POLYGON((0 0, 1 0, 1 1, 0 0))'::geometry",
        "'GEOMETRYCOLLECTION(POINT Z (1 2 3), LINESTRING Z (0 0 0.1, 1 1 1))'::geometry",
    )),
    Kind("postgis", "geometry(Point,4326)", (
        "ST_SetSRID(ST_MakePoint(1.0::float8/3, 2), 4326)", "'SRID=4326;POINT EMPTY'::geometry",
        "'SRID=4326;POINT(1e-300 0.30000000000000004)'",
    )),
    Kind("postgis", "geography", (
        "ST_MakePoint(1.0::float8/3, 2)::geography", "'LINESTRING(0 0, 1 1)'::geography", "'POINT(-110 30)'",
    )),
    Kind("postgis", "box2d", (
        "ST_MakeBox2D(ST_MakePoint(1.0::float8/3, 2), ST_MakePoint(5, 6))", "'BOX(0 0,1 1)'",
        "ST_MakeBox2D(ST_MakePoint(2.0::float8/3, 2), ST_MakePoint(5, 6))",
    ), key=False, own=True),
    Kind("postgis", "box3d", (
        "ST_3DMakeBox(ST_MakePoint(1.0::float8/3, 2, 1), ST_MakePoint(5, 6, 7))", "'BOX3D(0 0 0,1 1 1)'",
        "ST_3DMakeBox(ST_MakePoint(2.0::float8/3, 2, 1), ST_MakePoint(5, 6, 7))",
    ), key=False, own=True),
    Kind("semver", "semver", ("'1.2.3-beta.1+build.5'", "'0.0.0'", "'10.20.30'")),
    Kind("ip4r", "ip4", ("'192.0.2.1'", "'0.0.0.0'", "'255.255.255.255'")),
    Kind("ip4r", "ip4r", ("'192.0.2.0/24'", "'192.0.2.1-192.0.2.9'", "'0.0.0.0/0'")),
    Kind("ip4r", "ip6r", ("'2001:db8::/32'", "'::1'", "'2001:db8::1-2001:db8::ff'")),
    Kind("ip4r", "iprange", ("'2001:db8::/32'", "'192.0.2.0/24'", "'-'")),
    Kind("hll", "hll", (
        "(SELECT hll_add_agg(hll_hash_integer(n)) FROM generate_series(1, 3000) AS n)", "hll_empty()",
        "hll_add(hll_empty(), hll_hash_text('a'))",
    ), key=False),
    Kind("unit", "unit", ("'1 km'::unit", "'5 kg*m/s^2'::unit", "'-0 m'::unit")),
    Kind("unit", "unit", ("'1 m'::unit / 3", "'2 s'::unit / 7", "'1 kg'::unit / 9"), own=True),
    Kind("pg_rational", "rational", ("'1/3'", "'0'", "'-7/5'")),
]  # fmt: skip

PACKAGES = {
    "postgis": "postgresql-15-postgis-3", "semver": "postgresql-15-semver", "ip4r": "postgresql-15-ip4r",
    "hll": "postgresql-15-hll", "unit": "postgresql-15-unit", "pg_rational": "postgresql-15-rational",
    "periods": "postgresql-15-periods", "table_log": "postgresql-15-tablelog",
}  # fmt: skip

DECLARED = """
fix = DataFix(name={name!r}, reason="A test.", change={change}, rows=Rows(key={key!r}, expect={expect}), audit={audit!r})
"""
RECORDED = """
from datafixes import RecordedFix, Table
fix = RecordedFix(name={name!r}, reason="A test.",
                  tables=[Table({table!r}, {audit!r}, inserted=1, updated=1, deleted=1)])
"""


def installed(database: Database, *extensions: str) -> None:
    """Make extensions; skip the test where one is not installed."""
    for extension in extensions:
        if not database.value(f"SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'"):
            package = PACKAGES.get(extension, "postgresql-contrib")
            pytest.skip(f"the extension {extension} is not installed here: apt-get install {package}")
        database.execute(f"CREATE EXTENSION {extension} CASCADE")


class History:
    """Revisions with fixes. Each one says itself whether its fix changed something, and whether its revert gave it back."""

    def __init__(self, project: Project, *tables: str) -> None:
        self.project = project
        self.tables = tables
        self.last: str | None = None

    def revision(self, name: str, up: str, down: str, top: str = "fix = None") -> None:
        """One more revision."""
        self.project.revision(name, self.last, up, down, top=top)
        self.last = name

    def audit_tables(self, own: Mapping[str, Sequence[str]]) -> None:
        """A revision that makes the audit table of each table."""
        self.revision(
            "a",
            "\n".join(
                f'op.create_audit_table("{t}", name="{t}_audit", own_types={own.get(t, [])!r})'
                for t in self.tables
            ),
            "\n".join(f'op.drop_audit_table("{t}_audit", discard=True)' for t in self.tables),
        )

    def fix(self, name: str, top: str, *statements: str) -> None:
        """A revision with a fix."""
        body = "\n".join(f"    body.execute({statement!r})" for statement in statements)
        up = f"with op.record_datafix(fix) as body:\n{body}" if statements else "op.apply_datafix(fix)"
        keep = "\n".join(
            f'op.execute("DROP TABLE IF EXISTS before_{name}_{table}")\n'
            f'op.execute("CREATE TABLE before_{name}_{table} AS TABLE {table}")'
            for table in self.tables
        )
        same = " AND ".join(self._same(name, table) for table in self.tables)
        self.revision(
            name,
            f"{keep}\n{up}\n{self._unless(f'NOT ({same})', 'changed nothing')}",
            f"op.revert_datafix(fix)\n{self._unless(same, 'was not given back')}",
            top,
        )

    def up_and_down(self) -> None:
        """All of it."""
        for command in (("upgrade", "head"), ("downgrade", "base")):
            ran = self.project.alembic(*command)
            assert ran.code == 0, ran.last_line

    def _unless(self, condition: str, problem: str) -> str:
        check = f"DO $do$ BEGIN IF ({condition}) IS NOT TRUE THEN RAISE EXCEPTION 'it {problem}'; END IF; END $do$"
        return f"op.execute({check!r})"

    def _same(self, name: str, table: str) -> str:
        """The condition that a table is what it was: as records, and as what each column's type sends."""
        sent = self.project.database.rows(
            "SELECT typsend::regproc::text, quote_ident(attname) FROM pg_attribute JOIN pg_type AS t ON t.oid = atttypid"
            f" WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND typsend <> 0"
            " AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typsend = 0)"
        )
        differs = " OR ".join(
            f"{send}(i.{column}) IS DISTINCT FROM {send}(w.{column})" for send, column in sent
        )
        return (
            f"(SELECT count(*) FROM {table}) = (SELECT count(*) FROM before_{name}_{table}) AND NOT EXISTS ("
            f"SELECT FROM before_{name}_{table} AS w WHERE NOT EXISTS (SELECT FROM {table} AS i"
            f" WHERE record_image_eq(i, w) AND NOT ({differs})))"
        )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.type_}-{'own' if kind.own else 'text'}")
def test_a_type_of_an_extension(kind: Kind, tmp_path: Path, database: Database) -> None:
    installed(database, kind.extension)
    one, two, three = (f"CAST({value} AS {kind.type_})" for value in kind.values)
    tables = ["beside", "keyed"] if kind.key else ["beside"]
    database.execute(
        f"CREATE TABLE beside (id integer PRIMARY KEY, v {kind.type_}, vs {kind.type_}[], note text)",
        f"INSERT INTO beside VALUES (1, {one}, ARRAY[{one}, NULL], 'a'), (2, {two}, ARRAY[{two}, {one}], 'a'), (3, NULL, '{{}}', 'a')",
    )
    if kind.key:
        database.execute(
            f"CREATE TABLE keyed (v {kind.type_} PRIMARY KEY, note text)",
            f"INSERT INTO keyed VALUES ({one}, 'a'), ({two}, 'a')",
        )
    history = History(new_project(tmp_path, database), *tables)
    history.audit_tables({"beside": ["v", "vs"], "keyed": ["v"]} if kind.own else {})
    beside = {"key": "id", "audit": "beside_audit"}
    history.fix("b", DECLARED.format(
        name="beside", change='Update("beside", set={"note": "b"}, where="true")', expect=3, **beside))  # fmt: skip
    history.fix("c", DECLARED.format(
        name="changed", change=f'Update("beside", set={{"v": sql({three!r}), "vs": sql({f"ARRAY[{three}]"!r})}}, where="true")',
        expect=[1, 2, 3], **beside))  # fmt: skip
    history.fix(
        "d",
        RECORDED.format(name="recorded", table="beside", audit="beside_audit"),
        f"UPDATE beside SET v = {two}, vs = vs || {one} WHERE id = 1",
        "DELETE FROM beside WHERE id = 2",
        f"INSERT INTO beside VALUES (4, {one}, ARRAY[{two}], 'd')",
    )
    history.fix("e", DECLARED.format(name="deleted", change='Delete("beside")', expect=[1, 4], **beside))
    if kind.key:
        of_key = {"key": "v", "audit": "keyed_audit"}
        named = [database.value(f"SELECT ({one})::text")]
        history.fix("f", DECLARED.format(
            name="of_key", change='Update("keyed", set={"note": "f"})', expect=named, **of_key)
            if not kind.own else DECLARED.format(
            name="of_key", change=f'Update("keyed", set={{"note": "f"}}, where={f"v = {one}"!r})', expect=1, **of_key))  # fmt: skip
        history.fix(
            "g",
            RECORDED.format(name="recorded_key", table="keyed", audit="keyed_audit"),
            f"UPDATE keyed SET note = 'g' WHERE v = {one}",
            f"DELETE FROM keyed WHERE v = {two}",
            f"INSERT INTO keyed VALUES ({three}, 'g')",
        )
        history.fix(
            "h", DECLARED.format(name="key_gone", change='Delete("keyed", where="true")', expect=2, **of_key)
        )
    history.up_and_down()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.own], ids=lambda kind: kind.type_)
def test_a_value_beside_a_fix_needs_no_exact_text(kind: Kind, tmp_path: Path, database: Database) -> None:
    installed(database, kind.extension)
    database.execute(
        f"CREATE TABLE item (id integer PRIMARY KEY, v {kind.type_}, note text)",
        f"INSERT INTO item VALUES (1, {kind.values[0]}, 'a'), (2, {kind.values[1]}, 'a')",
    )
    history = History(new_project(tmp_path, database), "item")
    history.audit_tables({})
    item = {"key": "id", "audit": "item_audit"}
    history.fix("b", DECLARED.format(
        name="note", change='Update("item", set={"note": "b"}, where="true")', expect=2, **item))  # fmt: skip
    history.fix("c", RECORDED.format(name="recorded", table="item", audit="item_audit").replace(
        "inserted=1, updated=1, deleted=1", "updated=2"), "UPDATE item SET note = 'c'")  # fmt: skip
    history.up_and_down()
    assert history.project.alembic("upgrade", "head").code == 0
    assert database.rows("SELECT shape -> 'inexact' FROM datafix_run_table") == [(["v"],), (["v"],)]
    gone = DECLARED.format(name="gone", change='Delete("item")', expect=[1], **item)
    history.fix("d", gone)
    refused = history.project.alembic("upgrade", "d")
    assert refused.code != 0
    assert "its text form does not yield the same value: 1: v" in refused.last_line
