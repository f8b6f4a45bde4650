"""Sequences that stand behind the rows they number, as after an insert that brought its own ids."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.changes import View
from datafixes.audit.history import ask
from datafixes.audit.images import TableOfRun
from datafixes.declaration.fix import DataFix, Update
from datafixes.declaration.recorded import Fix
from datafixes.script.literal import name, text

_SHOWN = 10

# The whole-number columns that a sequence numbers, by identity or by default: of an identity, the sequence belongs to the
# root of a partitioned table; a default may name any sequence. Only unique columns: elsewhere a number that comes twice is
# no error. Then: whether an index finds the largest number at once; whether the column holds numbers beyond the sequence's.
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
       has_table_privilege(a.attrelid, 'SELECT') AND EXISTS (
           SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
            WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indpred IS NULL AND i.indisvalid AND m.amname = 'btree'),
       CASE WHEN s.seqincrement > 0 THEN s.seqmax < 2::numeric ^ (8 * t.typlen - 1) - 1 ELSE s.seqmin > - 2::numeric ^ (8 * t.typlen - 1) END
  FROM target JOIN numbered ON true
  JOIN pg_attribute AS a ON a.attrelid = target.relid AND a.attname = numbered.attname
  JOIN pg_type AS t ON t.oid = a.atttypid
  JOIN pg_sequence AS s ON s.seqrelid = numbered.sequence
 WHERE coalesce(nullif(t.typbasetype, 0), t.oid) IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
   AND has_sequence_privilege(s.seqrelid, 'SELECT')
   AND has_schema_privilege((SELECT c.relnamespace FROM pg_class AS c WHERE c.oid = s.seqrelid), 'USAGE')
   AND EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid
                  AND a.attnum = ANY ((i.indkey::smallint[])[0 : i.indnkeyatts - 1]))
 ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Sequence:
    """A sequence, and a column that takes its numbers.

    Attributes:
        table: the table, as SQL names it.
        column: the column.
        name: the sequence, as SQL names it.
        increment: from one number to the next.
        lowest: its smallest number.
        highest: its largest number.
        cycles: whether it begins anew at its end.
        led: whether an index finds the largest number of the column, and this role may look.
        narrow: whether the column can hold numbers beyond the last one.
        next: the number that it hands out next; beyond its end, none is.
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
        """The SQL condition that a number is one that the sequence is still to hand out."""
        order = ">=" if self.increment > 0 else "<="
        return " AND ".join([f"{number} {order} {self.next}", *self._its_own(number)])

    def _its_own(self, number: str) -> list[str]:
        """The SQL conditions that a number is one of its own, where the column holds others too."""
        conditions = []
        if self.narrow:
            conditions.append(
                f"{number} <= {self.highest}" if self.increment > 0 else f"{number} >= {self.lowest}"
            )
        if abs(self.increment) > 1:
            conditions.append(f"({number}::numeric - {self.next}) % {abs(self.increment)} = 0")
        return conditions

    def mend(self, furthest: int) -> str:
        """What brings it forward, and never back, whenever it is run; empty where that would bring it to its end.

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
    """A sequence that is still to hand out numbers which rows have already.

    Attributes:
        sequence: the sequence.
        numbers: the first of those numbers; none where they are not to be seen.
        count: how many there are; of a table that was not counted, 0.
        mend: the SQL that brings it forward; empty where nothing can.
    """

    sequence: Sequence
    numbers: tuple[int, ...]
    count: int
    mend: str

    @property
    def stands(self) -> str:
        """``public.coder_id_seq would hand out 3 next``; without the number where that is not to be seen."""
        return self.sequence.name + (f" would hand out {self.sequence.next} next" if self.numbers else "")

    @property
    def words(self) -> str:
        """Of a run: what it brought, and what follows."""
        shown = ", ".join(map(str, self.numbers)) or f"{self.count} of them, masked"
        if 0 < len(self.numbers) < self.count:
            shown += f" and {self.count - len(self.numbers)} more"
        return (
            f"{self.stands}, and the fix brings its own {self.sequence.column} to {self.sequence.table}: {shown};"
            f" later inserts would fail with duplicate keys. {self.remedy}"
        )

    @property
    def remedy(self) -> str:
        """What to do, in a sentence."""
        if self.mend:
            return f"Bring it forward when the rows are there: {self.mend};"
        return "It would be at its end there: such numbers cannot be passed."


def behind_of_run(
    connection: Connection, fix: Fix, run: int, table: TableOfRun, view: View
) -> tuple[Behind, ...]:
    """The sequences that stand behind numbers which a run brought to a table.

    Args:
        connection: where the run was.
        fix: its declaration.
        run: its number in the ledger.
        table: the table.
        view: which columns may be seen.
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
        images = f"SELECT i.{column} AS n FROM {table.audit} AS i WHERE i.audit_run_id = {run} AND i.audit_image = "
        brought = f"({images}'after' AND {sequence.to_come(f'i.{column}')}) EXCEPT ({images}'before')"
        [(numbers, count, furthest)] = ask(
            connection,
            f"SELECT (array_agg(n ORDER BY n {'ASC' if up else 'DESC'}))[1:{_SHOWN}]::bigint[], count(*), {'max' if up else 'min'}(n)"
            f" FROM ({brought}) AS brought",
        )
        if count:
            seen = () if view.hides(table.target, sequence.column) else tuple(numbers)
            found.append(Behind(sequence, seen, count, sequence.mend(furthest)))
    return tuple(found)


def behind_of_table(connection: Connection, table: str) -> list[Behind]:
    """The sequences that stand behind the rows of a table; those whose columns have no index are not looked at.

    A sequence that cycles is meant to come by old numbers again.

    Args:
        connection: where to ask.
        table: the table, as SQL names it.
    """
    found = []
    for sequence in sequences_of(connection, table):
        if not sequence.led or sequence.cycles:
            continue
        column, furthest = name(sequence.column), "max" if sequence.increment > 0 else "min"
        query = f"SELECT {furthest}({column})::bigint FROM {table} WHERE {sequence.to_come(column)}"
        [(number,)] = ask(connection, query)
        if number is not None:
            found.append(Behind(sequence, (number,), 0, sequence.mend(number)))
    return found


def sequences_of(connection: Connection, table: str) -> list[Sequence]:
    """The sequences that number unique columns of a table, and that this role may read.

    Args:
        connection: where to ask.
        table: the table, as SQL names it.
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
