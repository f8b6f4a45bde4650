"""The declaration of a recorded fix: its statements may change only these tables."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

from datafixes.declaration.deciding import Relation, check_name_and_reason, fingerprint, relations
from datafixes.declaration.expressions import check_identifiers, check_text
from datafixes.declaration.fix import DataFix, declared_fingerprint, moved
from datafixes.declaration.recalled import RecalledFix
from datafixes.declaration.table import KINDS, Table
from datafixes.errors import DeclarationError


@dataclass(frozen=True, kw_only=True)
class RecordedFix:
    """One audited, reversible change of rows by any SQL or Python, inside ``with op.record_datafix(fix):``.

    Args:
        name: the name of the fix, unique in the ledger.
        reason: why, in a sentence, for the readers of the ledger.
        tables: every table that the statements change, directly, through a foreign key or through a trigger.
        ensure: a condition, for example ``NOT EXISTS (SELECT ...)``, that must hold after the statements.
        required: refuse if nothing changes. By default, if none of the named rows exists, the outcome is
            ``not_applicable``, because fresh, test and staging databases do not have production's rows.
        may_differ: other tables that may change too, without copies: ``"name"`` (in ``public``) or
            ``("schema", "name")``.
        fire_triggers: whether the tables' own triggers fire, in the fix and in its revert.
        audit_schema: the schema of the audit tables and of the ledger; by default the tables' own.
    """

    name: str
    reason: str
    tables: Sequence[Table]
    ensure: str = ""
    required: bool = False
    may_differ: Collection[Relation] = ()
    fire_triggers: bool = True
    audit_schema: str = ""

    def __post_init__(self) -> None:
        check_name_and_reason(self.name, self.reason)
        check_text("ensure", self.ensure)
        if not self.tables:
            raise DeclarationError(f"datafix {self.name}: tables is empty; name every table that changes.")
        names = [(table.schema, table.table) for table in self.tables]
        for schema, name in names:
            if names.count((schema, name)) > 1:
                raise DeclarationError(f"datafix {self.name}: the table {schema}.{name} is named twice.")
        audits = [table.audit for table in self.tables]
        for audit in audits:
            if audits.count(audit) > 1:
                raise DeclarationError(f"datafix {self.name}: two tables have the audit table {audit}.")
        if len({schema for schema, _ in names}) > 1 and not self.audit_schema:
            raise DeclarationError(
                f"datafix {self.name}: its tables are in several schemas, so audit_schema is required.",
                hint='For example audit_schema="public".',
            )
        check_identifiers(self.schema_of_audit)
        relations(self.name, self.may_differ, names)
        for table in self.tables:
            if table.identity and not any(True for _ in table.named()):
                raise DeclarationError(
                    f"datafix {self.name}: the table {table.table} has an identity but names no rows.",
                    hint="Name them: updated={key: identity} or deleted={key: identity}.",
                )
        if not self.rows_expected:
            raise DeclarationError(
                f"datafix {self.name}: no table expects a row to be inserted, updated or deleted.",
                hint='State how many, for example Table("orders", audit="orders_audit", updated=3).',
            )

    def in_schema(self, schema: str) -> Self:
        """The same fix for the tables of another schema, such as a tenant's, with their copies and its ledger there.

        Args:
            schema: the schema of its tables and, unless ``audit_schema`` names another one, of audit tables and ledger.
        """
        return moved(self, tables=[replace(table, schema=schema) for table in self.tables])

    @property
    def schema_of_audit(self) -> str:
        """The schema of the audit tables and the ledger."""
        return self.audit_schema or self.tables[0].schema

    @property
    def rows_expected(self) -> int:
        """The number of rows expected to change, in all tables; of bounds, the largest."""
        return sum(table.count(kind) for table in self.tables for kind in KINDS)

    @property
    def is_bounded(self) -> bool:
        """Whether of some rows only the largest number is said."""
        return any(table.bounded for table in self.tables)

    @property
    def other_tables(self) -> list[list[str]]:
        """The tables that may change too, each as schema and name."""
        return relations(self.name, self.may_differ)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the declaration. The statements are not included; the images show their effect."""
        content = {key: value for key, value in vars(self).items() if key not in ("reason", "tables")}
        return declared_fingerprint(self) or fingerprint(
            {**content, "tables": [vars(table) for table in self.tables]}
        )


Declared = DataFix | RecordedFix
"""Either kind of declaration."""

Fix = Declared | RecalledFix
"""A fix: its declaration, or what the ledger keeps of it."""
