"""A fix from the ledger, without the file that declared it."""

from dataclasses import dataclass

from datafixes.declaration.table import Table


@dataclass(frozen=True)
class RecalledFix:
    """A fix without its file.

    Attributes:
        name: its name; ``run 12`` if only the number of a run is known.
        run: the number of the requested run, or None: found by the name.
        schema_of_audit: the schema of its ledger; empty: the one ledger of the database that has a run of it.
        tables: its tables, if known; offline they are not.
        reason: why it was applied, if known.
        fire_triggers: whether the tables' own triggers fire.
        rows_expected: the number of rows that it expected.
        fingerprint: of the declaration that was applied, if known.
        is_named: whether the name was given, or only the number of a run.
    """

    name: str
    run: int | None = None
    schema_of_audit: str = ""
    tables: tuple[Table, ...] = ()
    reason: str = ""
    fire_triggers: bool = True
    rows_expected: int | None = None
    fingerprint: str = ""
    is_named: bool = True
