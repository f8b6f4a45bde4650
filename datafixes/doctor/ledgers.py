"""Whether the ledgers have the version that this package writes."""

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask, ledger_schemas
from datafixes.report.document import Fact, bad, good
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER, LEDGER_VERSION

# The name of a constraint holds the version; 0.1 had none.
_VERSION = """
SELECT coalesce(max(CAST(substring(k.conname FROM '^datafix_run_is_version_([0-9]+)') AS integer)), 1),
       pg_catalog.pg_has_role(max(c.relowner), 'USAGE'), pg_catalog.pg_get_userbyid(max(c.relowner))
  FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_constraint AS k ON k.conrelid = c.oid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relname = {table} AND n.nspname = {schema}
"""


def check_ledgers(connection: Connection) -> list[Fact]:
    """Whether this package can write to each ledger."""
    return [_check(connection, schema) for schema in ledger_schemas(connection)]


def _check(connection: Connection, schema: str) -> Fact:
    ledger = qualified(schema, LEDGER)
    [(version, is_ours, owner)] = ask(connection, _VERSION.format(schema=text(schema), table=text(LEDGER)))
    told = f"{ledger} has version {version}"
    if version == LEDGER_VERSION:
        return good("ledger", f"{told}.")
    told += f", and this package writes version {LEDGER_VERSION}"
    if version > LEDGER_VERSION:
        return bad("ledger", f"{told}.", "pip install --upgrade datafixes")
    if not is_ours:
        where = "" if schema == "public" else f"audit_schema={schema!r}"
        return bad(
            "ledger",
            f"{told}; only its owner {owner} may upgrade it.",
            f"Let {owner} run the next migration, or one with op.update_ledger({where}).",
        )
    return good("ledger", f"{told}: the next run of a fix upgrades it.")
