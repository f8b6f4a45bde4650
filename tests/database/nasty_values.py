"""Every type that a column can have, with the values that copies are known to lose (HAZARDS A1-A21).

Values are SQL expressions: what is written here as a string must reach the table exactly.
"""

# Types whose values only PostgreSQL's own catalogs hold; no table of an application has such a column.
INTERNAL = {
    "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary", "gtsvector",
}  # fmt: skip

BUILT_IN: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": [
        "'-0'",
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "'1e-45'",
        "'3.4028235e38'",
        "'0.1'",
        "'16777217'",
    ],
    "double precision": [
        "'-0'",
        "'NaN'",
        "'-Infinity'",
        "'5e-324'",
        "'1.7976931348623157e308'",
        "0.1::float8 + 0.2",
    ],
    "numeric": [
        "'NaN'",
        "'-Infinity'",
        "'1.0'",
        "'1.000'",
        "'-0.00'",
        "'1e-16000'",
        "'1e1000'",
        "repeat('9', 900)::numeric",
    ],
    "numeric(12,4)": ["148", "'0.0001'", "'NaN'"],
    "money": ["'12.34'::numeric", "(-92233720368547758.08)::numeric"],
    "text": [
        "''",
        "' a '",
        "E'tab\\tnew\\nline\\\\back\\'quote\"'",
        "'%s %% :name {{key}} $1'",
        "U&'\\00e9\\+01F600'",
        "'NULL'",
    ],
    "character varying(5)": ["'ab   '", "''"],
    "character varying": ["'  '"],
    "character(5)": ["'ab'", "''"],
    "bpchar": ["'ab  '::bpchar"],
    '"char"': ["'a'", "''", "'\\377'"],
    "name": ["'Order Items'", "repeat('x', 63)"],
    "bytea": ["'\\x00ff5c27'", "''", "decode(repeat('00ff', 5000), 'hex')"],
    "date": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'", "'2024-02-03'"],
    "time": ["'24:00:00'", "'00:00:00.000001'"],
    "time(0)": ["'23:59:59'"],
    "time with time zone": ["'24:00:00+15:59:59'", "'12:00:00.5-05:30'"],
    "timestamp": [
        "'infinity'",
        "'-infinity'",
        "'4713-01-01 BC'",
        "'294276-12-31 23:59:59.999999'",
        "'2024-02-03 04:05:06.7'",
    ],
    "timestamp(0)": ["'2024-02-03 04:05:06'"],
    "timestamp with time zone": [
        "'infinity'",
        "'-infinity'",
        "'0044-03-15 12:00:00+00 BC'",
        "'294276-12-31 23:59:59+00'",
        "'2024-11-03 05:30:00+00'",
        "'2024-11-03 06:30:00+00'",
        "'1880-01-01 00:00:00+00'",
    ],
    "interval": [
        "'1 mon 1 day'",
        "'-1 days +04:05:06'",
        "'24:00:00'",
        "'1 day'",
        "'-178000000 years'",
        "'1 mon -1 day +00:00:00.000001'",
    ],
    "interval day to second(3)": ["'3 days 04:05:06.789'"],
    "json": [
        '\'  {"b":1, "a": 2,"a":1.0}  \'',
        "'null'",
        "'\"\\u0000\"'",
        "'\"\\ud83d\\ude00\\/\"'",
        "'1e400'",
    ],
    "jsonb": ["'null'", "'{\"a\": 1.00}'", "'{\"a\": 1.0}'", "'[]'", "'\"\\\\\"'", "'1e400'"],
    "jsonpath": ["'$.a[*] ? (@.b > 1)'"],
    # From bytes: a server without libxml reads no xml, and keeps it all the same.
    "xml": [
        "convert_to('<?xml version=\"1.0\" encoding=\"utf-8\"?><a> b </a>', 'UTF8')::xml",
        "convert_to('just <b>content</b>', 'UTF8')::xml",
    ],
    "uuid": ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-4fff-bfff-ffffffffffff'"],
    "bit(3)": ["B'101'"],
    "bit varying": ["B''", "B'0101010101'"],
    "inet": ["'192.168.0.1/24'", "'::1'", "'::ffff:1.2.3.4/128'"],
    "cidr": ["'10.0.0.0/8'", "'2001:db8::/32'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "point": ["'(-0,NaN)'", "'(0.1,1e308)'"],
    "line": ["'{1,-1,0.30000000000000004}'"],
    "lseg": ["'[(0,0),(1,-0)]'"],
    "box": ["'(2,2),(1,1)'"],
    "path": ["'[(0,0),(1,1)]'", "'((0,0),(1,1))'"],
    "polygon": ["'((0,0),(1,1),(1,0))'"],
    "circle": ["'<(0,0),0.1>'"],
    "tsvector": ["'a:1A fat:2B,4C cat:5'::tsvector", "''"],
    "tsquery": ["'a & !b:*A'::tsquery"],
    "int4range": ["'empty'", "'(,)'", "'[1,5)'"],
    "int8range": ["'[-9223372036854775808,)'"],
    "numrange": ["'[1.0,2.00]'", "'[1.00,2.0]'"],
    "tsrange": ["'[2024-02-03,infinity)'", "'[2024-02-03,)'"],
    "tstzrange": ["'(-infinity,2024-11-03 05:30:00+00]'"],
    "daterange": ["'[0044-03-15 BC,2024-02-03)'"],
    "int4multirange": ["'{}'", "'{[1,3),[5,)}'"],
    "int8multirange": ["'{[1,3)}'"],
    "nummultirange": ["'{[1.0,1.50]}'"],
    "tsmultirange": ["'{[2024-02-03,2024-03-02)}'"],
    "tstzmultirange": ["'{[2024-02-03 00:00+00,)}'"],
    "datemultirange": ["'{[2024-02-03,2024-03-02)}'"],
    "oid": ["'4294967295'"],
    "xid": ["'4294967295'"],
    "xid8": ["'18446744073709551615'"],
    "cid": ["'7'"],
    "tid": ["'(4294967295,65535)'"],
    "pg_lsn": ["'FFFFFFFF/FFFFFFFF'"],
    "txid_snapshot": ["'10:20:10,14,15'"],
    "pg_snapshot": ["'10:20:10,14,15'"],
    "refcursor": ["'a cursor'"],
    "aclitem": ["makeaclitem(10, 10, 'SELECT', true)"],
    "int2vector": ["'1 2 3'", "''"],
    "oidvector": ["'16384 0'"],
    "regclass": ["0::regclass", "'public.things'::regclass", "4000000000::regclass"],
    "regcollation": ["'pg_catalog.\"C\"'::regcollation"],
    "regconfig": ["'simple'::regconfig"],
    "regdictionary": ["'simple'::regdictionary"],
    "regnamespace": ["'app'::regnamespace"],
    "regoper": ["'pg_catalog.||/'::regoper"],
    "regoperator": ["'pg_catalog.=(text,text)'::regoperator"],
    "regproc": ["'pg_catalog.now'::regproc", "0::regproc"],
    "regprocedure": ["'pg_catalog.upper(text)'::regprocedure"],
    "regrole": ["'postgres'::regrole"],
    "regtype": ["'app.mood'::regtype", "'integer'::regtype"],
}

OWN_TYPES = (
    "CREATE SCHEMA app",
    "CREATE CAST (bytea AS xml) WITHOUT FUNCTION",
    "CREATE TYPE app.mood AS ENUM ('', 'so so', 'it''s \"fine\"', 'a,b')",
    "CREATE DOMAIN app.price AS numeric(12,4) CHECK (VALUE <> 13)",
    "CREATE DOMAIN app.code AS character(5)",
    "CREATE DOMAIN app.short AS character varying(3)",
    "CREATE DOMAIN app.feeling AS app.mood",
    "CREATE DOMAIN app.numbers AS integer[]",
    "CREATE TYPE app.place AS (at timestamptz, took interval, note text, share double precision, raw bytea, worth money,"
    " what regclass, code app.code, mood app.mood)",
    "CREATE TYPE app.visit AS (place app.place, places app.place[])",
    "CREATE TYPE app.during AS RANGE (subtype = timestamptz)",
)

_PLACE = (
    "ROW('2024-11-03 05:30:00+00', '-1 days +04:05:06', E'a,\"b\"\\\\ \\n', 0.1::float8 + 0.2, '\\x00ff', 12.34::numeric::money,"
    " 'public.things', 'ab', 'a,b')::app.place"
)
_NOTHING = "ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::app.place"

OWN: dict[str, list[str]] = {
    "app.mood": ["''", "'so so'", "'it''s \"fine\"'", "'a,b'"],
    "app.price": ["'NaN'", "148", "'0.0001'"],
    "app.code": ["'ab'"],
    "app.short": ["'ab '"],
    "app.feeling": ["'so so'"],
    "app.numbers": ["'[5:7]={1,NULL,3}'", "'{}'"],
    "app.place": [_PLACE, _NOTHING],
    "app.visit": [f"ROW({_PLACE}, ARRAY[{_PLACE}, NULL, {_NOTHING}])::app.visit"],
    "app.during": ["'[2024-02-03 00:00+00,infinity)'", "'empty'"],
    "app.during_multirange": ["'{[2024-02-03 00:00+00,2024-03-02 00:00+00)}'"] ,
}  # fmt: skip

_NO_ARRAY_OF = {"app.during_multirange"}
# An array constructor takes the domain for what it stands for, and there are no arrays of arrays.
_ARRAYS = {"app.numbers": ['\'[2:3]={"{1,NULL}","[5:6]={7,8}"}\'', "'{}'"]}


def columns() -> dict[str, tuple[str, list[str]]]:
    """A column for each type and for an array of it: name → (type, values)."""
    made: dict[str, tuple[str, list[str]]] = {}
    for number, (type_, values) in enumerate((BUILT_IN | OWN).items()):
        made[f"c{number}"] = (type_, values)
        if type_ not in _NO_ARRAY_OF:
            made[f"a{number}"] = (f"{type_}[]", _arrays(type_, values))
    return made


def _arrays(type_: str, values: list[str]) -> list[str]:
    """With a null, with odd bounds and two dimensions, empty."""
    if type_ in _ARRAYS:
        return _ARRAYS[type_]
    first, last = f"({values[0]})::{type_}", f"({values[-1]})::{type_}"
    return [
        f"ARRAY[{first}, NULL, {last}]",
        f"array_fill({last}, ARRAY[2, 1], ARRAY[-1, 5])",
        "'{}'",
    ]
