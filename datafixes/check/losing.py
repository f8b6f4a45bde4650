"""Upgrades that lose values through a table's definition, and downgrades that bring nothing back."""

import re
from collections.abc import Set

from datafixes.check.acting import says_nothing
from datafixes.check.finding import Finding
from datafixes.check.module import Module
from datafixes.check.own import Own
from datafixes.check.sql_deeds import Shape, Table, words_of
from datafixes.check.texts import texts_of

_MOVING, _WORD = re.compile(r"\b(select|update|insert)\b"), re.compile(r"\w+")
_LOSING = ("FIX601", "FIX602", "FIX603")
_TELLING = ("FIX501", "FIX502", "FIX503", "FIX506")


def loss_of(module: Module, shape: Shape, own: Own, copied: Set[Table]) -> tuple[str, str] | None:
    """Code and message of a loss.

    Args:
        module: the revision.
        shape: a change of a definition.
        own: what the revision made before; its values are no loss, nor those that it moved elsewhere.
        copied: the tables of which a fix of this revision keeps copies.
    """
    table, column = shape.table, shape.column
    if own.has_table(table) or (table, column) in own.columns or table in copied:
        return None
    if shape.deed == "retypes" and shape.mapping:
        mapping = shape.mapping if len(shape.mapping) <= 60 else f"{shape.mapping[:57]}..."
        return "FIX603", f"The values of {shape.words} are replaced by {mapping}."
    if shape.deed != "drops":
        return None
    if column:
        if column.lower() in _moved(module, own):
            return None
        return "FIX601", f"The values of {shape.words} are lost when it is dropped."
    if table[1] == "*":
        return "FIX602", f"The rows of all tables of the schema {table[0]} are lost when it is dropped."
    if table[1].lower() in _moved(module, own):
        return None
    return "FIX602", f"The rows of {words_of(table) or 'a table'} are lost when it is dropped."


def _moved(module: Module, own: Own) -> set[str]:
    """The words of statements that may have moved values to another place."""
    texts = {text.value.lower() for one in own.statements for text in texts_of(module, one)}
    return {word for text in texts if _MOVING.search(text) for word in _WORD.findall(text)}


def losses(module: Module, found: list[Finding]) -> list[Finding]:
    """Findings without the losses of which others tell, and with one about an empty downgrade of the rest."""
    told = {(one.line, one.column) for one in found if one.code in _TELLING}
    left = [one for one in found if one.code not in _LOSING or (one.line, one.column) not in told]
    function = module.functions.get("downgrade")
    empty = function is not None and all(says_nothing(one) for one in function.body)
    if function is not None and empty and any(one.code in _LOSING for one in left):
        message = "downgrade() is empty, though the upgrade loses values: it brings nothing back."
        left.append(module.finding("FIX604", function, message))
    return left
