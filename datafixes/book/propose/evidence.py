"""The evidence of a proposal in words: the rows of the book, and the broker's data."""

from datafixes.audit.wording import counted, moment
from datafixes.book.positions.numbers import digits
from datafixes.book.propose.closing import Closing, Exit
from datafixes.book.rows.row import BookRow


def row_text(row: BookRow, what: str) -> str:
    """A row of the book, and a comment on it."""
    one = row.position
    since = f" since {moment(one.opened_at)}" if one.opened_at else ""
    price = f" at {one.entry_price}" if one.entry_price is not None else ""
    return f"{one.id} {one.account} {row.written}: {digits(one.quantity)}{since}{price}; {what}"


def exit_text(true: Exit | None, closing: Closing) -> str:
    """How a phantom was closed, according to the broker."""
    words = ", ".join(
        f"order {fill.order_id}: {digits(fill.quantity)} at {digits(fill.price)}, {moment(fill.filled_at)}"
        for fill in closing.fills
    )
    if true:
        return f"closed by {words}"
    why = closing.doubt or "the book does not give its entry price or its number of shares"
    return f"a neutral exit: {why}{f': {words}' if words else ''}"


def rows_are(rows: int) -> str:
    """``1 row is``, ``7 rows are``."""
    return f"{counted(rows, 'row')} {'is' if rows == 1 else 'are'}"
