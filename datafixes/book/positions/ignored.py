"""Instruments that an operator leaves out of the comparison: by name, and reported wherever something is compared."""

from collections.abc import Mapping

from datafixes.book.positions.symbols import NoSymbol, parse_symbol
from datafixes.book.settings import BookSettings
from datafixes.errors import SettingError


def instrument_of(text: str) -> str:
    """The name of an instrument, the same however it is written: a symbol, or whatever the broker calls it."""
    try:
        return str(parse_symbol(text))
    except NoSymbol:
        return " ".join(text.split()).upper()


def ignored_of(settings: BookSettings) -> Mapping[str, frozenset[str]]:
    """By account, the instruments that are not compared.

    Raises:
        SettingError: the settings do not know such an account.
    """
    check_accounts(settings, "broker_ignore")
    found: dict[str, set[str]] = {}
    for account, instrument in settings.broker_ignore:
        found.setdefault(account, set()).add(instrument_of(instrument))
    return {account: frozenset(names) for account, names in found.items()}


def check_accounts(settings: BookSettings, name: str) -> None:
    """Refuse a setting that speaks of an account that there is none of.

    Args:
        settings: all of them.
        name: the setting, whose value is pairs of an account and something else.

    Raises:
        SettingError: the settings do not know such an account.
    """
    for account, _ in getattr(settings, name):
        if account not in settings.broker_accounts:
            known = ", ".join(settings.broker_accounts) or "none"
            raise SettingError(
                f"{name} is {settings.shown(name)!r} ({settings.origins[name]}): broker_accounts has no account"
                f" {account}. Known: {known}."
            )
