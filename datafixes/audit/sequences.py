"""Finds sequences that are behind their table, as after an insert with its own ids."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.changes import View
from datafixes.audit.history import ask
from datafixes.audit.images import TableOfRun
from datafixes.declaration.fix import DataFix, Update
from datafixes.declaration.recorded import Fix
from datafixes.script.literal import name, text

_SHOWN = 10

# The integer columns with a sequence, by identity or by default: an identity's sequence belongs to the root of a
# partitioned table; a default may name any sequence. Only unique columns, because elsewhere a repeated number is no error;
# and the numbers of images, which are unique without an index.
# Then: whether an index finds the largest number quickly; whether the column can hold numbers beyond the sequence's range.
_SEQUENCES = r"""
WITH target AS (SELECT CAST(to_regclass({table}) AS oid) AS relid),
     family AS (SELECT relid FROM target UNION SELECT a.relid FROM target, LATERAL pg_partition_ancestors(target.relid) AS a),
     numbered AS (
        SELECT c.attname, d.objid AS sequence
          FROM family JOIN pg_depend AS d ON d.refobjid = family.relid AND d.deptype = 'i' AND d.refobjsubid > 0
                                         AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
          JOIN pg_attribute AS c ON c.attrelid = d.refobjid AND c.attnum = d.refobjsubid
        UNION
        SELECT c.attname, d.refobjid
          FROM target JOIN pg_attrdef AS def ON def.adrelid = target.relid
          JOIN pg_attribute AS c ON c.attrelid = def.adrelid AND c.attnum = def.adnum
          JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = def.oid AND d.refclassid = 'pg_class'::regclass
         WHERE pg_get_expr(def.adbin, def.adrelid) ~ '^[(]*nextval[(]''([^'']|'''')+''::regclass[)]+(::(smallint|integer|bigint))?$')
SELECT a.attname, CAST(s.seqrelid::regclass AS text), s.seqincrement, s.seqmin, s.seqmax, s.seqcycle,
       has_table_privilege(a.attrelid, 'SELECT') AND (a.attname = 'audit_id' OR EXISTS (
           SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
            WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indpred IS NULL AND i.indisvalid AND m.amname = 'btree')),
       CASE WHEN s.seqincrement > 0 THEN s.seqmax < 2::numeric ^ (8 * t.typlen - 1) - 1 ELSE s.seqmin > - 2::numeric ^ (8 * t.typlen - 1) END
  FROM target JOIN numbered ON true
  JOIN pg_attribute AS a ON a.attrelid = target.relid AND a.attname = numbered.attname
  JOIN pg_type AS t ON t.oid = a.atttypid
  JOIN pg_sequence AS s ON s.seqrelid = numbered.sequence
 WHERE coalesce(nullif(t.typbasetype, 0), t.oid) IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
   AND has_sequence_privilege(s.seqrelid, 'SELECT')
   AND has_schema_privilege((SELECT c.relnamespace FROM pg_class AS c WHERE c.oid = s.seqrelid), 'USAGE')
   AND (a.attname = 'audit_id'
        OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid
                      AND a.attnum = ANY ((i.indkey::smallint[])[0 : i.indnkeyatts - 1])))
 ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Sequence:
    """A sequence, and a column that takes its numbers.

    Attributes:
        table: the table's name in SQL.
        column: the column.
        name: the sequence's name in SQL.
        increment: the step between two numbers.
        lowest: its smallest number.
        highest: its largest number.
        cycles: whether it starts again at its end.
        led: whether an index finds the largest number of the column, and this role may read it.
        narrow: whether the column can hold numbers beyond the last one.
        next: the number that it hands out next, if it is within its range.
    """

    table: str
    column: str
    name: str
    increment: int
    lowest: int
    highest: int
    cycles: bool
    led: bool
    narrow: bool
    next: int

    def to_come(self, number: str) -> str:
        """The SQL condition that the sequence will still hand out a number."""
        order = ">=" if self.increment > 0 else "<="
        return " AND ".join([f"{number} {order} {self.next}", *self._its_own(number)])

    def _its_own(self, number: str) -> list[str]:
        """The SQL conditions that a number is one of the sequence's, if the column can hold others."""
        conditions = []
        if self.narrow:
            conditions.append(
                f"{number} <= {self.highest}" if self.increment > 0 else f"{number} >= {self.lowest}"
            )
        if abs(self.increment) > 1:
            conditions.append(f"({number}::numeric - {self.next}) % {abs(self.increment)} = 0")
        return conditions

    def repair(self, furthest: int) -> str:
        """The SQL that advances it, and never sets it back; empty if that would reach its end.

        Args:
            furthest: the number that it must pass.
        """
        if not self.cycles and not self.lowest <= furthest + self.increment <= self.highest:
            return ""
        up = self.increment > 0
        taken = f"SELECT {'max' if up else 'min'}({name(self.column)}) FROM {self.table}"
        if conditions := self._its_own(name(self.column)):
            taken += f" WHERE {' AND '.join(conditions)}"
        known = f"SELECT last_value FROM {self.name}"
        return f"SELECT setval({text(self.name)}, {'greatest' if up else 'least'}(({taken}), ({known})))"


@dataclass(frozen=True)
class Behind:
    """A sequence that will hand out numbers that rows already have.

    Attributes:
        sequence: the sequence.
        numbers: the first of those numbers; empty if they are masked.
        count: how many there are; 0 if they were not counted.
        repair: the SQL that advances it; empty if that is impossible.
    """

    sequence: Sequence
    numbers: tuple[int, ...]
    count: int
    repair: str

    @property
    def position(self) -> str:
        """``public.coder_id_seq would hand out 3 next``; without the number if it is masked."""
        return self.sequence.name + (f" would hand out {self.sequence.next} next" if self.numbers else "")

    @property
    def words(self) -> str:
        """The warning about a run's own numbers."""
        shown = ", ".join(map(str, self.numbers)) or f"{self.count} of them, masked"
        if 0 < len(self.numbers) < self.count:
            shown += f" and {self.count - len(self.numbers)} more"
        return (
            f"{self.position}, and the fix inserts its own {self.sequence.column} into {self.sequence.table}: {shown};"
            f" later inserts would fail with duplicate keys. {self.remedy}"
        )

    @property
    def remedy(self) -> str:
        """What to do, in a sentence."""
        if self.repair:
            return f"Advance it after the insert: {self.repair};"
        return "It cannot be advanced: these numbers are at the end of its range."


def behind_of_run(
    connection: Connection, fix: Fix, run: int, table: TableOfRun, view: View
) -> tuple[Behind, ...]:
    """The sequences that are behind numbers which a run inserted into a table.

    Args:
        connection: the run's database.
        fix: its declaration.
        run: its number in the ledger.
        table: the table.
        view: which columns are masked.
    """
    if not (table.inserted or table.updated):
        return ()
    only = set(fix.change.set) if isinstance(fix, DataFix) and isinstance(fix.change, Update) else None
    found = []
    for sequence in sequences_of(connection, table.target):
        if sequence.column not in table.columns or (
            not table.inserted and only is not None and sequence.column not in only
        ):
            continue
        column, up = name(sequence.column), sequence.increment > 0
        images = f"SELECT i.{column} AS n FROM {table.audit} AS i WHERE"
        brought = f"({images} {table.images('after', 'i')} AND {sequence.to_come(f'i.{column}')}) EXCEPT ({images} {table.images('before', 'i')})"
        [(numbers, count, furthest)] = ask(
            connection,
            f"SELECT (array_agg(n ORDER BY n {'ASC' if up else 'DESC'}))[1:{_SHOWN}]::bigint[], count(*), {'max' if up else 'min'}(n)"
            f" FROM ({brought}) AS brought",
        )
        if count:
            seen = () if view.hides(table.target, sequence.column) else tuple(numbers)
            found.append(Behind(sequence, seen, count, sequence.repair(furthest)))
    return tuple(found)


def behind_of_table(connection: Connection, table: str) -> list[Behind]:
    """The sequences that are behind the rows of a table; those of columns without an index are not checked.

    A sequence that cycles repeats old numbers on purpose.

    Args:
        connection: the table's database.
        table: the table's name in SQL.
    """
    found = []
    for sequence in sequences_of(connection, table):
        if not sequence.led or sequence.cycles:
            continue
        column, furthest = name(sequence.column), "max" if sequence.increment > 0 else "min"
        query = f"SELECT {furthest}({column})::bigint FROM {table} WHERE {sequence.to_come(column)}"
        [(number,)] = ask(connection, query)
        if number is not None:
            found.append(Behind(sequence, (number,), 0, sequence.repair(number)))
    return found


def sequences_of(connection: Connection, table: str) -> list[Sequence]:
    """The sequences of unique columns of a table that this role may read.

    Args:
        connection: the table's database.
        table: the table's name in SQL.
    """
    found = []
    for column, sequence, increment, lowest, highest, cycles, led, narrow in ask(
        connection, _SEQUENCES.replace("{table}", text(table))
    ):
        [(last, called)] = ask(connection, f"SELECT last_value, is_called FROM {sequence}")
        following = last + (increment if called else 0)
        found.append(
            Sequence(table, column, sequence, increment, lowest, highest, cycles, led, narrow, following)
        )
    return found
