"""The declaration of a data fix: plain data, checked as far as it can be without a database."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datafixes.errors import DeclarationError
from datafixes.expressions import (
    Value,
    check_identifiers,
    check_text,
    check_values,
    lacks_zone,
    plain,
    sql,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Update:
    """Change columns of rows that exist.

    Args:
        table: the target's name, exactly as it is in the catalog (no quotes, no schema).
        set: column -> new value: a plain value, or ``sql("expression")``.
        where: a condition that every row must meet to be changed. Rows that are named in ``Rows.expect`` may do
            without; with a mere number of expected rows it is required.
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
    """Remove rows. Rows of other tables that would go or change with them are a refusal, not a side effect.

    Args:
        table: the target's name, exactly as it is in the catalog.
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
    """Add rows.

    Args:
        table: the target's name, exactly as it is in the catalog.
        rows: the rows, each a mapping column -> value or ``sql("expression")``. All name the same columns.
        schema: the target's schema.
    """

    table: str
    rows: Sequence[Mapping[str, Value | sql]]
    schema: str = "public"

    def __post_init__(self) -> None:
        check_identifiers(self.schema, self.table)
        if not self.rows:
            raise DeclarationError(f"Insert into {self.table}: rows is empty, so nothing would be inserted.")
        columns = list(self.rows[0])
        check_identifiers(*columns)
        for number, row in enumerate(self.rows, 1):
            if set(row) != set(columns):
                raise DeclarationError(
                    f"Insert into {self.table}: row {number} names other columns than row 1: "
                    f"{', '.join(sorted(set(row) ^ set(columns)))}.",
                    hint="Give every row the same columns; sql('DEFAULT') stands for a column's default.",
                )
            check_values(f"Insert into {self.table}: row {number}", row)


Change = Update | Delete | Insert


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows the fix was written for: the proof that it meets the ones that its author saw.

    Args:
        key: the column, or the columns, of a unique key of the target. It identifies a row in the audit table
            and when the fix is reverted.
        expect: either the rows themselves, ``{key: identity}`` (an identity is a value, or a tuple of them where
            ``identity`` has several expressions), or a collection of keys, or how many rows there are.
        identity: name -> SQL expression; what makes a row the one that was meant, beyond its key. An id alone is
            no proof: ids move on.
        tolerance: by how many rows the number found may differ from a mere number in ``expect``.
        already: a condition under which an expected row is as the fix wants it. Such rows are named and left alone.
        already_at_most: how many such rows are tolerable; one more, and the fix refuses.
        required: refuse where none of the rows exists. By default that is the outcome ``not_applicable``, because
            fresh, test and staging databases do not have production's rows.
        ensure: a condition that every changed row must meet afterwards.
    """

    key: str | tuple[str, ...]
    expect: Mapping[Any, Any] | Collection[Any] | int
    identity: Mapping[str, str] = field(default_factory=dict)
    tolerance: int = 0
    already: str = ""
    already_at_most: int = 0
    required: bool = False
    ensure: str = ""

    def __post_init__(self) -> None:
        check_identifiers(*self.key_columns, *self.identity)
        for name, text in {"already": self.already, "ensure": self.ensure, **self.identity}.items():
            check_text(name, text)
        if isinstance(self.expect, bool) or (isinstance(self.expect, int) and self.expect < 1):
            raise DeclarationError(f"Rows: expect={self.expect!r}; a fix changes at least one row.")
        if self.already_at_most < 0 or self.tolerance < 0:
            raise DeclarationError("Rows: tolerance and already_at_most are numbers of rows, 0 or more.")
        if self.already_at_most and not self.already:
            raise DeclarationError(
                "Rows: already_at_most without already: the fix cannot tell which rows are as it wants them.",
                hint="Say it as a condition, for example already=\"status = 'closed'\".",
            )
        self._check_expected()

    def _check_expected(self) -> None:
        if isinstance(self.expect, int):
            if self.identity:
                raise DeclarationError(
                    "Rows: identity needs the rows themselves in expect, as {key: identity}, not a number."
                )
            return
        if self.tolerance:
            raise DeclarationError("Rows: tolerance goes with a number of rows; these are named one by one.")
        if isinstance(self.expect, str):
            raise DeclarationError(f"Rows: expect={self.expect!r} is one text; give a list of keys.")
        if not self.expect:
            raise DeclarationError("Rows: expect names no row, so nothing would change.")
        if bool(self.identity) != isinstance(self.expect, Mapping):
            raise DeclarationError(
                "Rows: identity and expect belong together: expect={key: identity} with identity={name: expression}, "
                "or a list of keys without."
            )
        seen: set[tuple[Value, ...]] = set()
        for key, identity in self.expected():
            _check_row_of_expect(self, key, identity)
            if key in seen:
                raise DeclarationError(f"Rows: expect names the key {_shown(key)} twice.")
            seen.add(key)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the key, always as a tuple."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def count(self) -> int:
        """How many rows are expected."""
        return self.expect if isinstance(self.expect, int) else len(self.expect)

    def expected(self) -> Iterator[tuple[tuple[Value, ...], tuple[Value, ...]]]:
        """Each expected row as (key, identity), both as tuples; nothing where only a number is expected."""
        if isinstance(self.expect, int):
            return
        for key in self.expect:
            identity: Any = self.expect[key] if isinstance(self.expect, Mapping) else ()
            yield (
                key if isinstance(key, tuple) else (key,),
                identity if isinstance(identity, tuple) else (identity,),
            )


@dataclass(frozen=True, kw_only=True)
class DataFix:
    """One audited, reversible change of rows.

    Args:
        name: unique in the ledger; the fix is known by it ever after.
        reason: why, in a sentence, for whoever reads the ledger.
        change: :class:`Update`, :class:`Delete` or :class:`Insert`.
        rows: which rows it was written for.
        audit: the audit table that takes the copies, made by ``op.create_audit_table``.
        audit_schema: the schema of the audit table and of the ledger; the target's, unless said otherwise.
    """

    name: str
    reason: str
    change: Change
    rows: Rows
    audit: str
    audit_schema: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DeclarationError(
                f"DataFix: the name {self.name!r} is not usable.",
                hint="Up to 63 letters, digits, '_', '.' and '-', for example close_phantom_positions.",
            )
        if not self.reason.strip():
            raise DeclarationError(
                f"datafix {self.name}: the reason is empty; the ledger keeps it for the auditor."
            )
        check_text("reason", self.reason, expression=False)
        check_identifiers(self.audit, self.schema_of_audit)
        self._check_rows()

    def _check_rows(self) -> None:
        change, rows = self.change, self.rows
        if isinstance(change, Insert):
            if rows.count != len(change.rows) or not isinstance(rows.expect, int):
                raise DeclarationError(
                    f"datafix {self.name}: expect is the number of inserted rows, {len(change.rows)}."
                )
            if rows.already or rows.tolerance:
                raise DeclarationError(f"datafix {self.name}: an Insert has no rows that are already there.")
            return
        if isinstance(rows.expect, int) and not change.where.strip():
            raise DeclarationError(
                f"datafix {self.name}: {rows.expect} rows are expected and none is named, so a where is needed.",
                hint='where="true" means every row of the table.',
            )
        if isinstance(change, Update) and (keys := set(change.set) & set(rows.key_columns)):
            raise DeclarationError(
                f"datafix {self.name}: set changes {', '.join(sorted(keys))}, which identifies the row.",
                hint="Choose another unique key in Rows(key=...).",
            )

    @property
    def kind(self) -> str:
        """``update``, ``delete`` or ``insert``."""
        return type(self.change).__name__.lower()

    @property
    def schema_of_audit(self) -> str:
        """Where the audit table and the ledger stand."""
        return self.audit_schema or self.change.schema

    @property
    def times_without_zone(self) -> tuple[str, ...]:
        """Columns that get a time without a zone; the engine refuses it where the column has one (C41)."""
        given = [self.change.set] if isinstance(self.change, Update) else []
        given += list(self.change.rows) if isinstance(self.change, Insert) else []
        given += [dict(zip(self.rows.key_columns, key, strict=True)) for key, _ in self.rows.expected()]
        return tuple(sorted({name for row in given for name, value in row.items() if lacks_zone(value)}))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what the fix does. The reason is prose and does not count."""
        content = {
            "name": self.name,
            "change": {"kind": self.kind, **plain(vars(self.change))},
            "rows": plain(vars(self.rows)),
            "audit": [self.schema_of_audit, self.audit],
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def _shown(key: tuple[Value, ...]) -> str:
    return str(key[0]) if len(key) == 1 else str(key)


def _check_row_of_expect(rows: Rows, key: tuple[Value, ...], identity: tuple[Value, ...]) -> None:
    if len(key) != len(rows.key_columns):
        raise DeclarationError(
            f"Rows: the key {_shown(key)} in expect has {len(key)} values, and the key ({', '.join(rows.key_columns)}) "
            f"has {len(rows.key_columns)} columns."
        )
    if any(part is None for part in key):
        raise DeclarationError("Rows: a key in expect is None; a key is never null.")
    if rows.identity and len(identity) != len(rows.identity):
        raise DeclarationError(
            f"Rows: the row {_shown(key)} in expect has {len(identity)} identities, not {len(rows.identity)} "
            f"({', '.join(rows.identity)})."
        )
    check_values("Rows: expect", dict(enumerate((*key, *identity))))
