"""What the statements of a text do, in their order."""

import re
from collections.abc import Iterator
from functools import lru_cache

from sqlglot import exp

from datafixes.check.sql_deeds import Called, Cells, Change, Deed, Defined, Shape, may_write
from datafixes.check.sql_reading import UNKNOWN, Unreadable, folded, name_of, statements_of, tokens_of
from datafixes.check.sql_shape import shapes_of
from datafixes.check.sql_tokens import deeds_by_tokens, pieces_of

_WRITING = re.compile(
    r"\b(insert|(?<!on )(?<!for )update|(?<!on )delete|merge|truncate|copy|call|perform|execute)\b",
    re.IGNORECASE,
)
_SHAPING = re.compile(
    r"\bcreate\b.*\b(table|function|procedure)\b|\bdrop\s+(table|schema)\b|\binto\b|\balter\b.*\btable\b.*\b(rename|type"
    r"|drop(?!\s+(constraint|default|not|identity|expression))|add(?!\s+(constraint|check|unique|primary|foreign|exclude)))\b",
    re.IGNORECASE | re.DOTALL,
)
_CALLING = re.compile(r"\bselect\b", re.IGNORECASE)
_NAMES = re.compile(r"([\w.\"]+)\s*\(")
_CLAUSES = re.compile(
    r"(select|from|where|and|or|not|in|on|as|exists|values|using|any|all|some|over|filter|by|with|then|else|when|union|cast"
    r"|coalesce|count|max|min|sum|avg|distinct|array|extract|substring|replace|position|greatest|least|lateral|case|having"
    r"|limit|set|between|like|ilike|is|join|interval|date|bool_\w+|trim|abs|floor|ceil|ceiling|varchar|char|decimal"
    r"|current_\w+|row_number|rank|lag|lead)", re.IGNORECASE,
)  # fmt: skip


def may_matter(text: str) -> bool:
    """Whether a text may change rows or tables' definitions: a cheap test that errs on the safe side."""
    return bool(_WRITING.search(text) or _SHAPING.search(text)) or may_call(text)


def may_call(text: str) -> bool:
    """Whether a query may call a function that changes rows."""
    if _CALLING.search(text) is None:
        return False
    names = (one.replace('"', "") for one in _NAMES.findall(text))
    return any(_CLAUSES.fullmatch(one) is None and may_write(one) for one in names)


@lru_cache(maxsize=4096)
def deeds_of(text: str) -> tuple[Deed, ...]:
    """What a text does."""
    if not may_matter(text):
        return ()
    try:
        statements = statements_of(text)
    except Unreadable:
        return tuple(_piecewise(text))
    found = [deed for one in statements for deed in _of_statement(one)]
    if not any(isinstance(one, Change) for one in found) and _WRITING.search(text):
        # sqlglot parses some statements as something harmless.
        plain = all(isinstance(one, exp.Query | exp.DML | exp.Copy) for one in statements)
        found += deeds_by_tokens(text) if plain else []
    return tuple(found)


def changes_in(text: str) -> list[Change]:
    """The statements of a text that change rows."""
    return [one for one in deeds_of(text) if isinstance(one, Change)]


def _piecewise(text: str) -> Iterator[Deed]:
    """What each statement of a text does that cannot be parsed as a whole."""
    try:
        pieces = pieces_of(tokens_of(text))
    except Unreadable:
        pieces = []
    if len(pieces) < 2:
        yield from deeds_by_tokens(text)
        return
    for tokens in pieces:
        piece = text[tokens[0].start : tokens[-1].end + 1]
        try:
            yield from (deed for one in statements_of(piece) for deed in _of_statement(one))
        except Unreadable:
            yield from deeds_by_tokens(piece)


def _of_statement(statement: exp.Expression) -> Iterator[Deed]:
    match statement:
        case exp.Command():
            yield from deeds_by_tokens(f"{statement.name} {_rest(statement)}")
        case exp.Create():
            yield from _created(statement)
        case exp.Alter() | exp.Drop():
            yield from shapes_of(statement)
        case _:
            yield from _changes(statement)
            if isinstance(statement, exp.Select) and (into := statement.args.get("into")) is not None:
                yield Shape("creates", name_of(into.this))
            if isinstance(statement, exp.Query):
                yield from _calls(statement)


def _rest(command: exp.Command) -> str:
    rest = command.args.get("expression")
    return rest.name if isinstance(rest, exp.Expression) else str(rest or "")


def _created(create: exp.Create) -> Iterator[Deed]:
    kind = str(create.args.get("kind")).upper()
    body = create.expression
    if kind == "TABLE" and isinstance(create.this, exp.Table | exp.Schema):
        if isinstance(body, exp.Expression):
            yield from _changes(body)
        yield Shape("creates", name_of(create.this))
    elif kind in ("FUNCTION", "PROCEDURE") and (table := create.find(exp.Table)) is not None:
        text = body.name if isinstance(body, exp.Expression) else ""
        changes = [one for one in deeds_by_tokens(text) if isinstance(one, Change)] if text else []
        schema, name = folded(table.args.get("db")), folded(table.this)
        yield Defined(f"{schema}.{name}" if schema else name, tuple(changes))


def _calls(query: exp.Query) -> Iterator[Deed]:
    """The functions that a query calls for each row, or as a table."""
    for select in query.find_all(exp.Select):
        source = select.args.get("from_") or select.args.get("from")  # depending on sqlglot's version
        parts = list(select.expressions)
        if source is not None and isinstance(source.this, exp.Table):
            parts.append(source.this.this)
        for node in (node for part in parts for node in part.find_all(exp.Anonymous)):
            name = f"{_schema_of(node)}{node.name}"
            if may_write(name):
                yield Called(name)


def _schema_of(function: exp.Anonymous) -> str:
    outer = function.parent
    if isinstance(outer, exp.Dot):
        return f"{folded(outer.this)}."
    named = isinstance(outer, exp.Table) and outer.args.get("db") is not None
    return f"{folded(outer.args['db'])}." if named and outer is not None else ""


def _changes(statement: exp.Expression) -> Iterator[Change]:
    for node in statement.walk(prune=lambda one: isinstance(one, exp.Merge)):
        match node:
            case exp.Update():
                yield Change("UPDATE", name_of(node.this), _set(node))
            case exp.Insert():
                yield Change("INSERT INTO", name_of(node.this), cells=_inserted(node))
            case exp.Delete():
                yield Change("DELETE FROM", name_of(node.this), cells=_limited(node))
            case exp.Merge():
                yield Change("MERGE INTO", name_of(node.this))
            case exp.TruncateTable():
                yield from (Change("TRUNCATE", name_of(one)) for one in node.expressions)
            case exp.Copy() if node.args.get("kind"):
                yield Change("COPY", name_of(node.this))


def _set(update: exp.Update) -> frozenset[str]:
    columns = set()
    for one in update.expressions:
        target = one.this if isinstance(one, exp.EQ) else None
        if isinstance(target, exp.Column):
            columns.add(folded(target.this))
        else:
            columns.add("")  # a row of columns, or newer syntax: unknown
    return frozenset(columns)


def _inserted(insert: exp.Insert) -> Cells | None:
    """The values of the rows that a statement contains; None if they come from elsewhere, or overwrite others."""
    conflict = insert.args.get("conflict")
    if conflict is not None and "UPDATE" in str(conflict.args.get("action")).upper():
        return None
    names = [folded(one) for one in insert.this.expressions] if isinstance(insert.this, exp.Schema) else []
    source = insert.expression
    if isinstance(source, exp.Values):
        rows = [one.expressions if isinstance(one, exp.Tuple) else [one] for one in source.expressions]
    elif isinstance(source, exp.Select) and not (source.args.get("from_") or source.args.get("from")):
        rows = [[one.unalias() for one in source.expressions]]  # SELECT 1, 'new' WHERE NOT EXISTS (...)
    else:
        return None
    values = [value for row in rows for value in row]
    if not all(_is_plain(_uncast(one)) for one in values):
        return None
    return frozenset(
        (names[at] if at < len(names) else "", _literal(value))
        for row in rows
        for at, value in enumerate(row)
    )


def _uncast(value: exp.Expression) -> exp.Expression:
    while isinstance(value, exp.Cast | exp.Paren | exp.Neg):
        value = value.this
    return value


def _is_plain(value: exp.Expression) -> bool:
    """Whether a value is written in the statement, or is the default of its column in other words."""
    if isinstance(value, exp.Func):
        return not list(value.iter_expressions())  # now(), gen_random_uuid()
    return isinstance(value, exp.Literal | exp.Null | exp.Boolean | exp.Placeholder | exp.Column | exp.Var)


def _literal(value: exp.Expression) -> str:
    """A value as text, with its type left out; a parameter with a colon."""
    inner = _uncast(value)
    if isinstance(inner, exp.Placeholder) and inner.name:
        return f":{inner.name}"
    return inner.name if isinstance(inner, exp.Literal) else UNKNOWN


def _limited(delete: exp.Delete) -> Cells | None:
    """The values to which the condition of a DELETE is limited; None for any other condition."""
    where = delete.args.get("where")
    if where is None or delete.args.get("using"):
        return None
    found: set[tuple[str, str]] = set()
    waiting = [where.this]
    while waiting:
        one = waiting.pop()
        if isinstance(one, exp.And | exp.Or):
            waiting += [one.this, one.expression]
        elif isinstance(one, exp.Paren):
            waiting.append(one.this)
        elif isinstance(one, exp.EQ) and isinstance(one.this, exp.Column):
            found.add((folded(one.this.this), _literal(one.expression)))
        elif isinstance(one, exp.In) and isinstance(one.this, exp.Column) and one.expressions:
            found |= {(folded(one.this.this), _literal(value)) for value in one.expressions}
        else:
            return None
    return frozenset(found)
