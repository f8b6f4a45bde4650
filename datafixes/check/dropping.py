"""Revisions that drop audit tables or the ledger like any other table, usually written by autogenerate."""

from collections.abc import Iterable, Iterator

from datafixes.check.finding import Finding
from datafixes.check.following import strings_of
from datafixes.check.later import Facts
from datafixes.check.module import argument
from datafixes.check.op_shapes import Table
from datafixes.script.tables import LEDGER, LEDGER_TABLES


def dropped_copies(everything: Iterable[Facts], wanted: Iterable[Facts]) -> Iterator[tuple[Facts, Finding]]:
    """Findings about upgrades that drop an audit table or the ledger.

    Args:
        everything: all revisions, which create the audit tables.
        wanted: the revisions to check.
    """
    audits = {table for one in everything for table in _made_by(one)}
    ledgers = {(schema, name) for schema, _ in audits for name in (LEDGER, LEDGER_TABLES)}
    for facts in wanted:
        for one in facts.upward:
            if one.shape.deed == "drops" and not one.shape.column and one.shape.table in audits | ledgers:
                what = "the ledger" if one.shape.table in ledgers else "the only copies of rows"
                yield (
                    facts,
                    facts.module.finding("FIX506", one.call, f"{one.shape.told} is dropped: {what}."),
                )


def _made_by(facts: Facts) -> Iterator[Table]:
    """The audit tables that a revision creates."""
    for call in facts.module.calls_by_name.get("create_audit_table", []):
        schemas = [
            one
            for name in ("audit_schema", "schema")
            for one in strings_of(facts.module, argument(call, None, name))
        ]
        for name in strings_of(facts.module, argument(call, None, "name")):
            yield (schemas[0] if schemas else "public"), name
