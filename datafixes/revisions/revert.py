"""The text of a revision that undoes an earlier fix, and the rows chosen for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from datafixes.declaration.recorded import Fix
from datafixes.errors import DatafixError
from datafixes.revisions.placing import Place
from datafixes.revisions.source import Source, laid_out, operation, quoted
from datafixes.revisions.text import SCHEMA_OF_RUN, Parts, revision_text
from datafixes.running.reverting import Revert


@dataclass(frozen=True)
class Chosen:
    """Chosen rows of a fix: as values for the revision, and as the auditor's views write their keys."""

    values: dict[str, list[tuple[str, ...]]]
    texts: list[str]


def chosen_keys(fix: Fix, rows: str) -> Chosen:
    """Read ``16,24``, ``a/b,c/d`` or ``orders:1,2;lines:7``.

    Raises:
        DatafixError: it does not identify rows of a table.
    """
    tables = {table.table: table for table in fix.tables}
    values: dict[str, list[tuple[str, ...]]] = {}
    texts: list[str] = []
    for part in rows.split(";"):
        name, colon, keys = part.partition(":")
        table, keys = (name.strip(), keys) if colon and name.strip() in tables else ("", part)
        if not table and len(tables) > 1:
            raise DatafixError(
                f"The fix {fix.name} has several tables, so name the table of the rows.",
                hint=f"For example --rows {next(iter(tables))}:1,2",
            )
        table = table or next(iter(tables))
        found = list(dict.fromkeys(key.strip() for key in keys.split(",") if key.strip()))
        if not found:
            raise DatafixError(f"--rows {rows} names no row of {table}.", hint="For example --rows 16,24")
        width = len(tables[table].key_columns) or 1
        values[table] = [tuple(key.split("/", width - 1)) for key in found]
        texts += found
    return Chosen(values, texts)


def revert_revision(place: Place, fix: Fix, how: Revert, only: str = "") -> str:
    """The text of the revision.

    Args:
        place: its id and its parent.
        fix: the fix that it undoes.
        how: the revision whose run is undone, which rows, and what to do with conflicts.
        only: the schema whose run does it, if env.py runs each revision for several.
    """
    ledger = f", audit_schema={quoted(how.audit_schema)}" if how.audit_schema else ""
    which, what = f"revision={quoted(how.undoes)}", f"revision {how.undoes}"
    if how.run is not None:
        which, what = f"run={how.run}", f"run {how.run}"
    arguments = [quoted(fix.name), f"{which}{ledger}"]
    if how.rows is not None:
        arguments.append(f"rows={_rows(fix, how.rows)}")
    if how.on_conflict != "refuse":
        arguments.append(f"on_conflict={quoted(how.on_conflict)}")
    if how.reason:
        arguments.append(f"reason={quoted(how.reason)}")
    revert = operation("revert_datafix", arguments)
    parts = Parts(
        f"Revert {fix.name}: {'some of what' if how.rows is not None else 'what'} {what} did",
        up=guarded(revert, only),
        down=guarded(Source(f"op.revert_datafix({quoted(fix.name)}{ledger})"), only),
    )
    return revision_text(place, parts)


def guarded(call: Source, only: str) -> str:
    """A call as the body of a migration.

    Args:
        call: the call.
        only: the schema whose run makes it, if env.py runs each revision for several.
    """
    head, indent = (f"    if {SCHEMA_OF_RUN}(op) == {quoted(only)}:\n", " " * 8) if only else ("", " " * 4)
    return f"{head}{indent}{laid_out(call, indent)}"


def _rows(fix: Fix, chosen: dict[str, list[tuple[str, ...]]]) -> str:
    by_table = {table: f"[{', '.join(_key(key, keys) for key in keys)}]" for table, keys in chosen.items()}
    if len(fix.tables) == 1:
        return next(iter(by_table.values()))
    return "{" + ", ".join(f"{quoted(table)}: {keys}" for table, keys in by_table.items()) + "}"


def _key(key: tuple[str, ...], keys: Sequence[tuple[str, ...]]) -> str:
    # Numbers only if all keys are: PostgreSQL gives a list one type.
    parts = [
        part if all(str(one[n]).isdecimal() and str(int(one[n])) == one[n] for one in keys) else quoted(part)
        for n, part in enumerate(key)
    ]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
