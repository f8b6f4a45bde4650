"""Revisions of ``datafixes new``: one that applies a fix, one that creates audit tables."""

from collections.abc import Iterable, Mapping

from datafixes.declaration.recorded import Declared, RecordedFix
from datafixes.revisions.placing import Place
from datafixes.revisions.source import WIDTH, Source, call, laid_out, quoted, source_of
from datafixes.revisions.text import SCHEMA_OF_RUN, Parts, Written, revision_text


def revision_of_fix(
    place: Place, title: str, fix: Declared, *, statements: str = "", for_schemas: bool = False
) -> str:
    """A revision that applies a fix, and whose downgrade reverts it.

    Args:
        place: its id and its parent.
        title: its first line.
        fix: the declaration.
        statements: the SQL of a recorded fix, verbatim.
        for_schemas: whether it is for the schema for which env.py runs, instead of its own.
    """
    what = f"fix.in_schema({SCHEMA_OF_RUN}(op))" if for_schemas else "fix"
    if isinstance(fix, RecordedFix):
        up = f"    with op.record_datafix({what}) as body:\n{_execute(statements)}"
    else:
        up = f"    op.apply_datafix({what})"
    written = Written("fix", fix.in_schema("public") if for_schemas else fix)
    return revision_text(place, Parts(title, up, f"    op.revert_datafix({what})", (written,)))


def revision_of_audit_tables(
    place: Place,
    title: str,
    made: Iterable[Mapping[str, str | Source]],
    *,
    update: bool = False,
) -> str:
    """A revision that creates audit tables, or updates them.

    Args:
        place: its id and its parent.
        title: its first line.
        made: the arguments of ``op.create_audit_table``: ``target``, ``name``, and if needed ``schema`` and
            ``audit_schema``.
        update: the audit tables exist already.
    """
    up, down = [], []
    for given in made:
        named = {word: _source(value) for word, value in given.items() if word != "target"}
        up.append(
            call(
                "op.update_audit_table" if update else "op.create_audit_table",
                _source(given["target"]),
                **named,
            )
        )
        schema = given.get("audit_schema") or given.get("schema")
        where = {} if schema is None else {"audit_schema": _source(schema)}
        down.append(call("op.drop_audit_table", _source(given["name"]), **where))
    back = "    pass" if update else _statements(reversed(down))
    return revision_text(place, Parts(title, _statements(up), back))


def _source(value: str | Source) -> Source:
    return value if isinstance(value, Source) else source_of(value)


def _statements(calls: Iterable[Source]) -> str:
    return "\n".join(f"    {laid_out(one, '    ')}" for one in calls)


def _execute(statements: str) -> str:
    """``body.execute`` with verbatim SQL, in the most readable form of literal."""
    indent = " " * 8
    line = f"{indent}body.execute({quoted(statements)})"
    if "\n" not in statements and len(line) <= WIDTH:
        return line
    prefix, text = "", statements
    plain = all(mark.isprintable() or mark in "\n\t" for mark in text)
    if not plain or '"""' in text or text.endswith(('"', "\\")):
        text = "".join(
            mark if (mark.isprintable() and mark not in '\\"') or mark in "\n\t" else _escaped(mark)
            for mark in text
        )
    elif "\\" in text:
        prefix = "r"
    return f'{indent}body.execute({prefix}"""\n{text}\n""")'


def _escaped(mark: str) -> str:
    return f"\\{mark}" if mark in '\\"' else mark.encode("unicode_escape").decode("ascii")
