"""What a statement does: it changes rows, changes a table's definition, or calls a function."""

import re
from dataclasses import dataclass, field
from typing import Literal

from datafixes.check.sql_reading import UNKNOWN

Table = tuple[str, str]
"""A schema and a name."""

Cells = frozenset[tuple[str, str]]
"""Columns with literal values; a column is empty if its name is unknown."""

ShapeDeed = Literal["creates", "drops", "retypes", "renames", "adds"]

# Functions of PostgreSQL, and of its usual extensions, that change no rows of tables.
_BUILT_IN = re.compile(
    r"(pg|has|json|jsonb|to|array|ts|range|inet|date|row|regexp|make|lo|txid|current|session|st|postgis|uuid|gen|hstore"
    r"|xml|string|quote|set|format|generate|clock|statement|transaction|enum|col|obj|shobj|schema|table|database|query"
    r"|web|websearch|plainto|phraseto|xpath|crypt|digest|icu|dblink_connect|dblink_disconnect|word|strict_word"
    r"|inet_server|num|similar|trim|octet|get_bit|get_byte|set_bit|set_byte|unnest|advisory)(_\w*|b?)"
    r"|setval|nextval|currval|lastval|version|now|random|md5|sha\d+|crc32c?|hmac|similarity|unaccent|concat\w*|left|right"
    r"|lpad|rpad|initcap|translate|strpos|split_part|reverse|repeat|ascii|chr|upper|lower|btrim|ltrim|rtrim|overlay|decode"
    r"|encode|convert\w*|width_bucket|trunc|round|mod|div|gcd|lcm|scale|sign|power|sqrt|exp|ln|log|cardinality|nullif"
    r"|timezone|age|isfinite|justify_\w+|host|network|netmask|masklen|abbrev|family|user|setseed|setweight|strip|length"
    r"|char_length|character_length|normalize|parse_ident|random_normal|timeofday|uuidv\d|system_user|txid|min_scale|daterange"
    r"|\w+range|\w+multirange|int\d|float\d|text|varchar|bool|numeric|bpchar|name|oid|box|point|circle|polygon|path|lseg"
    r"|pgp_\w+|armor|dearmor|nlevel|subpath|subltree|lca|text2ltree|cube\w*|earth\w*|ll_to_earth|percentile_\w+|mode|ntile"
    r"|stddev\w*|var_\w+|variance|corr|covar_\w+|bit_\w+|every|rank|dense_rank|\w+_value|cume_dist|merge_action|sum|avg"
    r"|is_?\w+|get(databaseencoding|pgusername)|area|center|diameter|width|height|radius|unicode_\w+|hostmask|timestamp(tz)?"
    r"|a?(sin|cos|tan|cot)d?|atan2d?|(lower|upper)_in[cf]|xml\w+|cash_words|gamma|lgamma|erfc?|mxid_age"
    r"|show_trgm|levenshtein\w*|soundex|metaphone|dmetaphone\w*|difference|akeys|avals|skeys|svals|casefold|unistr|query_to_xml",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A change of rows.

    Attributes:
        verb: ``UPDATE``, ``INSERT INTO``, ``DELETE FROM``, ``MERGE INTO``, ``TRUNCATE`` or ``COPY``, or a method.
        table: the schema and name of the table; empty if unknown. Without a schema, the name may be a model's.
        columns: the columns that an UPDATE sets.
        cells: the values of the rows that an INSERT contains, or to which a DELETE is limited; None for other rows.
    """

    verb: str
    table: Table = ("", "")
    columns: frozenset[str] = field(default=frozenset())
    cells: Cells | None = None

    @property
    def words(self) -> str:
        """``UPDATE orders``."""
        return f"{self.verb} {words_of(self.table)}".strip()


@dataclass(frozen=True)
class Shape:
    """One change of a table's definition.

    Attributes:
        deed: what happens.
        table: schema and name.
        column: the column; empty for the table itself.
        now: the new name after a rename; empty if unknown.
        mapping: the expression that converts the values of a column, if it is more than a cast.
        if_exists: whether a drop does nothing where there is no table.
    """

    deed: ShapeDeed
    table: Table
    column: str = ""
    now: str = ""
    mapping: str = ""
    if_exists: bool = False

    @property
    def words(self) -> str:
        """``orders.total``."""
        table = words_of(self.table)
        return f"{table}.{self.column}" if table and self.column else table or self.column


@dataclass(frozen=True)
class Called:
    """A call of a function that is not known to leave rows alone."""

    name: str


@dataclass(frozen=True)
class Defined:
    """A function, and what its body changes."""

    name: str
    changes: tuple[Change, ...]


Deed = Change | Shape | Called | Defined


def words_of(table: Table) -> str:
    """The name of a table, with its schema if that is not ``public``."""
    schema, name = ("" if UNKNOWN in part else part for part in table)
    return name if schema in ("", "public") else f"{schema}.{name}"


def may_write(name: str) -> bool:
    """Whether a function, with or without its schema, may change rows of tables."""
    schema, _, last = name.rpartition(".")
    if schema in ("pg_catalog", "information_schema"):
        return False
    if UNKNOWN in name or not last:
        return False
    return bool(schema) or _BUILT_IN.fullmatch(last.lower()) is None
