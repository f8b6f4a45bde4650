"""What a statement does, judged by its keywords: PL/pgSQL, and SQL that sqlglot cannot parse, or misreads."""

import itertools
from collections.abc import Iterator, Sequence

from sqlglot import Token, TokenType

from datafixes.check.sql_deeds import Called, Change, Deed, Defined, Shape, Table, may_write
from datafixes.check.sql_reading import Unreadable, tokens_of

_STARTS = {"BEGIN", "THEN", "ELSE", "LOOP", "(", ";"}
_OPENING = {"INSERT": "INTO", "DELETE": "FROM", "MERGE": "INTO"}
_STRINGS = (TokenType.STRING, TokenType.HEREDOC_STRING, TokenType.RAW_STRING)
_OF_TABLES = {"GLOBAL", "LOCAL", "TEMP", "TEMPORARY", "UNLOGGED"}
_OFF = {"FALSE", "OFF", "0"}
_DEEPEST = 20


def deeds_by_tokens(text: str, depth: int = 0) -> list[Deed]:
    """What a text does, in its order."""
    try:
        tokens = tokens_of(text)
    except Unreadable:
        word = text.lstrip()[:8].partition(" ")[0].upper()
        return [Change(_verb(word))] if word in {*_OPENING, "UPDATE", "TRUNCATE"} else []
    if depth > _DEEPEST:
        return []
    found: list[Deed] = []
    for statement in pieces_of(tokens):
        if _is_one_text(statement):
            text = statement[1].text
            statement = [statement[0], *_known_tokens(text)]
        found += _of_statement(text, statement, depth)
    return found


def _is_one_text(statement: list[Token]) -> bool:
    """Whether sqlglot made one token of what follows a keyword."""
    return (
        len(statement) == 2
        and statement[0].text.upper() in ("CALL", "EXPLAIN", "PREPARE")
        and statement[1].token_type == TokenType.STRING
    )


def _known_tokens(text: str) -> list[Token]:
    try:
        return tokens_of(text)
    except Unreadable:
        return []


def pieces_of(tokens: Sequence[Token]) -> list[list[Token]]:
    """The statements: the tokens between semicolons."""
    groups = itertools.groupby(tokens, key=lambda token: token.token_type == TokenType.SEMICOLON)
    return [list(group) for between, group in groups if not between]


def _of_statement(text: str, tokens: list[Token], depth: int) -> list[Deed]:
    words = [token.text.upper() for token in tokens[:8]]
    rest = _after_heading(tokens, words)
    if rest is not None:
        return deeds_by_tokens(_text(text, rest), depth + 1) if rest else []
    if words[0] == "CALL":
        return _called(tokens, 1)
    if words[0] == "CREATE":
        return list(_created(text, tokens, words, depth))
    return list(_changes(tokens, depth))


def _text(text: str, tokens: list[Token]) -> str:
    return text[tokens[0].start : tokens[-1].end + 1] if tokens else ""


def _after_heading(tokens: list[Token], words: list[str]) -> list[Token] | None:
    """What EXPLAIN ANALYZE or PREPARE executes; nothing if EXPLAIN does not; None for other statements."""
    if words[0] == "PREPARE":
        place = next((at for at, token in enumerate(tokens) if token.text.upper() == "AS"), len(tokens))
        return tokens[place + 1 :]
    if words[0] != "EXPLAIN":
        return None
    at, runs = 1, False
    if words[1:2] == ["("]:
        while at < len(tokens) and tokens[at].text != ")":
            following = tokens[at + 1].text.upper() if at + 1 < len(tokens) else ""
            runs = runs or (tokens[at].text.upper() in ("ANALYZE", "ANALYSE") and following not in _OFF)
            at += 1
        at += 1
    else:
        while at < len(tokens) and tokens[at].text.upper() in ("ANALYZE", "ANALYSE", "VERBOSE"):
            runs = runs or tokens[at].text.upper() != "VERBOSE"
            at += 1
    return tokens[at:] if runs else []


def _called(tokens: list[Token], at: int) -> list[Deed]:
    parts = itertools.takewhile(lambda token: token.text != "(", tokens[at:])
    name = "".join(token.text for token in parts)
    return [Called(name)] if may_write(name) else []


def _created(text: str, tokens: list[Token], words: list[str], depth: int) -> Iterator[Deed]:
    at = 3 if words[1:3] == ["OR", "REPLACE"] else 1
    kind = words[at : at + 1]
    if kind in (["FUNCTION"], ["PROCEDURE"]):
        bodies = [token.text for token in tokens if token.token_type in _STRINGS]
        changes = [deed for body in bodies for deed in deeds_by_tokens(body, depth + 1)]
        name = "".join(
            token.text for token in itertools.takewhile(lambda token: token.text != "(", tokens[at + 1 :])
        )
        yield Defined(name, tuple(one for one in changes if isinstance(one, Change)))
        return
    while at < len(words) and words[at] in _OF_TABLES:
        at += 1
    if words[at : at + 1] != ["TABLE"]:
        return
    at += 4 if words[at + 1 : at + 3] == ["IF", "NOT"] else 1
    yield from _changes(tokens, depth)
    yield Shape("creates", _table_at(tokens, at))


def _changes(tokens: list[Token], depth: int, executed: bool = False) -> Iterator[Deed]:
    inside = executed
    for at, token in enumerate(tokens):
        word = token.text.upper()
        first = not at or tokens[at - 1].text.upper() in _STARTS
        if token.token_type in _STRINGS:
            # SQL that PL/pgSQL builds and executes, and the body of DO; the body of a function does not run here.
            if inside:
                within = deeds_by_tokens(token.text, depth + 1)
                if not within and token.token_type == TokenType.STRING:
                    # After DO and EXECUTE sqlglot makes one token of the rest, quotes included.
                    within = _executed(token.text, depth + 1)
                yield from within
        elif first and _begins(word, tokens, at):
            yield Change(_verb(word), _table_at(tokens, at + 1))
        elif first and word == "PERFORM":
            yield from _called(tokens, at + 1)
        inside = word in ("EXECUTE", "DO") or inside


def _executed(text: str, depth: int) -> list[Deed]:
    try:
        return [] if depth > _DEEPEST else list(_changes(tokens_of(text), depth, executed=True))
    except Unreadable:
        return []


def _verb(word: str) -> str:
    return f"{word} {_OPENING[word]}" if word in _OPENING else word


def _begins(word: str, tokens: list[Token], at: int) -> bool:
    following = [token.text.upper() for token in tokens[at + 1 : at + 2]]
    if word in _OPENING:
        return following == [_OPENING[word]]
    if word == "COPY":
        return not at and "FROM" in [token.text.upper() for token in tokens] and following != ["("]
    return (
        word in ("UPDATE", "TRUNCATE") and bool(following) and following[0] not in (")", ",", ";", "ON", "OR")
    )


def _table_at(tokens: list[Token], at: int) -> Table:
    while at < len(tokens) and tokens[at].text.upper() in ("INTO", "FROM", "ONLY", "TABLE"):
        at += 1
    names = [token.text for token in tokens[at : at + 3]]
    if len(names) == 3 and names[1] == ".":
        return names[0], names[2]
    return ("public", names[0]) if names and names[0][:1].isidentifier() else ("", "")
