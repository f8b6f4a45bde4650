"""The declaration of a data fix: plain data, checked as far as possible without a database."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from datafixes.declaration.batches import Batches
from datafixes.declaration.deciding import Relation, check_name_and_reason, fingerprint, relations
from datafixes.declaration.expressions import (
    Value,
    check_identifiers,
    check_text,
    check_values,
    lacks_zone,
    sql,
)
from datafixes.declaration.rows import AtMost, Rows
from datafixes.declaration.table import Table, check_housekeeping
from datafixes.errors import DeclarationError

_Fix = TypeVar("_Fix")
_WORD = re.compile(r'"(?:[^"]|"")+"|\w+')
_DECLARED = "_declared_fingerprint"  # no field: it is no part of the declaration


@dataclass(frozen=True)
class Update:
    """Change columns of existing rows.

    Args:
        table: the target's catalog name (no quotes, no schema).
        set: column -> new value: a plain value, or ``sql("expression")``.
        where: a condition that every changed row must meet. Optional if ``Rows.expect`` names the rows; required if
            it is only a number or a bound.
        schema: the target's schema.
    """

    table: str
    set: Mapping[str, Value | sql]
    where: str = ""
    schema: str = "public"

    def __post_init__(self) -> None:
        check_identifiers(self.schema, self.table, *self.set)
        if not self.set:
            raise DeclarationError(f"Update of {self.table}: set is empty, so nothing would change.")
        check_values(f"Update of {self.table}: set", self.set)
        check_text("where", self.where)


@dataclass(frozen=True)
class Delete:
    """Delete rows. If rows of other tables would be deleted or changed with them, the fix is refused.

    To remove rows together with their children, record the fix: see :class:`datafixes.RecordedFix`.

    Args:
        table: the target's catalog name.
        where: see :class:`Update`.
        schema: the target's schema.
    """

    table: str
    where: str = ""
    schema: str = "public"

    def __post_init__(self) -> None:
        check_identifiers(self.schema, self.table)
        check_text("where", self.where)


@dataclass(frozen=True)
class Insert:
    """Insert rows.

    Args:
        table: the target's catalog name.
        rows: the rows, each a mapping column -> value or ``sql("expression")``. All name the same columns.
        schema: the target's schema.
        where: a condition that identifies the database that the rows are for. If it does not hold, the fix is
            ``not_applicable``, or with ``Rows(required=True)`` refused. Without it, every fresh, test and staging
            database gets the rows too.
    """

    table: str
    rows: Sequence[Mapping[str, Value | sql]]
    schema: str = "public"
    where: str = ""

    def __post_init__(self) -> None:
        check_identifiers(self.schema, self.table)
        check_text("where", self.where)
        if not self.rows:
            raise DeclarationError(f"Insert into {self.table}: rows is empty, so nothing would be inserted.")
        columns = list(self.rows[0])
        check_identifiers(*columns)
        for number, row in enumerate(self.rows, 1):
            if set(row) != set(columns):
                raise DeclarationError(
                    f"Insert into {self.table}: row {number} names other columns than row 1: "
                    f"{', '.join(sorted(set(row) ^ set(columns)))}.",
                    hint="Give every row the same columns; sql('DEFAULT') is a column's default.",
                )
            check_values(f"Insert into {self.table}: row {number}", row)


Change = Update | Delete | Insert


@dataclass(frozen=True, kw_only=True)
class DataFix:
    """One audited, reversible change of rows of one table.

    Args:
        name: the name of the fix, unique in the ledger.
        reason: why, in a sentence, for the readers of the ledger.
        change: :class:`Update`, :class:`Delete` or :class:`Insert`.
        rows: the rows that it was written for.
        audit: the audit table for the copies, created by ``op.create_audit_table``.
        housekeeping: columns such as ``updated_at`` that others write all the time: they are copied, but are never a
            conflict and are not restored.
        may_differ: tables that triggers may change too, without copies: ``"name"`` (in ``public``) or
            ``("schema", "name")``. If any other table changes, the fix is refused.
        fire_triggers: whether the table's own triggers fire, in the fix and in its revert.
        audit_schema: the schema of the audit table and of the ledger; by default the target's.
        without: of an Update, columns that it does not write and that are left out of the copies.
        batches: for many rows: change them in transactions of so many rows each, while others work. See
            :class:`datafixes.Batches`.
    """

    name: str
    reason: str
    change: Change
    rows: Rows
    audit: str
    housekeeping: Collection[str] = ()
    may_differ: Collection[Relation] = ()
    fire_triggers: bool = True
    audit_schema: str = ""
    batches: Batches | None = None
    without: Collection[str] = ()

    def __post_init__(self) -> None:
        check_name_and_reason(self.name, self.reason)
        check_identifiers(self.audit, self.schema_of_audit)
        relations(self.name, self.may_differ, [(self.change.schema, self.change.table)])
        written = tuple(self.change.set) if isinstance(self.change, Update) else ()
        check_housekeeping(f"datafix {self.name}", self.housekeeping, (*self.rows.key_columns, *written))
        self._check_without(written)
        self._check_rows()

    def _check_without(self, written: tuple[str, ...]) -> None:
        """What a revert needs is copied: what the fix writes, and what tells its rows apart."""
        if not self.without:
            return
        if isinstance(self.without, str):
            raise DeclarationError(
                f"datafix {self.name}: without={self.without!r} must be a list of columns."
            )
        check_identifiers(*self.without)
        if not isinstance(self.change, Update):
            raise DeclarationError(
                f"datafix {self.name}: without is for an Update; the copies of deleted and inserted rows are whole."
            )
        reads = {word.strip('"') for text in self.rows.identity.values() for word in _WORD.findall(text)}
        for columns, what in (
            (written, "is written"),
            (self.rows.key_columns, "is a part of the key"),
            (reads, "tells rows apart (identity)"),
        ):
            if both := sorted(set(self.without) & set(columns)):
                raise DeclarationError(
                    f"datafix {self.name}: without names {', '.join(both)}, which {what}: a revert needs the copy."
                )

    def _check_rows(self) -> None:
        change, rows = self.change, self.rows
        if self.batches is not None and (isinstance(change, Insert) or rows.names_rows or rows.already):
            raise DeclarationError(
                f"datafix {self.name}: batches are for an Update or a Delete of rows that a condition finds.",
                hint="Rows(expect=AtMost(5_000_000)), without already; or leave batches out.",
            )
        if isinstance(change, Insert):
            if rows.expect != len(change.rows):
                raise DeclarationError(
                    f"datafix {self.name}: expect is the number of inserted rows, {len(change.rows)}."
                )
            if rows.already or rows.tolerance:
                raise DeclarationError(f"datafix {self.name}: already does not apply to an Insert.")
            return
        if not rows.names_rows and not change.where.strip():
            raise DeclarationError(
                f"datafix {self.name}: expect is a number ({rows.expect}) and names no rows, so where is required.",
                hint='where="true" means every row of the table.',
            )
        if isinstance(change, Update) and (keys := set(change.set) & set(rows.key_columns)):
            raise DeclarationError(
                f"datafix {self.name}: set changes {', '.join(sorted(keys))}, which identifies the row.",
                hint="Choose another unique key in Rows(key=...).",
            )

    def in_schema(self, schema: str) -> Self:
        """The same fix for the tables of another schema, such as a tenant's, with its copies and its ledger there.

        Args:
            schema: the schema of the target, the audit table and the ledger, unless ``audit_schema`` names another one.
        """
        return moved(self, change=replace(self.change, schema=schema))

    @property
    def kind(self) -> str:
        """``update``, ``delete`` or ``insert``."""
        return type(self.change).__name__.lower()

    @property
    def tables(self) -> tuple[Table]:
        """The table that it changes."""
        return (
            Table(
                self.change.table,
                self.audit,
                self.change.schema,
                key=self.rows.key,
                identity=self.rows.identity,
                housekeeping=self.housekeeping,
            ),
        )

    @property
    def schema_of_audit(self) -> str:
        """The schema of the audit table and the ledger."""
        return self.audit_schema or self.change.schema

    @property
    def rows_expected(self) -> int:
        """The number of rows expected to change; of a bound, the largest."""
        return self.rows.count

    @property
    def is_bounded(self) -> bool:
        """Whether only the largest number of rows is said."""
        return isinstance(self.rows.expect, AtMost)

    @property
    def other_tables(self) -> list[list[str]]:
        """The tables that may change too, each as schema and name."""
        return relations(self.name, self.may_differ)

    @property
    def times_without_zone(self) -> tuple[str, ...]:
        """Columns that get a time without a zone; the engine refuses it if the column has one."""
        given = [self.change.set] if isinstance(self.change, Update) else []
        given += list(self.change.rows) if isinstance(self.change, Insert) else []
        given += [dict(zip(self.rows.key_columns, key, strict=True)) for key, _ in self.rows.expected()]
        return tuple(sorted({name for row in given for name, value in row.items() if lacks_zone(value)}))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what the fix does. The reason is not included."""
        return declared_fingerprint(self) or fingerprint(
            {
                "name": self.name,
                "change": {"kind": self.kind, **_deciding(self.change)},
                "rows": vars(self.rows),
                "audit": [self.schema_of_audit, self.audit],
                "housekeeping": sorted(self.housekeeping),
                "may_differ": self.other_tables,
                "fire_triggers": self.fire_triggers,
                **({"without": sorted(self.without)} if self.without else {}),  # as in versions that had none
            }
        )


def moved(fix: _Fix, **what: Any) -> _Fix:
    """A fix in another schema; its fingerprint stays that of the declaration, which is the same for all schemas."""
    found: Any = replace(fix, **what)  # type: ignore[type-var]
    object.__setattr__(found, _DECLARED, fix.fingerprint)  # type: ignore[attr-defined]
    return found  # type: ignore[no-any-return]


def declared_fingerprint(fix: object) -> str:
    """The fingerprint of the declaration from which a fix was moved, or an empty string."""
    return str(vars(fix).get(_DECLARED, ""))


def _deciding(change: Change) -> dict[str, Any]:
    """The content of a change. An Insert without a condition has the same content as in versions without conditions."""
    unsaid = isinstance(change, Insert) and not change.where
    return {name: value for name, value in vars(change).items() if not (unsaid and name == "where")}
