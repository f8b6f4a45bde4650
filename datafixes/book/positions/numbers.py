"""Parses and formats exact numbers of the book and the broker."""

from decimal import Decimal, InvalidOperation

_MOST_DIGITS = 15
"""The maximum number of digits before the point."""


def exact(value: object) -> Decimal | None:
    """An exact number; None if the text is not a plausible price or quantity."""
    text = str(value)
    try:
        number = Decimal(text if "_" not in text else "")
    except InvalidOperation:
        return None
    # Checked by its digits, because arithmetic could overflow.
    return number if number.is_finite() and number.adjusted() < _MOST_DIGITS else None


def digits(value: Decimal) -> str:
    """All digits of a number, without trailing zeros."""
    return f"{value.normalize():f}" if value else "0"
