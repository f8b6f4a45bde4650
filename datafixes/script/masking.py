"""Masked columns in a script: its errors must not contain their values, because the server logs errors."""

import re

from datafixes.script import literal

_HANDLER = """\
EXCEPTION WHEN OTHERS OR ASSERT_FAILURE OR QUERY_CANCELED THEN
    -- The server logs errors, and the client gets them: remove the values of masked columns.
    DECLARE
        of_schema     text;
        of_table      text;
        of_column     text;
        of_type       text;
        of_constraint text;
        code          text;
        message       text;
        detail        text;
        hint          text;
        context       text;
    BEGIN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
            hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT, of_schema = SCHEMA_NAME, of_table = TABLE_NAME,
            of_column = COLUMN_NAME, of_type = PG_DATATYPE_NAME, of_constraint = CONSTRAINT_NAME;
        PERFORM pg_temp.datafix_fail(pg_catalog.jsonb_build_object('code', code, 'message', message, 'detail', detail,
            'hint', hint, 'context', context, 'schema', of_schema, 'table', of_table, 'column', of_column,
            'type', of_type, 'constraint', of_constraint));
    END;
"""


def pattern_of(masks: tuple[str, ...]) -> str:
    """A PostgreSQL regular expression for the masked columns, as ``schema.table.column`` in lower case."""
    return f"(^|\\.)({'|'.join(_as_regex(mask.lower()) for mask in masks)})$" if masks else ""


def without_values(block: str, masks: tuple[str, ...]) -> str:
    """A block that ends with END, with a handler that removes values of masked columns from its errors."""
    if not masks:
        return block
    before, end, after = block.rpartition("END")
    return f"{before}{_HANDLER}{end}{after}"


def sent_without_values(statements: str, masks: tuple[str, ...]) -> str:
    """Statements of a recorded fix, as one statement that runs them."""
    # A comment may end them.
    block = f"\nBEGIN\n    EXECUTE {literal.body(f'{statements}{chr(10)}', 'statement')};\nEND\n"
    return f"DO {literal.body(without_values(block, masks), 'datafix')}"


def _as_regex(mask: str) -> str:
    """Convert ``fnmatch`` patterns: ``*``, ``?``, ``[seq]``, ``[!seq]``."""

    def one(found: re.Match[str]) -> str:
        if found[0] in ("*", "?"):
            return ".*" if found[0] == "*" else "."
        if found["set"]:
            inside = "".join(c if c == "-" else _character(c) for c in found["set"])
            return f"[{'^' if found['but'] else ''}{inside}]"
        letters = _character(found[0])
        return letters if letters.startswith("\\") or len(letters) == 1 else f"[{letters}]"

    return re.sub(r"[*?]|\[(?P<but>!?)(?P<set>\]?[^\]]*)\]|[\W\x80-\U0010ffff]", one, mask)


def _character(character: str) -> str:
    """A literal character; beyond ASCII in both cases, because lower() depends on the database."""
    if character.isascii():
        return character if character.isalnum() or character == "_" else f"\\{character}"
    other = character.upper()
    return character if other == character or len(other) > 1 else character + other
