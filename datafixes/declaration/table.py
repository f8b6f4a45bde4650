"""A table of a recorded fix: its audit table, its key, and the expected changes."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from datafixes.declaration.expressions import Value, check_identifiers, check_text
from datafixes.declaration.rows import (
    AtMost,
    Expected,
    Rows,
    check_tolerance,
    columns_of,
    count_of,
    names_rows,
)
from datafixes.errors import DeclarationError

KINDS = ("inserted", "updated", "deleted")
"""The kinds of changes of a row."""


@dataclass(frozen=True)
class Table:
    """A table that a recorded fix may change, and the expected changes.

    Only the difference between before and after counts: a row that is changed three times counts as updated once, and a
    row that is set back to its old values does not count.

    Args:
        table: its catalog name (no quotes, no schema).
        audit: the audit table for the copies, created by ``op.create_audit_table``.
        schema: its schema.
        key: the column, or the columns, of a unique key. By default the primary key identifies rows, or else another
            unique key that is never null, or else the whole image of a row; then an update counts as ``deleted`` and
            ``inserted``.
        inserted: the number of inserted rows, or a bound: ``AtMost(5_000)``.
        updated: the number of updated rows, a bound, or the rows: a collection of keys, or ``{key: identity}``.
        deleted: the same for deleted rows.
        tolerance: by how many rows a number found may differ from the number expected.
        identity: name -> SQL expression over the old row that identifies it beyond its key.
        ensure: a condition that every inserted or updated row must meet afterwards.
        housekeeping: columns such as ``updated_at`` that others write all the time: they are copied, but are never a
            conflict and are not restored.
    """

    table: str
    audit: str
    schema: str = "public"
    key: str | tuple[str, ...] = ()
    inserted: int | AtMost = 0
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
        check_tolerance(f"Table {self.table}", self.tolerance, *(getattr(self, kind) for kind in KINDS))

    def _check_expected(self, kind: str, expected: Expected) -> None:
        if isinstance(expected, bool) or (isinstance(expected, int) and expected < 0):
            raise DeclarationError(f"Table {self.table}: {kind}={expected!r} is not a number of rows.")
        if not names_rows(expected):
            return
        if not isinstance(expected, Collection):
            raise DeclarationError(f"Table {self.table}: {kind}={expected!r} is neither a number nor rows.")
        if kind == "inserted":
            raise DeclarationError(
                f"Table {self.table}: inserted must be a number, because new rows have no keys yet."
            )
        if not self.key_columns:
            raise DeclarationError(
                f'Table {self.table}: {kind} names rows by their key, so key is required: key="id".'
            )
        # The rules are those of a declared fix.
        Rows(key=self.key, expect=expected, identity=self.identity)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the key, always as a tuple; empty if the database decides."""
        return columns_of(f"Table {self.table}", self.key)

    def count(self, kind: str) -> int:
        """The number of rows of a kind that are expected; of a bound, the largest."""
        return count_of(getattr(self, kind))

    @property
    def bounded(self) -> tuple[str, ...]:
        """The kinds of which only the largest number is said."""
        return tuple(kind for kind in KINDS if isinstance(getattr(self, kind), AtMost))

    def named(self) -> Iterator[tuple[str, tuple[Value, ...], tuple[Value, ...]]]:
        """Each row that is named, as (kind, key, identity)."""
        for kind in ("updated", "deleted"):
            expected: Expected = getattr(self, kind)
            if names_rows(expected):
                for key, identity in Rows(key=self.key, expect=expected, identity=self.identity).expected():
                    yield kind, key, identity if self.identity else ()


def check_housekeeping(where: str, columns: Collection[str], spoken_for: Iterable[str]) -> None:
    """Refuse housekeeping columns that the fix itself depends on."""
    if isinstance(columns, str):
        raise DeclarationError(
            f"{where}: housekeeping={columns!r} is a string; it must be a list of columns."
        )
    if both := sorted(set(columns) & set(spoken_for)):
        raise DeclarationError(
            f"{where}: {', '.join(both)} is housekeeping, which is not restored, but also part of the key or set."
        )
