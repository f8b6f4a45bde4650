"""The script that declines a fix: it does not run in this database, and the ledger keeps who decided that and why."""

from datafixes.declaration.recorded import Declared
from datafixes.script import literal
from datafixes.script.context import Context, declared
from datafixes.script.frame import Limits, Script, frame

_BLOCK = """
BEGIN
    -- This revision and no other; not in force. Nothing of the fix is looked at: the ledger gets a line, and the
    -- version moves.
    PERFORM pg_temp.datafix_decline({declaration},
        {version_table});
END
"""


def decline_script(fix: Declared, because: str, context: Context, limits: Limits) -> Script:
    """The script that writes down that a fix is not to run here.

    Args:
        fix: its declaration.
        because: why, in the operator's words.
        context: where and by whom it runs.
        limits: the time-outs.
    """
    fuse = f"decline {fix.name}"
    facts = declared(fix, context, fuse) | {"change": "decline", "declined_because": because}
    block = _BLOCK.format(
        declaration=literal.json_body(facts, "fix"), version_table=context.version_table_oid
    )
    revision = f", revision {context.revision}" if context.revision else ""
    return frame(f"datafix {fix.name}: declined{revision}\n{because}", fuse, block, limits)
