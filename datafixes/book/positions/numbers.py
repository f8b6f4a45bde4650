"""Exact numbers: from what a book or a broker writes, and back into digits."""

from decimal import Decimal, InvalidOperation

_MOST_DIGITS = 15
"""Before the point; no price and no quantity has more."""


def exact(value: object) -> Decimal | None:
    """What is written, exactly; None where that is no number that a price or a quantity can be."""
    text = str(value)
    try:
        number = Decimal(text if "_" not in text else "")
    except InvalidOperation:
        return None
    # Looked at by its digits: to calculate with it could overflow.
    return number if number.is_finite() and number.adjusted() < _MOST_DIGITS else None


def digits(value: Decimal) -> str:
    """All digits of a number, and no zeros behind them."""
    return f"{value.normalize():f}" if value else "0"
