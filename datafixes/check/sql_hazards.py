"""Known risks in the SQL of a fix."""

from collections.abc import Iterator

from sqlglot import exp

from datafixes.check.sql_reading import Unreadable, statements_of
from datafixes.declaration.expressions import lacks_zone

Hazard = tuple[str, str]
"""A code and a sentence."""

# sqlglot's names; functions that it does not know keep their own.
_RANDOM = {
    "RAND": "random()", "RANDOM": "random()", "RANDOM_NORMAL": "random_normal()", "SETSEED": "setseed()",
    "UUID": "gen_random_uuid()", "GEN_RANDOM_UUID": "gen_random_uuid()", "GENERATE_UUID": "gen_random_uuid()",
    "UUIDV4": "uuidv4()", "UUIDV7": "uuidv7()", "GEN_RANDOM_BYTES": "gen_random_bytes()",
    "UUID_GENERATE_V1": "uuid_generate_v1()", "UUID_GENERATE_V4": "uuid_generate_v4()",
    "CLOCK_TIMESTAMP": "clock_timestamp()", "STATEMENT_TIMESTAMP": "statement_timestamp()", "TIMEOFDAY": "timeofday()",
}  # fmt: skip
_TIME_OF_RUN = {
    "CURRENT_TIMESTAMP": "now()", "NOW": "now()", "TRANSACTION_TIMESTAMP": "transaction_timestamp()",
    "CURRENT_DATE": "current_date", "CURRENT_TIME": "current_time", "CURRENT_DATETIME": "localtimestamp",
    "LOCALTIMESTAMP": "localtimestamp", "LOCALTIME": "localtime",
}  # fmt: skip
_NEVER_NULL = (exp.Literal, exp.Count, exp.RowNumber, exp.Boolean)


def hazards_of_expression(text: str) -> list[Hazard]:
    """Risks in a condition or an expression over a row."""
    if text.strip().upper() in ("", "DEFAULT"):
        return []
    return hazards_of(f"SELECT (\n{text}\n)")


def hazards_of(text: str, *, times: bool = False) -> list[Hazard]:
    """Risks in statements.

    Args:
        text: the statements.
        times: report times without a zone, too; declarations refuse them anyway.
    """
    try:
        statements = statements_of(text)
    except Unreadable as problem:
        return [("FIX408", f"This SQL cannot be checked: {problem}.")]
    found = [hazard for one in statements for node in one.walk() for hazard in _at(node, times)]
    return list(dict.fromkeys(found))


def _at(node: object, times: bool) -> Iterator[Hazard]:
    if isinstance(node, exp.EQ | exp.NEQ):
        yield from _null(node)
    elif isinstance(node, exp.Not):
        yield from _not_in(node)
    elif isinstance(node, exp.Select):
        yield from _order(node)
    elif isinstance(node, exp.Func):
        yield from _moving(node)
    elif times and isinstance(node, exp.Literal) and _is_time_without_zone(node):
        yield "FIX402", f"The time '{node.this}' has no zone."


def _null(node: exp.EQ | exp.NEQ) -> Iterator[Hazard]:
    if isinstance(node.expression, exp.All) and isinstance(node, exp.NEQ):
        yield "FIX404", f"{_short(node)} is never true if the subquery returns a NULL."
        return
    if not isinstance(node.this, exp.Null) and not isinstance(node.expression, exp.Null):
        return
    # SET a = NULL, in an UPDATE, a MERGE or ON CONFLICT, is not a comparison.
    if isinstance(node.parent, exp.Update | exp.OnConflict | exp.SetItem) and node.arg_key == "expressions":
        return
    if isinstance(node.parent, exp.SetItem):
        return
    yield "FIX403", f"{_short(node)} is never true, for any row."


def _not_in(node: exp.Not) -> Iterator[Hazard]:
    inner = node.this.unnest()
    if not isinstance(inner, exp.In):
        return
    if any(isinstance(one, exp.Null) for one in inner.expressions):
        yield "FIX403", f"{_short(inner.this)} NOT IN (...) is never true: its list contains NULL."
    query = inner.args.get("query")
    select = query.unnest() if isinstance(query, exp.Subquery) else query
    if isinstance(select, exp.Select) and not _never_null(select):
        yield (
            "FIX404",
            f"{_short(inner.this)} NOT IN ({_short(select)}) is never true if the subquery returns a NULL.",
        )


def _never_null(select: exp.Select) -> bool:
    """Whether a subquery excludes NULL."""
    for given in select.expressions:
        one = given.unalias()
        if isinstance(one, _NEVER_NULL):
            continue
        if isinstance(one, exp.Coalesce) and one.expressions and isinstance(one.expressions[-1], exp.Literal):
            continue
        if not isinstance(one, exp.Column) or one.name not in _not_null(select):
            return False
    return True


def _not_null(select: exp.Select) -> set[str]:
    where = select.args.get("where")
    if where is None:
        return set()
    condition = where.this.unnest()
    parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
    names = set()
    for part in parts:
        inner = part.this.unnest() if isinstance(part, exp.Not) else part
        if not isinstance(inner, exp.Is) or not isinstance(inner.expression.unnest(), exp.Null | exp.Not):
            continue
        # Depending on its version, sqlglot parses x IS NOT NULL as NOT x IS NULL, as x IS (NOT NULL), or with a flag.
        marked = bool(inner.args.get("negate")) or isinstance(inner.expression, exp.Not)
        if marked != isinstance(part, exp.Not):
            names.add(inner.this.name)
    return names


def _order(node: exp.Select) -> Iterator[Hazard]:
    if node.args.get("order") is not None or isinstance(node.parent, exp.Exists):
        return
    if node.args.get("limit") is not None and not _one_row(node):
        yield "FIX407", "LIMIT without ORDER BY takes arbitrary rows."
    distinct = node.args.get("distinct")
    if isinstance(distinct, exp.Distinct) and distinct.args.get("on") is not None:
        yield "FIX407", "DISTINCT ON without ORDER BY keeps an arbitrary row."


def _one_row(select: exp.Select) -> bool:
    """Whether the result is always one row: aggregates without groups."""
    return select.args.get("group") is None and all(
        one.unalias().find(exp.AggFunc) is not None for one in select.expressions
    )


def _moving(node: exp.Func) -> Iterator[Hazard]:
    name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).upper()
    if name in _RANDOM:
        yield "FIX405", f"{_RANDOM[name]} differs in each run."
    elif name in _TIME_OF_RUN:
        yield "FIX406", f"{_TIME_OF_RUN[name]} is the time of the run."


def _is_time_without_zone(node: exp.Literal) -> bool:
    return node.is_string and lacks_zone(node.this) and not _typed_without_zone(node)


def _typed_without_zone(node: exp.Literal) -> bool:
    cast = node.parent
    if not isinstance(cast, exp.Cast):
        return False
    kind = cast.to
    return isinstance(kind, exp.DataType) and kind.this in (
        exp.DataType.Type.TIMESTAMP,
        exp.DataType.Type.DATE,
    )


def _short(node: exp.Expression) -> str:
    try:
        text = " ".join(node.sql(dialect="postgres", comments=False).split())
    except (RecursionError, ValueError):
        return "This"
    return text if len(text) <= 60 else f"{text[:57]}..."
