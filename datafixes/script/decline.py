"""The script that declines a fix for this database; the ledger records who decided that, and why."""

from datafixes.declaration.recorded import Declared
from datafixes.script import literal
from datafixes.script.context import Context, declared
from datafixes.script.frame import Limits, Script, frame

_BLOCK = """
BEGIN
    -- Only at this revision; the fix is not in force. Its rows are not checked: the ledger gets a line, and the
    -- version moves.
    PERFORM pg_temp.datafix_decline({declaration},
        {version_table});
END
"""


def decline_script(fix: Declared, because: str, context: Context, limits: Limits) -> Script:
    """The script that records that a fix is declined for this database.

    Args:
        fix: its declaration.
        because: why, in the operator's words.
        context: the context of the run.
        limits: the time-outs.
    """
    fuse = f"decline {fix.name}"
    facts = declared(fix, context, fuse) | {"change": "decline", "declined_because": because}
    block = _BLOCK.format(
        declaration=literal.json_body(facts, "fix"), version_table=context.version_table_oid
    )
    revision = f", revision {context.revision}" if context.revision else ""
    return frame(f"datafix {fix.name}: declined{revision}\n{because}", fuse, block, limits)
