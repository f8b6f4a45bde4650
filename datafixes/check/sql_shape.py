"""Changes of tables' definitions in SQL: creation, drop, rename, change of type, addition."""

from collections.abc import Iterator

from sqlglot import exp

from datafixes.check.sql_deeds import Shape
from datafixes.check.sql_reading import Unreadable, folded, name_of, statements_of

_CASTS = (exp.Cast, exp.Paren)


def shapes_of(statement: exp.Expression) -> Iterator[Shape]:
    """The changes of tables' definitions by an ALTER or DROP."""
    kind = str(statement.args.get("kind")).upper()
    if isinstance(statement, exp.Alter) and kind == "TABLE":
        yield from _altered(statement)
    elif isinstance(statement, exp.Drop) and kind in ("TABLE", "SCHEMA"):
        for table in _dropped(statement):
            name = name_of(table)
            tolerant = bool(statement.args.get("exists"))
            yield Shape(
                "drops", name if kind == "TABLE" else (folded(table.args.get("db")), "*"), if_exists=tolerant
            )


def mapping_in(using: str) -> str:
    """The expression of a USING clause, if it is more than a cast of a column; empty otherwise."""
    try:
        [select] = statements_of(f"SELECT {using}")
    except (Unreadable, ValueError):
        return using
    found = select.expressions if isinstance(select, exp.Select) else []
    return _mapping(found[0]) if len(found) == 1 else using


def _mapping(using: exp.Expression) -> str:
    inner = using
    while isinstance(inner, _CASTS):
        inner = inner.this
    return "" if isinstance(inner, exp.Column) else using.sql("postgres")


def _dropped(drop: exp.Drop) -> list[exp.Expression]:
    tables = [drop.this, *(drop.args.get("expressions") or ()), *(drop.args.get("tables") or ())]
    return [table for table in tables if isinstance(table, exp.Table)]


def _altered(alter: exp.Alter) -> Iterator[Shape]:
    table = name_of(alter.this)
    for action in alter.args.get("actions") or []:
        match action:
            case exp.Drop() if str(action.args.get("kind")).upper() == "COLUMN":
                yield Shape("drops", table, folded(action.find(exp.Identifier)))
            case exp.AlterColumn() if action.args.get("dtype") is not None:
                using = action.args.get("using")
                mapping = _mapping(using) if isinstance(using, exp.Expression) else ""
                yield Shape("retypes", table, folded(action.find(exp.Identifier)), mapping=mapping)
            case exp.RenameColumn():
                now = folded(action.args["to"].find(exp.Identifier))
                yield Shape("renames", table, folded(action.find(exp.Identifier)), now)
            case exp.AlterRename():
                # sqlglot parses RENAME a TO b, without COLUMN, as the rename of a table to "a", TO b.
                name = folded(action.find(exp.Identifier))
                if options := alter.args.get("options"):
                    yield Shape("renames", table, name, str(options[-1]).split()[-1].strip('"'))
                else:
                    yield Shape("renames", table, now=name)
            case exp.ColumnDef():
                yield Shape("adds", table, folded(action.this))
