"""The context of a run: facts that vary from run to run, and not with the fix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datafixes import __version__
from datafixes.declaration.expressions import Value
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recalled import RecalledFix
from datafixes.declaration.recorded import Declared, Fix
from datafixes.script import literal
from datafixes.script.masking import pattern_of


@dataclass(frozen=True)
class Context:
    """The facts of a run for its script.

    Attributes:
        revision: the running Alembic revision, or None outside of Alembic.
        upgrading: whether the revision's upgrade or its downgrade runs.
        after: the revisions that must be in the version table before the run.
        version_table: Alembic's version table.
        version_table_schema: its schema; empty: the session's search_path decides, as in Alembic.
        application: who and what runs it, for the ledger.
        on_conflict: for a revert: refuse, skip or overwrite.
        undoes: for a revert: the revision whose run it reverts; empty: this one's, or else the last application.
        reason: for a revert: why; empty: the reason of the run that it reverts.
        overruled: for a revert: the operator's choice for conflicts, by name of the fix.
        chosen: for a revert of some rows: the keys, by table; under an empty name if the fix has one table.
        masks: patterns for columns whose values must not appear in messages.
        by_name: for a revert: whether the revision only names the fix, without declaring it.
        takes_back: for a revert: whether it takes back what is half applied, and the version does not move.
    """

    revision: str | None = None
    upgrading: bool = True
    after: tuple[str, ...] = ()
    version_table: str = "alembic_version"
    version_table_schema: str = ""
    application: str = ""
    on_conflict: str = "refuse"
    overruled: Mapping[str, str] = field(default_factory=dict)
    undoes: str = ""
    chosen: Mapping[str, Sequence[tuple[Value, ...]]] | None = None
    masks: tuple[str, ...] = ()
    by_name: bool = False
    reason: str = ""
    takes_back: bool = False

    @property
    def version_table_name(self) -> str:
        """The version table's name in SQL."""
        if self.version_table_schema:
            return literal.qualified(self.version_table_schema, self.version_table)
        return literal.name(self.version_table)

    @property
    def version_table_oid(self) -> str:
        """An expression that finds the version table, or NULL, under the caller's own search_path."""
        return f"pg_catalog.to_regclass({literal.text(self.version_table_name)})"


def run_facts(fix: Fix, context: Context, fuse: str) -> dict[str, object]:
    """The facts of a run of any kind: which fix, where, by whom, and the name of its commit fuse."""
    facts: dict[str, object] = {
        "fix": fix.name,
        "audit_schema": fix.schema_of_audit,
        "revision": context.revision,
        "upgrading": context.upgrading,
        "after": list(context.after),
        "version_table": context.version_table_name,
        "application": context.application,
        "engine": __version__,
        "fuse": fuse,
    }
    if context.masks:
        facts["mask"] = pattern_of(context.masks)
    if isinstance(fix, RecalledFix) and fix.run is not None:
        facts["of_run"] = fix.run
        if fix.is_named:
            facts["named"] = True
    return facts


def declared(fix: Declared, context: Context, fuse: str) -> dict[str, object]:
    """The facts of a run of a declared fix, for the engine."""
    return {
        "fix": fix.name,
        "reason": fix.reason,
        "tables": [
            {
                "target_schema": table.schema,
                "target_table": table.table,
                "audit_table": table.audit,
                "key": list(table.key_columns),
                "identity": list(table.identity),
                "identity_sql": list(table.identity.values()),
                "housekeeping": list(table.housekeeping),
                **({"without": sorted(fix.without)} if isinstance(fix, DataFix) and fix.without else {}),
            }
            for table in fix.tables
        ],
        "other_tables": fix.other_tables,
        "fire_triggers": fix.fire_triggers,
        "rows_expected": fix.rows_expected,
        **({"at_most": True} if fix.is_bounded else {}),
        **run_facts(fix, context, fuse),
        "fingerprint": fix.fingerprint,
    }
