"""Long values, of which only the part around the first difference is read."""

from datafixes.audit.changes import Value, View

_REDACTED = -1
"""In the place of the length of a value."""
_CONTEXT = 200
"""So many characters before the first difference of long values are shown."""


def begin_of_part(before: str, after: str, view: View, *, is_spread: bool = False) -> str:
    """How many characters of two texts to leave out, in SQL: of longer ones, those far before the first difference.

    The length of what both share is found by halving.

    Args:
        before: an expression for a text, or NULL.
        after: another.
        view: how many characters are shown.
        is_spread: whether they are on the shards of a Citus cluster, which cannot halve: nothing is left out.
    """
    if is_spread:
        return "0"
    return f"""CASE WHEN greatest(length({before}), length({after})) > {view.characters}
            AND {before} COLLATE "C" <> {after} THEN (
        WITH RECURSIVE half (low, high) AS (
            SELECT 0, least(length({before}), length({after}))
            UNION ALL
            SELECT CASE WHEN same THEN middle ELSE low END, CASE WHEN same THEN high ELSE middle - 1 END
              FROM half CROSS JOIN LATERAL (SELECT (low + high + 1) / 2 AS middle) AS m
             CROSS JOIN LATERAL (SELECT left({before}, middle) COLLATE "C" = left({after}, middle) AS same) AS s
             WHERE low < high)
        SELECT greatest(max(low) - {min(_CONTEXT, view.characters // 3)}, 0) FROM half) ELSE 0 END"""


def part_of(text: str | None, characters: int | None, begin: int) -> Value:
    """A value of which a part was read, or all."""
    if characters == _REDACTED:
        return Value(None, redacted=True)
    return (
        Value(text, characters, start=begin) if text is not None and characters != len(text) else Value(text)
    )


def length_in_sql(value: str, is_redacted: str) -> str:
    """The length of a value's text, in SQL; of a redacted one, less than none."""
    length = f"length({value}::text)"
    return length if is_redacted == "false" else f"CASE WHEN {is_redacted} THEN {_REDACTED} ELSE {length} END"
