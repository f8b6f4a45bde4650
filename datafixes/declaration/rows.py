"""The rows that a fix was written for."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datafixes.declaration.expressions import Value, check_identifiers, check_text, check_values
from datafixes.errors import DeclarationError

_MOST = 2**63 - 1  # PostgreSQL counts in bigint


@dataclass(frozen=True, repr=False)
class AtMost:
    """Any number of rows up to a bound, for databases that have different numbers of them.

    The engine notes the number that it found. If it found none, the fix is ``not_applicable``.

    Args:
        rows: the largest number of rows that the fix may change.
    """

    rows: int

    def __post_init__(self) -> None:
        if isinstance(self.rows, bool) or not isinstance(self.rows, int) or not 1 <= self.rows <= _MOST:
            raise DeclarationError(
                f"{self}: the bound is a number of rows, 1 or more, such as AtMost(5_000)."
            )

    def __repr__(self) -> str:
        return f"AtMost({self.rows!r})"


Expected = int | AtMost | Collection[Any] | Mapping[Any, Any]
"""What is expected: a number of rows, a bound, or the rows: a collection of keys, or a mapping key -> identity."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows that the fix was written for, which prove that it meets the right ones.

    Args:
        key: the column, or the columns, of a unique key of the target. It identifies a row in the audit table
            and when the fix is reverted.
        expect: the rows themselves, ``{key: identity}`` (an identity is a value, or a tuple of values if
            ``identity`` has several expressions), or a collection of keys, or the number of rows, or a bound:
            ``AtMost(5_000)``.
        identity: name -> SQL expression that identifies a row beyond its key. An id alone is not enough, because ids
            are reassigned.
        tolerance: by how many rows the number found may differ from a number in ``expect``.
        already: a condition that holds for an expected row that already is as declared. Such rows are reported and
            left alone.
        already_at_most: the maximum number of such rows; the fix is refused if there are more.
        required: refuse if none of the rows exists. By default the outcome is ``not_applicable``, because fresh, test
            and staging databases do not have production's rows.
        ensure: a condition that every changed row must meet afterwards.
    """

    key: str | tuple[str, ...]
    expect: Expected
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
                "Rows: already_at_most requires already, the condition for rows that already are as declared.",
                hint="For example already=\"status = 'closed'\".",
            )
        self._check_expected()

    def _check_expected(self) -> None:
        if not names_rows(self.expect):
            if self.identity:
                raise DeclarationError(
                    "Rows: identity needs the rows themselves in expect, as {key: identity}, not a number."
                )
            check_tolerance("Rows", self.tolerance, self.expect)
            return
        if self.tolerance:
            raise DeclarationError("Rows: tolerance goes with a number of rows, but expect names the rows.")
        if isinstance(self.expect, str):
            raise DeclarationError(f"Rows: expect={self.expect!r} is a string; it must be a list of keys.")
        if not isinstance(self.expect, Collection):
            raise DeclarationError(
                f"Rows: expect={self.expect!r}; it must be {{key: identity}}, a list of keys, a number or AtMost(...)."
            )
        if not self.expect:
            raise DeclarationError("Rows: expect is empty, so nothing would change.")
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
        return columns_of("Rows", self.key)

    @property
    def count(self) -> int:
        """The number of expected rows; of a bound, the largest."""
        return count_of(self.expect)

    @property
    def names_rows(self) -> bool:
        """Whether the rows are named one by one."""
        return names_rows(self.expect)

    def expected(self) -> Iterator[tuple[tuple[Value, ...], tuple[Value, ...]]]:
        """Each expected row as (key, identity), both as tuples; empty if only a number is expected."""
        if isinstance(self.expect, int | AtMost):
            return
        for key in self.expect:
            identity: Any = self.expect[key] if isinstance(self.expect, Mapping) else ()
            yield (
                key if isinstance(key, tuple) else (key,),
                identity if isinstance(identity, tuple) else (identity,),
            )


def names_rows(expected: Expected) -> bool:
    """Whether an expectation names the rows one by one."""
    return not isinstance(expected, int | AtMost)


def count_of(expected: Expected) -> int:
    """The number of rows of an expectation; of a bound, the largest."""
    if isinstance(expected, AtMost):
        return expected.rows
    return expected if isinstance(expected, int) else len(expected)


def check_tolerance(where: str, tolerance: int, *expected: Expected) -> None:
    """Refuse a tolerance beside a bound, which is one itself."""
    if tolerance and any(isinstance(one, AtMost) for one in expected):
        raise DeclarationError(f"{where}: tolerance goes with a number of rows; AtMost is the bound itself.")


def columns_of(where: str, key: object) -> tuple[str, ...]:
    """The columns of a key, given as one name or several."""
    if isinstance(key, str):
        return (key,)
    if not isinstance(key, tuple | list):
        raise DeclarationError(f"{where}: key is a {type(key).__name__}, not the name of a column.")
    return tuple(key)


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
