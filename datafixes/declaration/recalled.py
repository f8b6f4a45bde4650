"""A fix as the ledger keeps it: what is left where the file that declared it is gone."""

from dataclasses import dataclass

from datafixes.declaration.table import Table


@dataclass(frozen=True)
class RecalledFix:
    """A fix without its file.

    Attributes:
        name: its name; where only the number of a run is known, ``run 12``.
        run: the number of the run that is meant, or None: what the name leads to.
        schema_of_audit: where its ledger stands; empty: the one ledger of the database that knows it.
        tables: its tables, as far as they are known: offline, nothing is.
        reason: why it was applied, as far as it is known.
        fire_triggers: whether the tables' own triggers fire.
        rows_expected: how many rows it expected.
        fingerprint: of the declaration that was applied, as far as it is known.
        is_named: whether somebody said the name, or only the number of a run.
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
