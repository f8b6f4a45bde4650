"""Revisions of an author's own: one that applies a fix, one that makes audit tables."""

from collections.abc import Iterable, Mapping

from datafixes.declaration.recorded import Declared, RecordedFix
from datafixes.revisions.placing import Place
from datafixes.revisions.source import House, Node, Text, call, laid_out, quoted
from datafixes.revisions.text import Parts, Written, revision_text

_HOUSE = House()


def revision_of_fix(
    place: Place, title: str, fix: Declared, house: House = _HOUSE, *, statements: str = ""
) -> str:
    """A revision that applies a fix, and whose downgrade reverts it.

    Args:
        place: its id and what it stands on.
        title: what it is, for its first line.
        fix: the declaration.
        house: what the project's formatter wants.
        statements: of a recorded fix, its SQL: it stands there as it is.
    """
    if isinstance(fix, RecordedFix):
        up = f"    with op.record_datafix(fix) as body:\n{_execute(statements, house)}"
    else:
        up = "    op.apply_datafix(fix)"
    return revision_text(place, Parts(title, up, "    op.revert_datafix(fix)", (Written("fix", fix),)), house)


def revision_of_audit_tables(
    place: Place,
    title: str,
    made: Iterable[Mapping[str, str]],
    house: House = _HOUSE,
    *,
    update: bool = False,
) -> str:
    """A revision that makes audit tables, or brings them to the shape of their targets.

    Args:
        place: its id and what it stands on.
        title: what it is, for its first line.
        made: the arguments of ``op.create_audit_table``: ``target``, ``name``, and where needed ``schema`` and
            ``audit_schema``.
        house: what the project's formatter wants.
        update: the audit tables are there.
    """
    up, down = [], []
    for given in made:
        named = {word: Text(value) for word, value in given.items() if word != "target"}
        up.append(
            call(
                "op.update_audit_table" if update else "op.create_audit_table", Text(given["target"]), **named
            )
        )
        schema = given.get("audit_schema") or given.get("schema")
        where = {} if schema is None else {"audit_schema": Text(schema)}
        down.append(call("op.drop_audit_table", Text(given["name"]), **where))
    back = "    pass" if update else _statements(reversed(down), house)
    return revision_text(place, Parts(title, _statements(up, house), back), house)


def _statements(nodes: Iterable[Node], house: House) -> str:
    return "\n".join(f"    {laid_out(node, house.width, '    ')}" for node in nodes)


def _execute(statements: str, house: House) -> str:
    """``body.execute`` with SQL as it is, in the form of literal that shows it best."""
    indent = " " * 8
    line = f"{indent}body.execute({quoted(statements)})"
    if "\n" not in statements and len(line) <= house.width:
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
    # What is there already stays as it is, however long.
    lines = text.split("\n")
    codes = ["E501"] if any(len(line) > house.longest for line in lines) else []
    codes += ["W291"] if any(line != line.rstrip() and line.strip() for line in lines) else []
    codes += ["W293"] if any(line and not line.strip() for line in lines) else []
    noqa = f"  # noqa: {', '.join(codes)}" if codes else ""
    return f'{indent}body.execute({prefix}"""\n{text}\n"""){noqa}'


def _escaped(mark: str) -> str:
    return f"\\{mark}" if mark in '\\"' else mark.encode("unicode_escape").decode("ascii")
