"""The odd ends of every type that a column can have, on top of nasty_values: the data of the matrix in test_every_type.

Values are SQL expressions, read under PostgreSQL's own default settings.
"""

from collections.abc import Iterable, Mapping

from tests.database import nasty_values

NOT_NULL = ("app.dear",)
"""Types that have no null."""

STATISTICS = ("pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list")
"""Types of copies of the catalogs: there are no arrays of them, and no operator that compares them."""

NO_ORDER = (
    "json", "jsonpath", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "xid", "cid", "txid_snapshot",
    "pg_snapshot", "refcursor", "aclitem", 'app."Odd, ""type"""', "app.query_int", "app.lquery", "app.ltxtquery",
)  # fmt: skip
"""Types that no key can have, because nothing orders their values."""

NO_VALUE = {
    "gtsvector": "made inside an index only; its input function refuses",
    "pg_brin_bloom_summary": "made inside an index only; its input function refuses",
    "pg_brin_minmax_multi_summary": "made inside an index only; its input function refuses",
}
"""Built-in types that a column could have and no SQL expression has a value of: why."""

_ALL_CHARACTERS = "(SELECT string_agg(chr(n), '' ORDER BY n) FROM generate_series(1, 400) AS n)"
_ALL_BYTES = "(SELECT decode(string_agg(lpad(to_hex(n), 2, '0'), '' ORDER BY n), 'hex') FROM generate_series(0, 255) AS n)"

# Nothing, and a number that no object has.
_DANGLING = {
    name: [f"0::{name}", f"4000000000::{name}"]
    for name in (
        "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator", "regproc",
        "regprocedure", "regrole", "regtype",
    )
}  # fmt: skip

_MORE: dict[str, list[str]] = {
    "real": ["'1.17549435e-38'", "'-1e-45'", "-('NaN'::real)"],
    "double precision": ["'Infinity'", "'-5e-324'", "'2.2250738585072014e-308'", "-('NaN'::float8)"],
    "numeric": ["'1.00'", "'0.00000'", "'1e-1000'", "'Infinity'", "'12345678901234567890.10'", "'1e131071'"],
    "money": ["(-0.01)::numeric", "92233720368547758.07", "0"],
    "text": [
        _ALL_CHARACTERS,
        "chr(1114111) || chr(65533) || U&'e\\0301'",
        "'$$ $sql$ $fix$ $datafix$'",
        "'{{target.key}} {{columns}} {{run}}'",
        "E'\\r\\n\\f\\x0b\\u0085\\u2028'",
        "'\\'",
    ],
    "character varying(5)": ["E'\\n\\t '", "U&'\\00e9\\00e9\\00e9\\00e9\\00e9'"],
    "character(5)": ["'ab   '", "U&'\\00e9 '"],
    "character": ["' '", "'x'"],
    "bpchar": ["'   '::bpchar", "''::bpchar"],
    '"char"': ["'\\001'", "'\\'"],
    "name": ["''", "' '", "U&'\\00e9 \"'"],
    "bytea": [_ALL_BYTES, "'\\x5c'"],
    "date": ["'4714-11-24 BC'", "'10000-01-01'", "'0001-01-01'", "'2000-02-29'"],
    "time": ["'23:59:59.999999'", "'00:00:00'"],
    "time(3)": ["'24:00:00'"],
    "time with time zone": ["'00:00:00-15:59:59'", "'23:59:59.999999+00'"],
    "timestamp": ["'4714-11-24 00:00:00 BC'", "'10000-01-01 00:00:00'", "'1969-12-31 23:59:59.999999'"],
    "timestamp with time zone": ["'4714-11-24 00:00:00+00 BC'", "'10000-01-01 00:00:00+00'"],
    "timestamp(3) with time zone": ["'2024-02-03 04:05:06.789+00'"],
    "interval": [
        "'-1 mon +1 day -00:00:00.000001'",
        "'178000000 years'",
        "'30 days'",
        "'0'",
        "'2147483647 days'",
    ],
    "interval year": ["'-5 years'"],
    "interval hour to minute": ["'-24:01'"],
    "json": ["'{}'", "E'\\t[1 ,\\r\\n2]'", "'1E-5'", "'-0'", "'\"\\ud83d\"'", "'123456789012345678901234567890.10'"],
    "jsonb": ["'{\"b\": 1, \"a\": [null, {}], \"\": -0}'", "'1e-400'", "to_jsonb(E'\\u00e9\\n'::text)"],
    "jsonpath": ["'strict $.\"a b\"[last].size() == 1.0'", "'$.** ? (@ like_regex \"a\" flag \"i\")'"],
    "bit": ["B'1'"],
    "bit(65)": ["repeat('10', 33)::bit(65)"],
    "bit varying(70)": ["repeat('1', 70)::varbit"],
    "inet": ["'0.0.0.0/0'", "'::/0'", "'fe80::1/10'"],
    "cidr": ["'0.0.0.0/0'", "'::/0'"],
    "macaddr": ["'ff:ff:ff:ff:ff:ff'"],
    "macaddr8": ["'00:00:00:00:00:00:00:00'"],
    "point": ["'(Infinity,-Infinity)'", "'(5e-324,-0)'"],
    "line": ["line(point '(0,0)', point '(0,1)')"],
    "lseg": ["'[(0,0),(0,0)]'"],
    "box": ["'(1,-0),(-1,0)'", "'(NaN,1),(0,0)'"],
    "path": ["'[(-0,0)]'"],
    "polygon": ["'((-0,0))'", "polygon(5, circle '<(0,0),1>')"],
    "circle": ["'<(-0,0),0>'", "'<(0,0),Infinity>'"],
    "tsvector": ["'''it''''s'':1 ''a b'':2A \\\\:3'::tsvector", "array_to_tsvector(ARRAY['b', 'a'])"],
    "tsquery": ["''", "'a & (b & c)'", "'!!a <3> b | ''x y'':AB*'"],
    "int4range": ["'(,5)'", "'[-2147483648,2147483647)'"],
    "int8range": ["'empty'", "'(,)'"],
    "numrange": ["'empty'", "'[-Infinity,NaN]'", "'(,1.10)'"],
    "tsrange": ["'empty'", "'[-infinity,infinity]'"],
    "tstzrange": ["'empty'", "'[infinity,infinity]'"],
    "daterange": ["'empty'", "'[-infinity,infinity]'", "'(,infinity)'"],
    "int8multirange": ["'{}'", "'{(,)}'"],
    "nummultirange": ["'{}'", "'{[1.0,1.00],(5,NaN]}'"],
    "tsmultirange": ["'{}'", "'{(,-infinity],[infinity,)}'"],
    "tstzmultirange": ["'{}'"],
    "datemultirange": ["'{}'", "'{(,0044-03-15 BC)}'"],
    "oid": ["'0'"],
    "xid": ["'0'"],
    "xid8": ["'0'"],
    "cid": ["'4294967295'"],
    "tid": ["'(0,0)'"],
    "pg_lsn": ["'0/0'"],
    "txid_snapshot": ["'1:1:'"],
    "pg_snapshot": ["'1:9223372036854775807:1'"],
    "refcursor": ["''", "E'\"<unnamed portal 1>\"\\n'"],
    "aclitem": ["'=r*w/postgres'::aclitem", "makeaclitem(4000000000, 10, 'SELECT', false)"],
    # What statistics and defaults are kept in: copies of the catalogs have such columns.
    "pg_node_tree": ["(SELECT adbin FROM pg_attrdef ORDER BY oid LIMIT 1)"],
    "pg_ndistinct": ["(SELECT stxdndistinct FROM pg_statistic_ext_data)"],
    "pg_dependencies": ["(SELECT stxddependencies FROM pg_statistic_ext_data)"],
    "pg_mcv_list": ["(SELECT stxdmcv FROM pg_statistic_ext_data)"],
    "information_schema.cardinal_number": ["0"],
    "information_schema.character_data": ["'x '"],
    "information_schema.sql_identifier": ["'Order Items'"],
    "information_schema.time_stamp": ["'2024-11-03 05:30:00.12+00'"],
    "information_schema.yes_or_no": ["'YES'", "'NO'"],
    **_DANGLING,
}  # fmt: skip

_SINCE: dict[int, dict[str, list[str]]] = {
    15: {
        "interval": ["'2562047788:00:54.775807'", "'-2562047788:00:54.775807'"],
        "numeric(3,-2)": ["12300"],
        "numeric(3,5)": ["0.00123", "'NaN'"],
    },
    17: {"interval": ["'infinity'", "'-infinity'"]},
}

OWN_TYPES = (
    *nasty_values.OWN_TYPES,
    "CREATE TABLE app.facts AS SELECT n AS a, n / 10 AS b FROM generate_series(1, 100) AS n",
    "CREATE STATISTICS app.of_facts (ndistinct, dependencies, mcv) ON a, b FROM app.facts",
    "ANALYZE app.facts",
    "CREATE TABLE app.line (id integer, gone text, \"at, all\" timestamptz DEFAULT now(), code bit(3), took interval)",
    "ALTER TABLE app.line DROP COLUMN gone",
    "CREATE DOMAIN app.spot AS app.place CHECK ((VALUE).share IS DISTINCT FROM 13)",
    "CREATE DOMAIN app.route AS app.place[]",
    "CREATE DOMAIN app.stay AS app.during",
    "CREATE DOMAIN app.dear AS app.price NOT NULL DEFAULT 5",
    "CREATE TYPE app.span AS RANGE (subtype = float8, subtype_diff = float8mi)",
    "CREATE TYPE app.nothing AS ()",
    "CREATE TYPE app.\"Odd, \"\"type\"\"\" AS (\"a \"\"b\"\"\" interval, \"select\" date[], j json, js jsonb, f real[])",
)  # fmt: skip

_LINE = "ROW(7, '2024-11-03 05:30:00+00', B'101', '-1 mon +1 day -00:00:01')::app.line"
_SPOT = "((ROW('2024-11-03 05:30:00+00', '-1 days +04:05:06', E'a,\"b\"\\\\ \\n', '-0', '\\x00ff', '-5'::money, '-', 'ab', '')::app.place)::app.spot)"

_MORE_OWN: dict[str, list[str]] = {
    "app.line": [_LINE, "ROW(NULL, NULL, NULL, NULL)::app.line"],
    "app.spot": [_SPOT],
    "app.route": [f"ARRAY[{_SPOT}, NULL]::app.route", "'{}'"],
    "app.stay": ["'empty'", "'(-infinity,2024-11-03 05:30:00+00]'"],
    "app.dear": ["12.50", "'NaN'"],
    "app.span": ["'[-0,0.30000000000000004)'", "'(,NaN]'"],
    "app.span_multirange": ["'{[5e-324,1e308],[Infinity,NaN)}'"],
    "app.nothing": ["ROW()::app.nothing"],
    'app."Odd, ""type"""': [
        "ROW('-1 mon +1 day -00:00:01', '[0:1]={0044-03-15 BC,infinity}', ' {\"a\":1,\"a\":\"\\u0000\"} ', 'null', '{-0,1e-45}')"
        '::app."Odd, ""type"""'
    ],
}

EXTENSIONS: dict[str, dict[str, list[str]]] = {
    "vector": {
        "vector": ["'[1,0.1,-0]'", "'[1e-30]'"],
        "vector(3)": ["'[3,2,0.30000001]'"],
        "halfvec": ["'[1,0.1]'"],
        "sparsevec": ["'{1:0.5}/5'"],
    },
    "citext": {"citext": ["U&'\\00c0bC'", "'àbc '", "''"]},
    "cube": {"cube": ["'(1,0.30000000000000004),(3,-0)'", "'(0),(0)'", "'(NaN,5e-324)'"]},
    "earthdistance": {"earth": ["'(6378168,0,0)'"]},
    "hstore": {"hstore": ["'a=>1, \"b c\"=>NULL, \"\"=>\"NULL\"'", "app.hstore(E'q\"\\n', E'\\\\ ''')", "''"]},
    "intarray": {"query_int": ["'1&2|!3'"]},
    "isn": {"isbn13": ["'978-0-306-40615-7'"], "ean13": ["'0000000000000'"], "issn": ["'1436-4522'"], "upc": ["'036000291452'"]},
    "lo": {"lo": ["'4000000000'"]},
    "ltree": {"ltree": ["'Top.Science'", "''"], "lquery": ["'*{1,2}.!b@*.a'"], "ltxtquery": ["'a & b@*'"]},
    "seg": {"seg": ["'1.0'", "'<1.50 .. 2.5'"]},
    "tablefunc": {"tablefunc_crosstab_2": ["ROW('a', '', NULL)::app.tablefunc_crosstab_2"]},
}  # fmt: skip
"""Extensions that a server may have, and values of their types."""

NOT_TOLD_BY_TEXT: dict[str, tuple[list[str], str]] = {
    "a query whose brackets its text leaves out": (["CREATE TYPE app.kept AS (q tsquery)"], "ROW('a & (b & c)')::app.kept"),
    "the sign of not-a-number": (["CREATE TYPE app.kept AS (q float8)"], "ROW(-('NaN'::float8))::app.kept"),
    "a range up to minus not-a-number": (["CREATE TYPE app.kept AS RANGE (subtype = float8)"], "app.kept(1, -('NaN'::float8), '[]')"),
    "xml with a declaration": (["CREATE TYPE app.kept AS (x xml)"], "ROW(convert_to('<?xml version=\"1.0\"?><a/>', 'UTF8')::xml)::app.kept"),
    "a function whose name others have too": (
        ["CREATE TYPE app.kept AS (f regproc)"], "ROW('pg_catalog.upper(text)'::regprocedure::oid::regproc)::app.kept"
    ),
    "a right of a role that is gone": (
        ["CREATE TYPE app.kept AS (a aclitem)"], "ROW(makeaclitem(4000000000, 10, 'SELECT', false))::app.kept"
    ),
    "an enum with a cast of its own to text": (
        [
            "CREATE TYPE app.kept AS ENUM ('a', 'b')",
            "CREATE FUNCTION app.label(app.kept) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''b''::text'",
            "CREATE CAST (app.kept AS text) WITH FUNCTION app.label(app.kept)",
        ],
        "'a'",
    ),
    "an enum with a cast of its own from text": (
        [
            "CREATE TYPE app.kept AS ENUM ('a', 'b')",
            "CREATE FUNCTION app.labelled(text) RETURNS app.kept LANGUAGE sql IMMUTABLE AS 'SELECT ''b''::app.kept'",
            "CREATE CAST (text AS app.kept) WITH FUNCTION app.labelled(text)",
        ],
        "'a'",
    ),
    "a composite with a cast of its own to text": (
        [
            "CREATE TYPE app.kept AS (a integer, b integer)",
            "CREATE FUNCTION app.first(app.kept) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a::text'",
            "CREATE CAST (app.kept AS text) WITH FUNCTION app.first(app.kept)",
        ],
        "'(1,2)'",
    ),
}  # fmt: skip
"""Values that cannot be had back from their text: what makes a type app.kept, and a value of it."""


def scalars(version: int) -> dict[str, list[str]]:
    """Built-in type → values, none of them an array, on a server of this version."""
    return _merged(
        nasty_values.BUILT_IN, _MORE, *(more for since, more in _SINCE.items() if version >= since)
    )


def own(extensions: Iterable[str]) -> dict[str, list[str]]:
    """The same for types of the application's own, and of the extensions that the server has."""
    installed = [EXTENSIONS[name] for name in extensions]
    return _merged(
        nasty_values.OWN, _MORE_OWN, *({f"app.{name}": v for name, v in types.items()} for types in installed)
    )


def with_arrays(types: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Each type, and the array of it."""
    arrays = {
        f"{type_}[]": _arrays(type_, values) for type_, values in types.items() if type_ not in STATISTICS
    }
    return {**types, **arrays, **_ONLY_ARRAYS}


def _arrays(type_: str, values: list[str]) -> list[str]:
    """An array of all values and a null; odd bounds and two dimensions; empty; nothing but a null."""
    if type_ in _ARRAYS_OF:
        return _ARRAYS_OF[type_]
    # ARRAY[...] takes a domain for what it stands for, so each array is cast as a whole.
    typed = [f"({value})::{type_}" for value in values]
    return [
        f"ARRAY[{', '.join([typed[0], 'NULL', *typed[1:]])}]::{type_}[]",
        f"array_fill({typed[-1]}, ARRAY[2, 1], ARRAY[-1, 5])::{type_}[]",
        "'{}'",
        "'{NULL}'",
    ]


# There are no arrays of arrays, except of a domain over one.
_ARRAYS_OF = {
    "app.numbers": ['\'[2:3]={"{1,NULL}","[5:6]={7,8}"}\'', "'{}'"],
    "app.route": [f"array_fill((ARRAY[{_SPOT}, NULL])::app.route, ARRAY[2], ARRAY[7])", "'{}'"],
    "app.dear": ["'[3:4]={1,2}'", "'{}'"],
}


# An array can do without a value of what it is an array of.
_ONLY_ARRAYS = {"gtsvector[]": ["'{}'", "'{NULL}'"]}


def _merged(*parts: Mapping[str, list[str]]) -> dict[str, list[str]]:
    types: dict[str, list[str]] = {}
    for part in parts:
        for type_, values in part.items():
            types[type_] = types.get(type_, []) + values
    return types
