"""Parses SQL with sqlglot into statements, or says why it cannot; finds their changes, if need be by tokens."""

import logging
from dataclasses import dataclass, field
from functools import lru_cache

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ErrorLevel, SqlglotError

# sqlglot warns of statements that it does not parse; the rules decide what that means here.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

UNKNOWN = "datafixes_unknown"
"""Placeholder for a part of a text that is known only at run time."""

_LONGEST, _DEEPEST = 300_000, 150

_STARTS = {"BEGIN", "THEN", "ELSE", "LOOP", "(", ";"}
_OPENING = {"INSERT": "INTO", "DELETE": "FROM", "MERGE": "INTO"}


class Unreadable(Exception):
    """sqlglot cannot parse the text."""


@dataclass(frozen=True)
class Change:
    """A statement that changes rows.

    Attributes:
        verb: ``UPDATE``, ``INSERT INTO``, ``DELETE FROM``, ``MERGE INTO``, ``TRUNCATE`` or ``COPY``.
        table: the schema and name of the table; empty if unknown.
        columns: the columns that an UPDATE sets.
    """

    verb: str
    table: tuple[str, str] = ("", "")
    columns: frozenset[str] = field(default=frozenset())

    @property
    def words(self) -> str:
        """``UPDATE orders``."""
        schema, name = ("" if UNKNOWN in part else part for part in self.table)
        return " ".join(
            part for part in (self.verb, name if schema in ("", "public") else f"{schema}.{name}") if part
        )


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text.

    Raises:
        Unreadable: it has none, such as an unterminated quote.
    """
    if len(text) > _LONGEST:
        raise Unreadable(f"it has {len(text):,} characters")
    try:
        return list(Postgres().tokenize(text))
    except (SqlglotError, RecursionError, IndexError, ValueError) as error:
        raise Unreadable(_first_line(error)) from None


@lru_cache(maxsize=512)
def statements_of(text: str) -> tuple[exp.Expression, ...]:
    """The statements of a text.

    Raises:
        Unreadable: sqlglot cannot parse a part of it.
    """
    depth = 0
    for token in tokens_of(text):
        depth += (token.text == "(") - (token.text == ")")
        if depth > _DEEPEST:
            raise Unreadable("it is nested too deeply")
    try:
        read = sqlglot.parse(text, dialect="postgres", error_level=ErrorLevel.RAISE)
    except (SqlglotError, RecursionError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise Unreadable(_first_line(error)) from None
    return tuple(one for one in read if isinstance(one, exp.Expression))


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    errors = getattr(error, "errors", None)
    if errors:
        one = errors[0]
        return f"{one.get('description') or 'it is not known'} near {one.get('highlight') or 'its end'}"
    return str(error).partition("\n")[0].partition(" '")[0] or type(error).__name__


def changes_in(text: str) -> list[Change]:
    """The statements of a text that change rows of tables that existed before."""
    try:
        statements = statements_of(text)
    except Unreadable:
        return _by_tokens(text)
    found: list[Change] = []
    for statement in statements:
        if isinstance(statement, exp.Command):
            found += _by_tokens(f"{statement.name} {_rest(statement)}")
        elif not isinstance(statement, exp.Create):
            found += _in_statement(statement)
    return found


def tables_created(text: str) -> set[tuple[str, str]]:
    """The tables that a text creates, temporary ones too."""
    try:
        statements = statements_of(text)
    except Unreadable:
        return set()
    made = set()
    for one in statements:
        if isinstance(one, exp.Create) and str(one.args.get("kind")).upper() == "TABLE":
            if (table := one.find(exp.Table)) is not None:
                made.add(name_of(table))
        elif isinstance(one, exp.Select) and (into := one.args.get("into")) is not None:
            made.add(name_of(into.this))
    return made


def name_of(table: exp.Expression | None) -> tuple[str, str]:
    """Schema and name of a table; ``public`` if no schema is given."""
    if isinstance(table, exp.Schema):
        table = table.this
    if not isinstance(table, exp.Table):
        return "", ""
    return folded(table.args.get("db")) or "public", folded(table.this)


def folded(name: object) -> str:
    """A name as the catalog has it; empty if there is none."""
    if isinstance(name, exp.Identifier):
        return str(name.this) if name.args.get("quoted") else str(name.this).lower()
    return "" if name is None else str(getattr(name, "name", ""))


def _rest(command: exp.Command) -> str:
    rest = command.args.get("expression")
    return rest.name if isinstance(rest, exp.Expression) else str(rest or "")


def _in_statement(statement: exp.Expression) -> list[Change]:
    found = []
    for node in statement.walk(prune=lambda one: isinstance(one, exp.Merge)):
        match node:
            case exp.Update():
                found.append(Change("UPDATE", name_of(node.this), _set(node)))
            case exp.Insert():
                found.append(Change("INSERT INTO", name_of(node.this)))
            case exp.Delete():
                found.append(Change("DELETE FROM", name_of(node.this)))
            case exp.Merge():
                found.append(Change("MERGE INTO", name_of(node.this)))
            case exp.TruncateTable():
                found += [Change("TRUNCATE", name_of(one)) for one in node.expressions]
            case exp.Copy() if node.args.get("kind"):
                found.append(Change("COPY", name_of(node.this)))
    return found


def _set(update: exp.Update) -> frozenset[str]:
    columns = set()
    for one in update.expressions:
        target = one.this if isinstance(one, exp.EQ) else None
        if isinstance(target, exp.Column):
            columns.add(folded(target.this))
        else:
            columns.add("")  # a row of columns, or newer syntax: unknown
    return frozenset(columns)


def _by_tokens(text: str, executed: bool = False) -> list[Change]:
    """The changes of a text, judged by its keywords: a PL/pgSQL body, or SQL that sqlglot cannot parse."""
    try:
        tokens = tokens_of(text)
    except Unreadable:
        word = text.lstrip()[:8].partition(" ")[0].upper()
        return [Change(_verb(word))] if word in {*_OPENING, "UPDATE", "TRUNCATE"} else []
    found: list[Change] = []
    inside = executed
    for at, token in enumerate(tokens):
        word = token.text.upper()
        if token.token_type in (TokenType.STRING, TokenType.HEREDOC_STRING, TokenType.RAW_STRING):
            # SQL that PL/pgSQL builds and executes, and the body of DO; the body of a function does not run here.
            if inside:
                within = _by_tokens(token.text)
                if not within and token.token_type == TokenType.STRING:
                    # After DO and EXECUTE sqlglot makes one token of the rest, quotes included.
                    within = _by_tokens(token.text, executed=True)
                found += within
        elif (not at or tokens[at - 1].text.upper() in _STARTS) and _begins(word, tokens, at):
            found.append(Change(_verb(word), _table_at(tokens, at + 1)))
        inside = word in ("EXECUTE", "DO") or (inside and word != ";")
    return found


def _verb(word: str) -> str:
    return f"{word} {_OPENING[word]}" if word in _OPENING else word


def _begins(word: str, tokens: list[Token], at: int) -> bool:
    following = [token.text.upper() for token in tokens[at + 1 : at + 2]]
    if word in _OPENING:
        return following == [_OPENING[word]]
    return (
        word in ("UPDATE", "TRUNCATE") and bool(following) and following[0] not in (")", ",", ";", "ON", "OR")
    )


def _table_at(tokens: list[Token], at: int) -> tuple[str, str]:
    while at < len(tokens) and tokens[at].text.upper() in ("INTO", "FROM", "ONLY", "TABLE"):
        at += 1
    names = [token.text for token in tokens[at : at + 3]]
    if len(names) == 3 and names[1] == ".":
        return names[0], names[2]
    return ("public", names[0]) if names and names[0][:1].isidentifier() else ("", "")
