"""What an operator wants of a fix that runs in batches: a flag in the ledger, which its workers obey."""

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.progress import Progress
from datafixes.audit.running import running_fix
from datafixes.errors import DatafixError, sqlstate
from datafixes.script.literal import qualified, text
from datafixes.script.parameters import verbatim
from datafixes.script.tables import LEDGER

_DENIED = "42501"


def steer(connection: Connection, schema: str, fix: str, what: str | None) -> Progress:
    """Note a wish in the ledger, or clear it, and nothing else; the caller commits.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        fix: the fix.
        what: ``pause``, ``stop`` or None.

    Returns:
        how far the fix is, with the wish.

    Raises:
        DatafixError: no such fix is running, or this role may not write to the ledger.
    """
    found, ledger = running_fix(connection, schema, fix), qualified(schema, LEDGER)
    value = "NULL" if what is None else text(what)
    statement = f"UPDATE {ledger} SET wish = {value} WHERE run_id = {found.run_id} AND outcome = 'running'"
    try:
        connection.exec_driver_sql(verbatim(connection, statement))
    except DBAPIError as error:
        if sqlstate(error) != _DENIED:
            raise
        raise DatafixError(
            f"This role may not write the wish to the ledger {ledger}.",
            hint=f"Its owner can allow just that: GRANT UPDATE (wish) ON {ledger} TO ...;",
        ) from None
    return running_fix(connection, schema, fix)
