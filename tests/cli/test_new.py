"""``datafixes new``: a revision that is true of the database, passes the lint, and runs up and down."""

import subprocess
import sys
from pathlib import Path

import pytest

from datafixes.script.tables import RECORDS
from tests.cli.commands import datafixes
from tests.projects import ENV, Project, new_project, project_with_fix
from tests.servers import LEDGER, Database

ORDERS = """
CREATE TABLE orders (id integer PRIMARY KEY, number text UNIQUE, net numeric(12,2), total numeric(12,2), tax_class text,
                     paid boolean NOT NULL DEFAULT false, due date, seen timestamptz, at timestamp(0), tags jsonb, ratio float8,
                     small numeric(4,1), code char(3), double_net numeric GENERATED ALWAYS AS (net * 2) STORED);
INSERT INTO orders (id, number, net, total, tax_class) VALUES
    (10, 'A-16', 100, 119, 'standard'), (11, 'A-17', 200, 200, NULL), (12, 'A-18', 50, 50, NULL);
"""


def project_of(directory: Path, database: Database, tables: str = ORDERS) -> Project:
    project = new_project(directory, database)
    database.psql(tables, "-v", "ON_ERROR_STOP=1")
    return project


def written(project: Project, *arguments: str) -> list[Path]:
    """The files that a call writes; what they say passes ruff, and as far as it is there, datafixes check."""
    ran = datafixes(project, "new", *arguments)
    assert ran.code == 0, ran.err
    paths = [Path(line) for line in ran.out.splitlines()]
    assert paths
    return paths


def lint(paths: list[Path]) -> None:
    check = ("check", "--select", "E,F,I,UP,B,Q,W", "--ignore", "E501", "--isolated")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *check, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def up_and_down(
    project: Project, before: dict[str, list[str]], audits: tuple[str, ...], down: str = "-1"
) -> dict[str, list[str]]:
    """What the tables are after an upgrade; a downgrade gives back what was there before."""
    own = (*LEDGER, *audits, "public.alembic_version")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err + ran.out
    changed = project.database.dump(*own)
    assert changed != before
    discard = ",".join(audit.partition(".")[2] for audit in audits)
    ran = project.alembic("-x", f"discard={discard}", "downgrade", down)
    assert ran.code == 0, ran.err + ran.out
    assert project.database.dump(*own) == before
    return changed


def test_a_fix_is_written_applied_and_taken_back(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    before = database.dump()
    ran = datafixes(
        project, "new", "reprice untaxed orders", "--table", "orders", "--where", "tax_class IS NULL",
        "--set", "tax_class=standard", "--set-sql", "total=net * 1.19", "--reason", "The import left the tax out.",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert database.dump() == before
    audit, fix = (Path(line) for line in ran.out.splitlines())
    assert 'op.create_audit_table("orders", name="orders_audit")' in audit.read_text()
    assert 'op.drop_audit_table("orders_audit")' in audit.read_text()
    assert DECLARED in fix.read_text()
    assert ran.err.splitlines()[1] == "public.orders: 2 rows found; key id; identity number"
    assert ran.err.startswith("Database: postgresql+psycopg2://postgres@/")
    assert "public.orders has no audit table yet" in ran.err
    assert ran.err.splitlines()[-1] == "Next: read them, then datafixes check and plan."
    lint([audit, fix])
    changed = up_and_down(project, before, ("public.orders_audit",))
    assert changed["public.orders"][1].startswith("(11,A-17,200.00,238.00,standard,")
    for command in ("plan", "check"):
        ran = datafixes(project, command)
        assert ran.code == 0, ran.out + ran.err


DECLARED = """
fix = DataFix(
    name="reprice_untaxed_orders",
    reason="The import left the tax out.",
    change=Update(
        "orders",
        set={"tax_class": "standard", "total": sql("net * 1.19")},
        where="tax_class IS NULL",
    ),
    rows=Rows(key="id", identity={"number": "number"}, expect={11: "A-17", 12: "A-18"}),
    audit="orders_audit",
)
"""


def test_the_second_fix_stands_on_the_first_and_uses_its_audit_table(
    tmp_path: Path, database: Database
) -> None:
    project = project_of(tmp_path, database)
    same = ("close it", "--table", "orders", "--where", "id = 11", "--set", "paid=yes")
    # The audit table is made by a revision that has not run yet: none is written again.
    assert len(written(project, *same, "--rev-id", "7")) == 2
    [second] = written(project, *same)
    assert 'name="close_it_2"' in second.read_text()
    assert 'down_revision = "7"' in second.read_text()
    assert 'set={"paid": True}' in second.read_text()
    assert project.alembic("upgrade", "head").code == 0
    [third] = written(project, *same, "--audit", "orders_audit", "--name", "third", "--rev-id", "9")
    assert 'audit="orders_audit"' in third.read_text()
    assert '\nrevision = "9"' in third.read_text()
    refused = datafixes(project, "new", *same, "--name", "third")
    assert (refused.code, "A fix third already exists." in refused.err) == (1, True)


def test_an_audit_table_that_its_target_has_outgrown_is_brought_to_shape(
    tmp_path: Path, database: Database
) -> None:
    project = project_of(tmp_path, database)
    written(project, "one", "--table", "orders", "--where", "id = 11", "--set", "paid=yes")
    assert project.alembic("upgrade", "head").code == 0
    database.execute("ALTER TABLE orders ADD COLUMN extra text")
    ran = datafixes(project, "new", "two", "--table", "orders", "--where", "id = 12", "--set", "extra=x")
    assert "public.orders_audit lacks extra" in ran.err
    shape, _ = (Path(line) for line in ran.out.splitlines())
    assert 'op.update_audit_table("orders", name="orders_audit")' in shape.read_text()
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.out
    assert database.value("SELECT extra FROM orders WHERE id = 12") == "x"


VALUES = [
    ("paid=t", '"paid": True'),
    ("total=-5", '"total": -5'),
    ("total=119.50", '"total": Decimal("119.50")'),
    ("total=1e3", '"total": Decimal("1000.00")'),
    ("total=NULL", '"total": None'),
    ("tax_class=NULL", '"tax_class": None'),
    ("tax_class=", '"tax_class": ""'),
    ("tax_class=a=b", '"tax_class": "a=b"'),
    ('tax_class=it\'s "x"\n\\d', '"tax_class": \'it\\\'s "x"\\n\\\\d\''),
    ("due=2026-02-03", '"due": dt.date(2026, 2, 3)'),
    ("due=infinity", '"due": "infinity"'),
    ("seen=2026-02-03 16:00+01", '"seen": dt.datetime(2026, 2, 3, 15, 0, tzinfo=dt.UTC)'),
    ("at=2026-02-03 16:00:01", '"at": dt.datetime(2026, 2, 3, 16, 0, 1)'),
    ("ratio=0.1", '"ratio": 0.1'),
    ("ratio=NaN", '"ratio": "NaN"'),
    ('tags={"a":  1}', '"tags": \'{"a":  1}\''),
    ("code=ab", '"code": "ab"'),
]


def test_values_are_written_as_their_column_has_them(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    before = database.dump()
    paths: list[Path] = []
    for given, shown in VALUES:
        same = ("--table", "orders", "--where", "id = 11", "--set-sql", "net=net + 1")
        paths += written(project, "x", *same, "--set", given)
        assert shown in paths[-1].read_text(), given
    assert len(paths) == len(VALUES) + 1
    lint(paths)
    up_and_down(project, before, ("public.orders_audit",), "base")


REFUSED = [
    (["--table", "ordrs", "--where", "true", "--set", "a=1"], "Table public.ordrs does not exist. Did you mean orders?"),
    (["--table", "orders", "--where", "true", "--set", "totl=1"], "public.orders has no column totl. Did you mean total?"),
    (["--table", "items", "--where", "true", "--set", "a=1"], "Table public.items does not exist; there is one in shop."),
    (["--table", "v", "--where", "true", "--set", "a=1"], "public.v is a view; a fix needs a table."),
    (["--table", "orders", "--where", "true", "--set", "total=x"], "'x' is not a value of total (numeric(12,2))"),
    (["--table", "orders", "--where", "true", "--set", "total=1.005"], "total is numeric(12,2) and would store '1.005' as '1.01'"),
    (["--table", "orders", "--where", "true", "--set", "code=abcd"], "code is character(3) and would store 'abcd' as 'abc'"),
    (["--table", "orders", "--where", "true", "--set", "at=2026-02-03 16:00:00.7"], "would store"),
    (["--table", "orders", "--where", "true", "--set", "at=2026-02-03 16:00+01"], "has a zone"),
    (["--table", "orders", "--where", "true", "--set", "seen=2026-02-03 16:00"], "has no zone"),
    (["--table", "orders", "--where", "true", "--set", "seen=now"], 'depends on the time of the run. --set-sql "seen=now()"'),
    (["--table", "orders", "--where", "true", "--set", "paid=NULL"], "paid is NOT NULL"),
    (["--table", "orders", "--where", "true", "--set", "double_net=1"], "is generated by the database"),
    (["--table", "orders", "--where", "true", "--set", "id=1"], "not set by the fix. Its keys: id."),
    (["--table", "orders", "--where", "true", "--set", "total"], "'total' sets no column"),
    (["--table", "orders", "--where", "true", "--set", "total=1", "--set-sql", "total=2"], "total is set twice"),
    (["--table", "orders", "--where", "true", "--set", "total=1", "--key", "net"], "net is not a unique key"),
    (["--table", "orders", "--where", "ttal > 1", "--set", "total=1"], "is not valid: column \"ttal\" does not exist"),
    (["--table", "orders", "--where", "true); COMMIT; DELETE FROM orders; --", "--set", "total=1"], "COMMIT"),
    (["--table", "orders", "--where", "true); DELETE FROM orders; --", "--set", "total=1"], 'syntax error at or near ";"'),
    (["--table", "orders", "--where", "true", "--set-sql", "total=nett"], 'column "nett" does not exist'),
    (["--table", "orders", "--where", "id = 99", "--set", "total=1"], "No row of public.orders matches 'id = 99'"),
    (["--table", "keyless", "--where", "true", "--set", "a=1"], "public.keyless has no unique key"),
    (["--table", "orders", "--where", "true", "--set", "total=1", "--audit", "keyless"], "public.keyless is not an audit table"),
    (["--table", "orders", "--where", "true", "--set", "total=1", "--head", "zzz"], "zzz is not a head"),
    (["--table", "orders", "--where", "true", "--set", "total=1", "--rev-id", "x" * 33], "is not a valid revision id"),
    (["--sql", "nowhere.sql"], "nowhere.sql cannot be read: No such file or directory"),
]  # fmt: skip


def test_what_cannot_be_is_one_line_and_writes_nothing(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database, f"""{ORDERS}
        CREATE VIEW v AS SELECT 1 AS a; CREATE TABLE keyless (a integer); INSERT INTO keyless VALUES (1);
        CREATE SCHEMA shop; CREATE TABLE shop.items (a integer PRIMARY KEY);""")  # fmt: skip
    before = database.dump()
    for arguments, words in REFUSED:
        refused = datafixes(project, "new", "x", *arguments)
        assert words in refused.err, arguments
        assert (refused.code, refused.out) == (1, "")
        assert sum("FAILED" in line for line in refused.err.splitlines()) == 1
    assert list((tmp_path / "migrations/versions").glob("*.py")) == []
    assert database.dump() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["--table", "orders"], ["--table", "orders", "--set", "a=1"], ["--table", "orders", "--where", "true"],
        ["--table", "orders", "--where", "true", "--set", "a=1", "--delete"], ["--sql", "f", "--table", "orders"],
        ["--sql", "f", "--set", "a=1"], ["--sql", "f", "--where", "true"], ["--table", "orders", "--where", " ", "--delete"],
    ],
)  # fmt: skip
def test_wrong_usage_says_what_is_missing(arguments: list[str]) -> None:
    ran = datafixes(None, "new", "x", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "given: use " in ran.err or "--sql FILE excludes " in ran.err


def test_where_no_row_matches_it_can_be_forced(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    ran = datafixes(project, "new", "x", "--table", "orders", "--where", "id = 99", "--delete", "--force")
    assert ran.code == 0
    text = Path(ran.out.splitlines()[1]).read_text()
    assert 'change=Delete("orders", where="id = 99"),\n    rows=Rows(key="id", expect=1),' in text
    assert "0 rows found; key id; fill in which ones" in ran.err
    assert "state the reason in it" in ran.err


def test_of_many_rows_only_the_number_is_written(tmp_path: Path, database: Database) -> None:
    project = project_of(
        tmp_path,
        database,
        "CREATE TABLE t (id bigint PRIMARY KEY, name text); INSERT INTO t SELECT n, n FROM generate_series(1, 51) AS n;",
    )
    before = database.dump()
    paths = written(project, "x", "--table", "t", "--where", "id > 0", "--delete")
    assert 'rows=Rows(key="id", expect=51)' in paths[1].read_text()
    up_and_down(project, before, ("public.t_audit",))
    database.execute("DELETE FROM t WHERE id = 51")
    [path] = written(project, "y", "--table", "t", "--where", "true", "--delete")
    assert '50: "50",\n' in path.read_text()
    lint([path])


def test_a_bound_is_written_instead_of_the_rows(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    before = database.dump()
    wish = ("x", "--table", "orders", "--where", "tax_class IS NULL", "--set", "tax_class=standard")
    refused = datafixes(project, "new", *wish, "--at-most", "1")
    assert (refused.code, refused.out) == (1, "")
    assert "public.orders: 2 rows were found, more than --at-most 1." in refused.err
    paths = written(project, *wish, "--at-most", "5000")
    assert 'rows=Rows(key="id", expect=AtMost(5_000))' in paths[1].read_text()
    assert "from datafixes import AtMost, DataFix, Rows, Update\n" in paths[1].read_text()
    lint(paths)
    assert datafixes(project, "check").code == 0
    database.execute("INSERT INTO orders (id, number) VALUES (13, 'A-19')")
    before = database.dump()
    up_and_down(project, before, ("public.orders_audit",), "base")
    assert datafixes(project, "new", *wish, "--at-most", "0").code == 2


def test_a_bound_of_statements_is_one_for_each_kind_of_change(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database, MERGE)
    before = database.dump()
    text = "UPDATE orders SET customer_id = 4 WHERE customer_id = 7; DELETE FROM customers WHERE id = 7"
    file = sql_file(tmp_path, text)
    assert (
        "public.orders: 3 rows were found"
        in datafixes(project, "new", "x", "--sql", file, "--at-most", "2").err
    )
    ran = datafixes(project, "new", "merge acme", "--sql", file, "--at-most", "10")
    assert "public.orders: 3 updated" in ran.err
    audits, fix = (Path(line) for line in ran.out.splitlines())
    assert 'Table("customers", "customers_audit", deleted=AtMost(10)),' in fix.read_text()
    assert 'Table("orders", "orders_audit", updated=AtMost(10)),' in fix.read_text()
    lint([audits, fix])
    up_and_down(project, before, ("public.orders_audit", "public.customers_audit"))


ODD = """
CREATE SCHEMA shop;
CREATE TABLE shop."Order Items" ("select" integer, "it's" text, "Ünï 😀" text NOT NULL, "Name" text, v numeric, PRIMARY KEY ("select", "it's"));
INSERT INTO shop."Order Items" VALUES (1, E'a''b"c\\\\d\\ne', 'x', NULL, 1), (2, 'b', 'y', 'N', -2.5), (-3, '', 'z', 'O', NULL);
"""


def test_odd_names_and_odd_values(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database, ODD)
    before = database.dump()
    paths = written(
        project, 'Ümlaut "x" \\ fix', "--table", "Order Items", "--schema", "shop", "--where", '"select" < 9',
        "--set", "Ünï 😀=it's \"q\"\\\n%s :name", "--set", "v=-0.5",
    )  # fmt: skip
    text = paths[1].read_text(encoding="utf-8")
    assert 'name="umlaut_x_fix"' in text
    assert 'identity={"Name": \'"Name"\'}' in text
    assert '(1, "a\'b\\"c\\\\d\\ne"): None,' in text
    assert '(-3, ""): "O",' in text
    lint(paths)
    changed = up_and_down(project, before, ("shop.order_items_audit", *(f"shop.{name}" for name in RECORDS)))
    assert len(changed["shop.Order Items"]) == 3
    checked = datafixes(project, "check")
    assert checked.code == 0, checked.out
    # A schema before a dot will do as well.
    [again] = written(project, "again", "--table", "shop.Order Items", "--where", "v IS NULL", "--delete")
    assert 'schema="shop"' in again.read_text()


KEYS = [
    ("uuid", "('6f3f0c9e-1111-4222-8333-444455556666'), ('6f3f0c9e-1111-4222-8333-444455556667')", '"6f3f0c9e-1111-4222-8333-444455556666",'),
    ("text", "('x''y'), (E'a\\\\b\\n')", '"a\\\\b\\n"'),
    ("date", "('2026-02-03'), ('infinity')", 'dt.date(2026, 2, 3), "infinity"'),
    ("timestamptz", "('2026-02-03 16:00+01'), ('2026-02-03 16:00:00.000005+00')", "dt.datetime(2026, 2, 3, 15, 0, tzinfo=dt.UTC)"),
    ("timestamp", "('2026-02-03 16:00'), ('0044-03-15 12:00 BC')", "dt.datetime(2026, 2, 3, 16, 0)"),
    ("numeric", "(-1.50), (12345678901234567890)", 'Decimal("-1.50"), 12345678901234567890'),
    ("float8", "(-1e300), (0.1)", "-1e300, 0.1"),
    ("bigint", "(-9223372036854775808), (5)", "-9223372036854775808, 5"),
    ("boolean", "(false), (true)", "[False, True]"),
    ("bytea", "('\\x00ff'), ('\\x')", '"\\\\x", "\\\\x00ff"'),
    ("interval", "('1 mon -1 day 04:05:06'), ('24:00:00')", "1 mon -1 days +04:05:06"),
    ("varchar(3)", "('a'), ('b')", '["a", "b"]'),
    ("char(3)", "('a'), ('b')", '["a", "b"]'),
    ("mood", "('sad'), ('so so')", '["sad", "so so"]'),
    ("posint", "(1), (2)", "[1, 2]"),
    ("integer[]", "('{1,2}'), ('{}')", '["{}", "{1,2}"]'),
    ("inet", "('10.0.0.1'), ('::1/64')", '"10.0.0.1'),
    ("oid", "(1), (4000000000)", '["1", "4000000000"]'),
]  # fmt: skip


def test_keys_of_every_kind(tmp_path: Path, database: Database) -> None:
    tables = "CREATE TYPE mood AS ENUM ('sad', 'so so'); CREATE DOMAIN posint AS integer CHECK (VALUE > 0);"
    for number, (type_, values, _) in enumerate(KEYS):
        tables += f"CREATE TABLE t{number} (k {type_} PRIMARY KEY, v integer); INSERT INTO t{number} (k) VALUES {values};"
    project = project_of(tmp_path, database, tables)
    before = database.dump()
    paths: list[Path] = []
    for number, (type_, _, shown) in enumerate(KEYS):
        paths += written(project, "x", "--table", f"t{number}", "--where", "true", "--set", "v=1")
        assert shown in paths[-1].read_text(), type_
    lint(paths)
    up_and_down(project, before, tuple(f"public.t{number}_audit" for number in range(len(KEYS))), "base")


def test_the_key_and_the_identity_are_chosen(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database, """
        CREATE TABLE t (id serial, a text NOT NULL, b integer NOT NULL, api_token text UNIQUE, email text, symbol text, PRIMARY KEY (id), UNIQUE (a, b));
        INSERT INTO t (a, b, api_token, email, symbol) VALUES ('x', 1, 's3cret', 'me@x', 'Q');""")  # fmt: skip
    arguments = ("--table", "t", "--where", "true")
    by_pair = written(project, "x", *arguments, "--set", "id=5")[1].read_text()
    assert 'key=("a", "b")' in by_pair
    assert 'expect={("x", 1): "Q"}' in by_pair
    assert "s3cret" not in by_pair
    told = written(project, "y", *arguments, "--set", "symbol=Z", "--key", "b, a")[0].read_text()
    assert 'identity={"email": "email"}' in told
    masked = datafixes(
        project,
        "-c",
        str(tmp_path / "alembic.ini"),
        "-x",
        f"url={project.url}",
        "-x",
        "mask=email,public.t.id",
        "new",
        "z",
        *arguments,
        "--set",
        "symbol=Z",
    )
    text = Path(masked.out.strip()).read_text()
    assert "me@x" not in text
    assert 'rows=Rows(key="id", expect=1)' in text


def test_a_condition_means_what_it_means_in_a_run(tmp_path: Path, database: Database) -> None:
    """The session's own search_path and zone count, as when the fix runs."""
    project = project_of(tmp_path, database, """
        CREATE SCHEMA tools; CREATE FUNCTION tools.odd(integer) RETURNS boolean LANGUAGE sql AS 'SELECT $1 % 2 = 1';
        CREATE TABLE t (id integer PRIMARY KEY, at timestamptz, v integer);
        INSERT INTO t VALUES (1, '2026-03-01 23:00+00'), (2, '2026-03-01 23:00+00'), (3, '2026-03-01 12:00+00');""")  # fmt: skip
    database.execute(
        f"ALTER DATABASE {database.name} SET search_path = public, tools",
        f"ALTER DATABASE {database.name} SET timezone = 'Europe/Berlin'",
    )
    path = written(
        project, "x", "--table", "t", "--where", "odd(id) AND at >= date '2026-03-02'", "--set", "v=1"
    )[1]
    assert "expect=[1]" in path.read_text()
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows("SELECT id FROM t WHERE v = 1") == [(1,)]
    told = datafixes(
        project, "new", "y", "--table", "t", "--where", "id = 1", "--set", "at=2026-03-02 00:30+01"
    )
    assert "dt.datetime(2026, 3, 1, 23, 30, tzinfo=dt.UTC)" in Path(told.out.strip()).read_text()


def test_who_only_reads_can_write_a_fix_for_others_to_run(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    database.execute("CREATE ROLE reader LOGIN", "GRANT SELECT ON orders TO reader")
    try:
        project.write_ini()
        url = database.url_for("reader")
        ran = datafixes(
            None,
            "-c",
            str(tmp_path / "alembic.ini"),
            "-x",
            f"url={url}",
            "new",
            "x",
            "--table",
            "orders",
            "--where",
            "id = 11",
            "--set",
            "paid=t",
        )
        assert ran.code == 0, ran.err
    finally:
        database.execute("DROP OWNED BY reader", "DROP ROLE reader")


MERGE = """
CREATE TABLE customers (id integer PRIMARY KEY, name text);
CREATE TABLE orders (id integer PRIMARY KEY, number text, customer_id integer REFERENCES customers);
CREATE TABLE log (at timestamptz DEFAULT now(), line text);
INSERT INTO customers VALUES (4, 'ACME'), (7, 'Acme Inc');
INSERT INTO orders VALUES (1, 'A-1', 4), (2, 'A-2', 7), (3, NULL, 7), (4, 'A-4', 7);
"""


def sql_file(directory: Path, text: str) -> str:
    file = directory / "fix.sql"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_statements_are_recorded(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database, MERGE)
    before = database.dump()
    text = (
        '-- it\'s 100% "it"\nUPDATE orders SET customer_id = 4 WHERE customer_id = 7;\n'
        "UPDATE orders SET number = E'\\\\x' WHERE id = 4; UPDATE orders SET number = 'A-4' WHERE id = 4;\n"
        "DELETE FROM customers WHERE id = 7;\nINSERT INTO log (line) SELECT ':name %s' FROM generate_series(1, 2);\n"
    )
    ran = datafixes(project, "new", "merge acme", "--sql", sql_file(tmp_path, text))
    assert ran.code == 0, ran.err
    assert database.dump() == before
    audits, fix = (Path(line) for line in ran.out.splitlines())
    assert audits.read_text().count("op.create_audit_table(") == 3
    written_text = fix.read_text()
    # What is changed twice is updated once, as the engine counts.
    assert TABLES in written_text
    assert f'body.execute(r"""\n{text.strip()}\n""")' in written_text
    assert "public.orders: 3 updated" in ran.err
    lint([audits, fix])
    own = ("public.orders_audit", "public.customers_audit", "public.log_audit")
    changed = up_and_down(project, before, own)
    assert changed["public.customers"] == ["(4,ACME)"]
    assert [datafixes(project, command).code for command in ("plan", "check")] == [0, 0]


TABLES = """
    tables=[
        Table(
            "customers",
            "customers_audit",
            key="id",
            identity={"name": "name"},
            deleted={7: "Acme Inc"},
        ),
        Table("log", "log_audit", inserted=2),
        Table("orders", "orders_audit", key="id", updated=[2, 3, 4]),
    ],
"""


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ("UPDATE orders SET id = 1 WHERE false", "The statements change no row"),
        ("UPDATE orders SET number = 'x' WHERE id = 1; UPDATE orders SET number = 'A-1' WHERE id = 1", "change no row in total"),
        ("UPDATE orders SET number = 'x'; COMMIT", "runs COMMIT"),
        ("UPDATE orders SET nmber = 'x'", 'column "nmber" of relation "orders" does not exist'),
        ("UPDATE orders SET number = 'x'; ALTER TABLE orders ADD COLUMN y text", "As a recorded fix it would be refused"),
        ("UPDATE orders SET number = 'x'; TRUNCATE log", "As a recorded fix it would be refused"),
        ("DO $$ BEGIN UPDATE orders SET number = 'x'; COMMIT; END $$", "invalid transaction termination"),
        ("UPDATE orders SET number = 'x'; CLOSE ALL", "CLOSE"),
        ("\\set x 1", "syntax error"),
        ("TRUNCATE log", "TRUNCATE and DDL do not count"),
        ("CREATE TABLE made AS SELECT 1", "The statements create the table public.made"),
        ("DELETE FROM alembic_version", "change public.alembic_version, which a fix must not change"),
    ],
)  # fmt: skip
def test_statements_that_cannot_be_a_fix_are_refused_and_keep_nothing(
    tmp_path: Path, database: Database, statements: str, words: str
) -> None:
    project = project_of(
        tmp_path, database, f"{MERGE} CREATE TABLE alembic_version AS SELECT '7' AS version_num;"
    )
    before = database.dump()
    refused = datafixes(project, "new", "x", "--sql", sql_file(tmp_path, statements))
    assert (refused.code, refused.out) == (1, "")
    assert words in refused.err
    assert len(refused.err.splitlines()) == 1
    assert database.dump() == before
    assert list((tmp_path / "migrations/versions").glob("*.py")) == []


def test_who_does_not_own_the_table_gets_what_postgresql_counts(tmp_path: Path, database: Database) -> None:
    project_of(tmp_path, database, MERGE)
    database.execute(
        "CREATE ROLE clerk LOGIN",
        "GRANT SELECT, UPDATE ON orders TO clerk",
        "GRANT CREATE ON SCHEMA public TO clerk",
    )
    try:
        file = sql_file(tmp_path, "UPDATE orders SET number = 'x'")
        url = database.url_for("clerk")
        ran = datafixes(
            None, "-c", str(tmp_path / "alembic.ini"), "-x", f"url={url}", "new", "x", "--sql", file
        )
        assert ran.code == 0, ran.err
        assert "Only the owner of a table can record it" in ran.err
        assert 'Table("orders", "orders_audit", updated=4)' in Path(ran.out.splitlines()[1]).read_text()
    finally:
        database.execute("DROP OWNED BY clerk", "DROP ROLE clerk")


def test_several_schemas_and_partitions(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database, """
        CREATE SCHEMA shop; CREATE TABLE shop.b (id integer PRIMARY KEY); CREATE TABLE b (id integer PRIMARY KEY, v integer) PARTITION BY RANGE (id);
        CREATE TABLE b1 PARTITION OF b FOR VALUES FROM (0) TO (10); INSERT INTO b VALUES (1, 1);""")  # fmt: skip
    before = database.dump()
    paths = written(
        project, "x", "--sql", sql_file(tmp_path, "INSERT INTO shop.b VALUES (5); UPDATE b SET v = 2")
    )
    text = paths[1].read_text()
    assert 'Table("b", "b_audit", key="id", updated=[1])' in text
    assert 'Table("b", "shop_b_audit", schema="shop", inserted=1)' in text
    assert 'audit_schema="public"' in text
    lint(paths)
    up_and_down(project, before, ("public.b_audit", "public.shop_b_audit"))


def test_the_version_table_is_found_wherever_it_is(tmp_path: Path, database: Database) -> None:
    database.psql(
        "CREATE SCHEMA ops; CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('of another')"
    )
    place = 'SCHEMA = "ops"\nrun_migrations(context, version_table="steps", version_table_schema=SCHEMA)'
    project = project_with_fix(tmp_path, database, ENV.replace("run_migrations(context)", place))
    arguments = ("new", "x", "--table", "item", "--where", "id = 3", "--set", "status=x", "--reason", "r")
    ran = datafixes(project, *arguments)
    assert (ran.code, "It is at a, and the project's head is b" in ran.err) == (0, True)
    assert project.alembic("upgrade", "head").code == 0
    ran = datafixes(project, *arguments)
    assert (ran.code, "It is at" in ran.err) == (0, False)
    statements = tmp_path / "x.sql"
    statements.write_text("DELETE FROM ops.steps")
    ran = datafixes(project, "new", "y", "--sql", str(statements), "--reason", "r")
    assert (ran.code, "ops.steps, which a fix must not change" in ran.err) == (1, True)


def test_revisions_are_numbered_on(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    project.revision("014", None, "pass", top="# Nothing.")
    arguments = ("x", "--table", "orders", "--where", "id = 11", "--set", "paid=t")
    names = [path.name for path in written(project, *arguments, "--rev-id", "015")]
    assert names == ["015a_audit_table_for_orders.py", "015_x.py"]
    assert [path.name for path in written(project, *arguments)] == ["016_x.py"]


TEMPLATE = '''# Licence: ours.
"""${message}

Revises: ${down_revision | comma,n}
"""
from collections.abc import Sequence

from alembic import context, op

revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}


def upgrade() -> None:
    schema_upgrades()


def downgrade() -> None:
    schema_downgrades()


def schema_upgrades() -> None:
    """What env.py may run by itself."""
    ${upgrades if upgrades else "pass"}


def schema_downgrades() -> None:
    ${downgrades if downgrades else "pass"}
'''


def test_the_projects_own_template_is_followed(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    template = project.directory / "migrations/script.py.mako"
    template.write_text(TEMPLATE, "utf-8")
    before = database.dump()
    change = "--table", "orders", "--where", "id = 11", "--set", "paid=true", "--set", "due=2026-01-02"
    paths = written(project, "new", *change) + written(
        project, "recorded", "--sql", _file(tmp_path, "UPDATE orders SET paid = true\n  WHERE id = 12")
    )
    for path in paths:
        text = path.read_text()
        assert text.startswith("# Licence: ours.")
        assert "    schema_upgrades()\n" in text
        assert text.count("from alembic import") == 1
    assert "import datetime as dt\nfrom datafixes import DataFix, Rows, Update" in paths[1].read_text()
    up_and_down(project, before, ("public.orders_audit",), "base")
    assert project.alembic("upgrade", "head").code == 0
    undone = datafixes(project, "revert", "new")
    assert Path(undone.out.strip()).read_text().startswith("# Licence: ours."), undone.err
    assert datafixes(project, "plan").code == 0
    for text, words in ((TEMPLATE.replace("upgrades if", "nothing if"), "cannot be rendered"),
                        (TEMPLATE.replace("${upgrades", "${'' and upgrades"), "leaves out the migrations")):  # fmt: skip
        template.write_text(text, "utf-8")
        ran = datafixes(project, "new", "again", *change)
        assert (ran.code, words in ran.last_line) == (1, True), ran.err


def _file(directory: Path, text: str) -> str:
    (directory / "statements.sql").write_text(text, "utf-8")
    return str(directory / "statements.sql")


def test_no_file_is_left_when_the_second_cannot_be_written(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    blocking = tmp_path / "migrations/versions/7_x.py"
    blocking.mkdir()
    ran = datafixes(
        project, "new", "x", "--table", "orders", "--where", "id = 11", "--set", "paid=t", "--rev-id", "7"
    )
    assert (ran.code, ran.out) == (1, "")
    assert "already exists" in ran.err
    assert [
        path.name for path in (tmp_path / "migrations/versions").iterdir() if path.name != "__pycache__"
    ] == ["7_x.py"]


ARGUMENTS = ("x", "--table", "orders", "--where", "id = 11", "--set", "paid=t", "--reason", "A test.")


def hooked(directory: Path, database: Database, executable: str) -> Project:
    """A project whose alembic.ini has a post-write hook."""
    project = project_of(directory, database)
    with (directory / "alembic.ini").open("a", encoding="utf-8") as ini:
        ini.write(
            "\n[post_write_hooks]\nhooks = sign\nsign.type = exec\n"
            f"sign.executable = {executable}\nsign.options = REVISION_SCRIPT_FILENAME\n"
        )
    return project


def test_the_projects_own_hooks_run_on_what_is_written(tmp_path: Path, database: Database) -> None:
    """As `alembic revision` runs them; what they print is no result of this command."""
    hook = tmp_path / "sign.sh"
    hook.write_text('#!/bin/sh\necho "signed $1"\necho "# Signed." >> "$1"\n')
    hook.chmod(0o755)
    project = hooked(tmp_path, database, str(hook))
    command = [sys.executable, "-m", "datafixes", "-c", str(tmp_path / "alembic.ini"), "new", *ARGUMENTS]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    paths = [Path(line) for line in ran.stdout.splitlines()]
    assert len(paths) == 2
    assert all(path.read_text().endswith("# Signed.\n") for path in paths)
    assert f"signed {paths[1]}" in ran.stderr
    assert project.alembic("upgrade", "head").code == 0
    again = datafixes(project, "revert", "x")
    assert again.code == 0, again.err
    assert Path(again.out.strip()).read_text().endswith("# Signed.\n")


def test_a_hook_that_cannot_run_leaves_no_file(tmp_path: Path, database: Database) -> None:
    project = hooked(tmp_path, database, "no-such-formatter")
    ran = datafixes(project, "new", *ARGUMENTS)
    assert (ran.code, ran.out) == (1, "")
    assert "no-such-formatter" in ran.last_line
    assert not [path for path in (tmp_path / "migrations/versions").iterdir() if path.suffix == ".py"]


def test_a_file_template_with_folders_is_followed(tmp_path: Path, database: Database) -> None:
    """As by `alembic revision`: from the version location, and not from the folder of the parent."""
    project = project_of(tmp_path, database)
    ini = (tmp_path / "alembic.ini").read_text()
    more = "file_template = %%(year)d/%%(month).2d/%%(rev)s_%%(slug)s\nrecursive_version_locations = true\n"
    (tmp_path / "alembic.ini").write_text(ini.replace("[alembic]\n", f"[alembic]\n{more}"))
    for _ in range(2):
        for path in written(project, *ARGUMENTS):
            assert path.parents[2] == tmp_path / "migrations/versions"
    assert project.process("upgrade", "head").code == 0


def test_of_several_version_locations_the_parents_is_taken_or_the_one_that_is_named(
    tmp_path: Path, database: Database
) -> None:
    project = project_of(tmp_path, database)
    fixes = tmp_path / "migrations/fixes"
    fixes.mkdir()
    ini = (tmp_path / "alembic.ini").read_text()
    more = "version_locations = %(here)s/migrations/versions:%(here)s/migrations/fixes\n"
    (tmp_path / "alembic.ini").write_text(ini.replace("[alembic]\n", f"[alembic]\n{more}"))
    ran = datafixes(project, "new", *ARGUMENTS)
    assert ran.code == 1
    assert f"Choose one: --version-path {tmp_path / 'migrations/versions'}" in ran.last_line
    ran = datafixes(project, "new", *ARGUMENTS, "--version-path", str(tmp_path))
    assert ran.code == 1
    assert "is not a version location of this project. There are: " in ran.last_line
    paths = written(project, *ARGUMENTS, "--version-path", str(fixes))
    assert {path.parent for path in paths} == {fixes}
    assert project.process("upgrade", "head").code == 0
    for command in (("new", *ARGUMENTS), ("revert", "x")):
        ran = datafixes(project, *command)
        assert ran.code == 0, ran.err
        assert Path(ran.out.splitlines()[-1]).parent == fixes


def test_a_fix_of_very_many_rows_is_proposed_in_batches(tmp_path: Path, database: Database) -> None:
    project = project_of(tmp_path, database)
    many = (
        "INSERT INTO orders (id, number, net) SELECT n, 'B-' || n, 1 FROM generate_series(1001, 101000) AS n"
    )
    database.execute("ANALYZE orders", many)
    wish = ("close orders", "--table", "orders", "--set", "paid=true", "--reason", "Paid.")

    paths = written(project, *wish, "--where", "net = 1")
    assert "batches=" not in paths[-1].read_text("utf-8")
    paths = written(project, *wish, "--name", "close_more", "--where", "NOT paid")

    text = paths[-1].read_text("utf-8")
    assert "    batches=Batches(rows=10_000),\n" in text
    assert "from datafixes import Batches, DataFix, Rows, Update\n" in text
    lint(paths)
    assert datafixes(project, "check", *map(str, paths)).code == 0
