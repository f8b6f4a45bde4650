"""A table that a fix changes: where its rows are copied, what tells them apart, how many change and how."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datafixes.declaration.expressions import Value, check_identifiers, check_text
from datafixes.declaration.rows import Rows, columns_of
from datafixes.errors import DeclarationError

KINDS = ("inserted", "updated", "deleted")
"""What can happen to a row, in the words of a recorded fix."""

Expected = int | Collection[Any] | Mapping[Any, Any]
"""How many rows, or which ones: a number, a collection of keys, or a mapping key -> identity."""


@dataclass(frozen=True)
class Table:
    """A table that a recorded fix may change, and what it is expected to do there.

    What counts is the difference between before and after: a row that is changed three times was updated once, and one
    that is put back as it was, not at all.

    Args:
        table: its name, exactly as it is in the catalog (no quotes, no schema).
        audit: the audit table that takes the copies, made by ``op.create_audit_table``.
        schema: its schema.
        key: the column, or the columns, of a unique key. Without it the primary key tells rows apart, or else another
            unique key that is never null, or else, where there is none, the whole image of a row; then an update is
            the end of one image and the beginning of another, and counts as ``deleted`` and ``inserted``.
        inserted: how many rows are inserted.
        updated: how many rows are updated, or which: a collection of keys, or ``{key: identity}``.
        deleted: the same for rows that are deleted.
        tolerance: by how many rows a number found may differ from the number expected.
        identity: name -> SQL expression over the row as it was; what makes it the one that was meant, beyond its key.
        ensure: a condition that every inserted or updated row must meet afterwards.
        housekeeping: columns such as ``updated_at`` that others write all the time: they are copied like all others,
            are never a conflict, and are not given back.
    """

    table: str
    audit: str
    schema: str = "public"
    key: str | tuple[str, ...] = ()
    inserted: int = 0
    updated: Expected = 0
    deleted: Expected = 0
    tolerance: int = 0
    identity: Mapping[str, str] = field(default_factory=dict)
    ensure: str = ""
    housekeeping: Collection[str] = ()

    def __post_init__(self) -> None:
        check_identifiers(
            self.schema, self.table, self.audit, *self.key_columns, *self.identity, *self.housekeeping
        )
        check_text("ensure", self.ensure)
        check_housekeeping(f"Table {self.table}", self.housekeeping, self.key_columns)
        if self.tolerance < 0:
            raise DeclarationError(f"Table {self.table}: tolerance is a number of rows, 0 or more.")
        for kind in KINDS:
            self._check_expected(kind, getattr(self, kind))

    def _check_expected(self, kind: str, expected: Expected) -> None:
        if isinstance(expected, bool) or (isinstance(expected, int) and expected < 0):
            raise DeclarationError(f"Table {self.table}: {kind}={expected!r} is no number of rows.")
        if isinstance(expected, int):
            return
        if kind == "inserted":
            raise DeclarationError(f"Table {self.table}: inserted is a number; new rows have no keys yet.")
        if not self.key_columns:
            raise DeclarationError(
                f'Table {self.table}: {kind} names rows by their key, so say which: key="id".'
            )
        # The rules are those of a declared fix.
        Rows(key=self.key, expect=expected, identity=self.identity)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the key, always as a tuple; empty where the database is to say."""
        return columns_of(f"Table {self.table}", self.key)

    def count(self, kind: str) -> int:
        """How many rows of a kind are expected."""
        expected: Expected = getattr(self, kind)
        return expected if isinstance(expected, int) else len(expected)

    def named(self) -> Iterator[tuple[str, tuple[Value, ...], tuple[Value, ...]]]:
        """Each row that is named, as (kind, key, identity)."""
        for kind in ("updated", "deleted"):
            expected: Expected = getattr(self, kind)
            if not isinstance(expected, int):
                for key, identity in Rows(key=self.key, expect=expected, identity=self.identity).expected():
                    yield kind, key, identity if self.identity else ()


def check_housekeeping(where: str, columns: Collection[str], spoken_for: Iterable[str]) -> None:
    """Refuse housekeeping columns that the fix itself depends on."""
    if isinstance(columns, str):
        raise DeclarationError(f"{where}: housekeeping={columns!r} is one text; give a list of columns.")
    if both := sorted(set(columns) & set(spoken_for)):
        raise DeclarationError(
            f"{where}: {', '.join(both)} is housekeeping, which is not given back, and also part of the key or set."
        )
