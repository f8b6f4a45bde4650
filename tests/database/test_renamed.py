"""Promise 5, where names changed hands since the fix ran: a value is kept by its text, and must not be read back as another one.

Labels of an enum by itself, under a domain, and as part of an array, a composite, a range and a multirange; attributes of a
composite; the objects that a reg* names and the roles of an aclitem, as columns and inside of a composite; what a range
and a domain are made of. What has no name, or keeps its number, is not refused.
"""

from collections.abc import Iterator, Sequence

import pytest

from datafixes import DataFix, sql
from datafixes.errors import NotRestorable, Refused, ShapeMismatch
from tests.database.type_matrix import PLAIN, SOUTH, let_sessions_start_with
from tests.fixes import apply, revert
from tests.one_row import fix_of, is_back, one_row
from tests.servers import Database
from tests.tampering import tamper

STAGE = "CREATE TYPE stage AS ENUM ('open', 'held', 'done')"

# Type of the column, what makes it, and the value before and after.
MADE_OF_LABELS = {
    "enum": ("stage", [], "'open'", "'done'"),
    "array": ("stage[]", [], "'{done,NULL,open}'", "'{done}'"),
    "domain": ("step", ["CREATE DOMAIN step AS stage"], "'open'", "'done'"),
    "domain over an array": ("steps", ["CREATE DOMAIN steps AS stage[]"], "'{open}'", "'{done}'"),
    "array of a domain": ("step[]", ["CREATE DOMAIN step AS stage"], "'{open}'", "'{done}'"),
    "composite": ("place", ["CREATE TYPE place AS (n integer, s stage)"], "'(1,open)'", "'(1,done)'"),
    "array of composites": ("place[]", ["CREATE TYPE place AS (n integer, s stage[])"], "'{\"(1,{open})\"}'", "'{}'"),
    "composite in a composite": (
        "whole", ["CREATE TYPE place AS (n integer, s stage)", "CREATE TYPE whole AS (p place, q place)"], "'(,\"(1,open)\")'", "'(,)'"
    ),
    "row of a table": ("entry", ["CREATE TABLE entry (n integer, s stage)"], "'(1,open)'", "'(1,done)'"),
    "range": ("span", ["CREATE TYPE span AS RANGE (subtype = stage)"], "'[open,held]'", "'[held,done]'"),
    "multirange": ("span_multirange", ["CREATE TYPE span AS RANGE (subtype = stage)"], "'{[open,held]}'", "'{}'"),
}  # fmt: skip

RENAMED = {
    "replaced": (
        ["ALTER TYPE stage RENAME VALUE 'open' TO 'pending'", "ALTER TYPE stage ADD VALUE 'open' AFTER 'done'"],
        "has another label 'open' .the one that it was is called 'pending' now.",
    ),
    "replaced in its place": (
        ["ALTER TYPE stage RENAME VALUE 'open' TO 'pending'", "ALTER TYPE stage ADD VALUE 'open' BEFORE 'pending'"],
        "has another label 'open'",
    ),
    "swapped": (
        [f"ALTER TYPE stage RENAME VALUE '{a}' TO '{b}'" for a, b in (("open", "t"), ("done", "open"), ("t", "done"))],
        "has another label 'open', 'done' .* called 'done', 'open' now",
    ),
    "gone": (["ALTER TYPE stage RENAME VALUE 'open' TO 'pending'"], "has no label 'open' any more .called 'pending' now."),
}  # fmt: skip

ADDED = [
    "ALTER TYPE stage ADD VALUE 'late'",
    "ALTER TYPE stage ADD VALUE 'early' BEFORE 'open'",
    "ALTER TYPE stage ADD VALUE 'middle' AFTER 'open'",
]

# What version 0.1 noted: the names of labels, of an enum by itself, in an array or under a domain.
AS_0_1 = """
UPDATE datafix_run_table SET shape = shape - 'types' - 'names' - 'digest_by_name' || jsonb_build_object('columns', (
    SELECT jsonb_agg(c || CASE WHEN c ->> 'name' = 'v' THEN coalesce(jsonb_build_object('labels', nullif(found.labels, '[]')), '{}') ELSE '{}' END)
      FROM jsonb_array_elements(shape -> 'columns') AS c, LATERAL (
        WITH RECURSIVE part AS (
            SELECT atttypid AS oid FROM pg_attribute WHERE attrelid = 'things'::regclass AND attname = 'v'
            UNION SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END
                    FROM part JOIN pg_type AS t USING (oid) WHERE t.typtype = 'd' OR t.typelem <> 0)
        SELECT coalesce(jsonb_agg(e.enumlabel ORDER BY e.enumsortorder), '[]') AS labels
          FROM part JOIN pg_enum AS e ON e.enumtypid = part.oid) AS found))
"""
ELSEWHERE = "UPDATE datafix_run_table SET shape = jsonb_set(shape, '{ledger}', '1')"
"""What a dump and restore does to the ledger: it is another object."""


Made = tuple[str, Sequence[str], str, str]


def applied(database: Database, made: Made) -> DataFix:
    """Row 1 had the one value and has the other."""
    type_, before, was, wanted = made
    one_row(database, type_, f"({was})::{type_}", *before)
    fix = fix_of(sql(f"({wanted})::{type_}"))
    apply(database, fix)
    return fix


def refused(database: Database, fix: DataFix, words: str, error: type[Refused] = NotRestorable) -> None:
    """Under every policy, and nothing is changed."""
    before = database.dump()
    for policy in ("refuse", "skip", "overwrite"):
        with pytest.raises(error, match=words):
            revert(database, fix, policy)
    assert database.dump() == before


def given_back(database: Database, fix: DataFix) -> None:
    let_sessions_start_with(database, SOUTH)
    revert(database, fix)
    let_sessions_start_with(database, PLAIN)
    assert is_back(database)


# --- labels


@pytest.mark.parametrize(
    ("made_of", "renamed"),
    [*((made_of, "replaced") for made_of in MADE_OF_LABELS), *(("enum", renamed) for renamed in RENAMED if renamed != "replaced")],
)  # fmt: skip
def test_a12_a_label_whose_name_another_one_has_now_is_refused_by_name(
    database: Database, made_of: str, renamed: str
) -> None:
    database.execute(STAGE)
    fix = applied(database, MADE_OF_LABELS[made_of])
    statements, words = RENAMED[renamed]
    database.execute(*statements)
    refused(database, fix, f"the type public.stage of v {words}")


@pytest.mark.parametrize("made_of", MADE_OF_LABELS)
def test_a12_labels_that_were_added_since_are_no_matter(database: Database, made_of: str) -> None:
    database.execute(STAGE)
    fix = applied(database, MADE_OF_LABELS[made_of])
    database.execute(*ADDED)
    given_back(database, fix)


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ("replaced", r"had the labels 'open', 'held', 'done', and its oldest are called 'pending', 'held', 'done' now"),
        ("swapped", "had the labels 'open', 'held', 'done', and its oldest are called 'done', 'held', 'open' now"),
        ("gone", "has no label 'open' any more"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("made_of", ["enum", "array", "domain", "domain over an array"])
def test_a12_a_run_of_0_1_noted_names_and_the_oldest_labels_are_the_ones_it_saw(
    database: Database, made_of: str, renamed: str, words: str
) -> None:
    database.execute(STAGE)
    fix = applied(database, MADE_OF_LABELS[made_of])
    tamper(database, AS_0_1, *RENAMED[renamed][0])
    refused(database, fix, words)


@pytest.mark.parametrize("made_of", MADE_OF_LABELS)
def test_a12_a_run_of_0_1_is_given_back_where_nothing_was_renamed(database: Database, made_of: str) -> None:
    database.execute(STAGE)
    fix = applied(database, MADE_OF_LABELS[made_of])
    tamper(database, AS_0_1, *ADDED)
    given_back(database, fix)


@pytest.mark.parametrize("noted", ["", AS_0_1], ids=["now", "0.1"])
def test_a11_an_enum_that_was_swapped_for_another_is_read_by_its_text(database: Database, noted: str) -> None:
    database.execute(STAGE)
    fix = applied(database, MADE_OF_LABELS["enum"])
    tamper(
        database,
        *filter(None, [noted]),
        "ALTER TYPE stage RENAME TO stage_old",
        "CREATE TYPE stage AS ENUM ('done', 'late', 'open', 'held')",
        "ALTER TABLE things ALTER COLUMN v TYPE stage USING v::text::stage",
        "DROP TABLE was",
        "DROP TYPE stage_old",
    )
    revert(database, fix)
    assert database.value("SELECT v::text FROM things") == "open"


@pytest.mark.parametrize("noted", ["", AS_0_1], ids=["now", "0.1"])
@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (RENAMED["replaced"][0], "had the labels 'open', 'held', 'done' in this order and has 'pending', 'held', 'done', 'open': some may"),
        (RENAMED["swapped"][0], "had the labels 'open', 'held', 'done' in this order and has 'done', 'held', 'open'"),
        (RENAMED["gone"][0], "has no label 'open' any more"),
        (ADDED, ""),
    ],
    ids=["replaced", "swapped", "gone", "added"],
)  # fmt: skip
def test_a12_in_another_database_name_and_order_tell(
    database: Database, statements: Sequence[str], words: str, noted: str
) -> None:
    database.execute(STAGE)
    fix = applied(database, MADE_OF_LABELS["domain"])
    tamper(database, *filter(None, [noted]), ELSEWHERE, *statements)
    if words:
        refused(database, fix, words)
    else:
        given_back(database, fix)


# --- attributes, and what a type is made of


PLACE: Made = ("place", ["CREATE TYPE place AS (a integer, b integer)"], "'(1,2)'", "'(3,4)'")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["RENAME ATTRIBUTE a TO c"], "was .a integer, b integer. and is .c integer, b integer."),
        (
            ["RENAME ATTRIBUTE a TO t", "RENAME ATTRIBUTE b TO a", "RENAME ATTRIBUTE t TO b"],
            "was .a integer, b integer. and is .b integer, a integer.",
        ),
        (["ADD ATTRIBUTE c integer"], "and is .a integer, b integer, c integer."),
        (["DROP ATTRIBUTE b"], "and is .a integer."),
        (["DROP ATTRIBUTE b", "ADD ATTRIBUTE b integer"], "the type public.place of v has other attributes than it had: b"),
        (["ALTER ATTRIBUTE b TYPE bigint CASCADE"], "and is .a integer, b bigint."),
    ],
    ids=["renamed", "swapped", "added", "gone", "made anew", "another type"],
)  # fmt: skip
def test_a8_an_attribute_that_is_another_one_is_refused(
    database: Database, changes: Sequence[str], words: str
) -> None:
    fix = applied(database, PLACE)
    if "ALTER ATTRIBUTE" in changes[0]:
        database.execute(  # PostgreSQL changes no attribute's type while a column has the composite
            "CREATE TYPE other AS (a integer, b bigint)",
            "ALTER TABLE things ALTER COLUMN v TYPE other USING v::text::other",
            "DROP TABLE was",
            "DROP TYPE place",
            "ALTER TYPE other RENAME TO place",
        )
    else:
        database.execute(*(f"ALTER TYPE place {change}" for change in changes))
    refused(database, fix, words)


@pytest.mark.parametrize(
    ("made", "instead", "words"),
    [
        (
            ("span", ["CREATE TYPE span AS RANGE (subtype = text, collation = \"C\")"], "'[a,b)'", "'[b,c)'"),
            "CREATE TYPE new AS RANGE (subtype = varchar)",
            "was range of text and is range of character varying",
        ),
        (
            ("span", ["CREATE TYPE span AS RANGE (subtype = text, collation = \"C\")"], "'[B,a)'", "'[b,c)'"),
            "CREATE TYPE new AS RANGE (subtype = text, collation = \"POSIX\")",
            'the type public.span of v was a range of text, collation "C", .* and is one of text, collation "POSIX"',
        ),
    ],
    ids=["subtype", "collation"],
)  # fmt: skip
def test_a_range_of_another_kind_under_the_same_name_is_refused(
    database: Database, made: Made, instead: str, words: str
) -> None:
    fix = applied(database, made)
    database.execute(
        instead,
        "ALTER TABLE things ALTER COLUMN v TYPE new USING v::text::new",
        "DROP TABLE was",
        "DROP TYPE span",
        "ALTER TYPE new RENAME TO span",
    )
    refused(database, fix, words)


def test_a11_a_domain_over_something_else_under_the_same_name_is_refused(database: Database) -> None:
    fix = applied(database, ("price", ["CREATE DOMAIN price AS numeric(12,4)"], "1.25", "2.5"))
    database.execute(
        "CREATE DOMAIN new AS numeric(12,1)",
        "ALTER TABLE things ALTER COLUMN v TYPE new",
        "DROP TABLE was",
        "DROP DOMAIN price",
        "ALTER DOMAIN new RENAME TO price",
    )
    refused(database, fix, r"v is public.price, and numeric\(12,4\) there", ShapeMismatch)


# --- objects and roles


KINDS = {
    "regclass": ("CREATE TABLE app.thing ()", "ALTER TABLE app.thing RENAME TO other", "DROP TABLE app.thing", "app.thing"),
    "regtype": ("CREATE DOMAIN app.thing AS text", "ALTER DOMAIN app.thing RENAME TO other", "DROP DOMAIN app.thing", "app.thing"),
    "regproc": (
        "CREATE FUNCTION app.thing() RETURNS integer LANGUAGE sql AS 'SELECT 1'", "ALTER FUNCTION app.thing() RENAME TO other",
        "DROP FUNCTION app.thing()", "app.thing",
    ),
    "regprocedure": (
        "CREATE FUNCTION app.thing(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION app.thing(integer) RENAME TO other", "DROP FUNCTION app.thing(integer)", "app.thing(integer)",
    ),
    "regnamespace": ("CREATE SCHEMA thing", "ALTER SCHEMA thing RENAME TO other", "DROP SCHEMA thing", "thing"),
    "regconfig": (
        "CREATE TEXT SEARCH CONFIGURATION app.thing (COPY = simple)", "ALTER TEXT SEARCH CONFIGURATION app.thing RENAME TO other",
        "DROP TEXT SEARCH CONFIGURATION app.thing", "app.thing",
    ),
    "regdictionary": (
        "CREATE TEXT SEARCH DICTIONARY app.thing (TEMPLATE = simple)", "ALTER TEXT SEARCH DICTIONARY app.thing RENAME TO other",
        "DROP TEXT SEARCH DICTIONARY app.thing", "app.thing",
    ),
    "regcollation": (
        'CREATE COLLATION app.thing FROM "C"', "ALTER COLLATION app.thing RENAME TO other", "DROP COLLATION app.thing", "app.thing"
    ),
}  # fmt: skip
"""What makes an object, renames it, drops it, and its name."""

INSIDE = {
    "composite": ("CREATE TYPE place AS (n integer, o {kind})", "place", "ROW(1, {value})"),
    "array of a composite": ("CREATE TYPE place AS (o {kind}[])", "place[]", "ARRAY[ROW(ARRAY[NULL, {value}])::place]"),
    "domain over a composite": ("CREATE TYPE part AS (o {kind}); CREATE DOMAIN place AS part", "place", "ROW({value})::part"),
    "composite in a composite": (
        "CREATE TYPE part AS (o {kind}); CREATE TYPE place AS (p part, q part)", "place", "ROW(NULL, ROW({value}))"
    ),
}  # fmt: skip


def thing(kind: str, inside: str) -> Made:
    """A value inside of which an object stands, and one without it."""
    create, _, _, name = KINDS[kind]
    made, type_, value = INSIDE[inside]
    value = value.format(value=f"'{name}'::{kind}")
    return type_, ["CREATE SCHEMA app", create, *made.format(kind=kind).split("; ")], value, "NULL"


INSIDE_OR_KIND = [
    *((kind, "composite") for kind in KINDS),
    *(("regclass", inside) for inside in INSIDE if inside != "composite"),
]


@pytest.mark.parametrize(("kind", "inside"), INSIDE_OR_KIND)
def test_an_object_inside_of_a_value_that_has_another_name_now_is_refused(
    database: Database, kind: str, inside: str
) -> None:
    fix = applied(database, thing(kind, inside))
    create, rename, _, name = KINDS[kind]
    words = f"v names the {kind[3:]} {name}, which is called (app.)?other".replace(
        "(integer)", r"\(integer\)"
    )
    database.execute(rename)
    refused(database, fix, words)
    database.execute(create)  # the name means another object now
    refused(database, fix, words)
    assert "thing" not in database.value("SELECT v::text FROM was")


@pytest.mark.parametrize(("kind", "inside"), [("regclass", "composite"), ("regproc", "array of a composite")])
def test_an_object_inside_of_a_value_that_was_made_anew_is_refused(
    database: Database, kind: str, inside: str
) -> None:
    fix = applied(database, thing(kind, inside))
    create, _, drop, name = KINDS[kind]
    database.execute(drop, create)
    refused(database, fix, f"v names the {kind[3:]} {name}, which is gone")


@pytest.mark.parametrize(("kind", "inside"), INSIDE_OR_KIND)
def test_an_object_inside_of_a_value_that_is_as_it_was_comes_back(
    database: Database, kind: str, inside: str
) -> None:
    given_back(database, applied(database, thing(kind, inside)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_objects_keeps_their_numbers_whatever_they_are_called(
    database: Database, kind: str
) -> None:
    """Also of one that is gone, or whose name another one has: that is what the other rows have too."""
    create, rename, drop, name = KINDS[kind]
    made: Made = (kind, ["CREATE SCHEMA app", create], f"'{name}'", "NULL")
    fix = applied(database, made)
    for change in (rename, create, drop):
        database.execute(change)
        given_back(database, fix)
        apply(database, fix)


ROLES = [
    "CREATE ROLE thing_{0}",
    "ALTER ROLE thing_{0} RENAME TO other_{0}",
    "DROP ROLE IF EXISTS thing_{0}, other_{0}",
]


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role of this test's own: they belong to the server."""
    drop = ROLES[2].format(database.name)
    database.execute(drop, ROLES[0].format(database.name))
    yield f"thing_{database.name}"
    database.execute(drop)


@pytest.mark.parametrize("inside", ["aclitem", "aclitem[]", "regrole"])
def test_a_role_inside_of_a_value_that_has_another_name_now_is_refused(
    database: Database, role: str, inside: str
) -> None:
    value = {
        "aclitem": f"'{role}=r/postgres'",
        "aclitem[]": f"'{{{role}=r/postgres}}'",
        "regrole": f"'{role}'",
    }[inside]
    made: Made = ("place", [f"CREATE TYPE place AS (o {inside})"], f"ROW({value}::{inside})", "NULL")
    fix = applied(database, made)
    given_back(database, fix)
    apply(database, fix)
    database.execute(ROLES[1].format(database.name))
    words = f"v names the role {role}, which is called other_{database.name} now"
    refused(database, fix, words)
    database.execute(ROLES[0].format(database.name))
    refused(database, fix, words)


@pytest.mark.parametrize("type_", ["aclitem", "aclitem[]", "regrole", "regrole[]"])
def test_a_column_of_roles_follows_them(database: Database, role: str, type_: str) -> None:
    one = f"{role}=r/postgres" if type_.startswith("acl") else role
    value = f"'{{{one}}}'" if type_.endswith("[]") else f"'{one}'"
    fix = applied(database, (type_, [], value, "NULL"))
    database.execute(ROLES[1].format(database.name))
    given_back(database, fix)
    assert f"other_{database.name}" in database.value("SELECT v::text FROM things")


def test_a6_moments_inside_of_a_value_are_kept_in_utc_whatever_a_zone_is_called(database: Database) -> None:
    type_, made = "place", ["CREATE TYPE place AS (at timestamptz, t timetz, r tstzrange)"]
    was = "ROW('2024-11-03 01:30:00 America/New_York', '12:00-03:30', '[2024-11-03 01:30 EST,)')"
    fix = applied(database, (type_, made, was, "NULL"))
    for zone in ("America/New_York", "Asia/Kolkata", "<XYZ>+12:45"):
        let_sessions_start_with(database, {"timezone": zone})
        revert(database, fix)
        assert is_back(database)
        apply(database, fix)
