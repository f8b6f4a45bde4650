"""Instruments that an operator excludes from the comparison: by name, and reported in every comparison."""

from collections.abc import Mapping

from datafixes.book.positions.symbols import NoSymbol, parse_symbol
from datafixes.book.settings import BookSettings
from datafixes.errors import SettingError


def instrument_of(text: str) -> str:
    """The normalized name of an instrument: its symbol, or else the broker's name."""
    try:
        return str(parse_symbol(text))
    except NoSymbol:
        return " ".join(text.split()).upper()


def ignored_of(settings: BookSettings) -> Mapping[str, frozenset[str]]:
    """By account, the instruments that are not compared.

    Raises:
        SettingError: broker_accounts has no such account.
    """
    check_accounts(settings, "broker_ignore")
    found: dict[str, set[str]] = {}
    for account, instrument in settings.broker_ignore:
        found.setdefault(account, set()).add(instrument_of(instrument))
    return {account: frozenset(names) for account, names in found.items()}


def check_accounts(settings: BookSettings, name: str) -> None:
    """Refuse a setting that names an unknown account.

    Args:
        settings: all of them.
        name: the setting, whose value is pairs of an account and something else.

    Raises:
        SettingError: broker_accounts has no such account.
    """
    for account, _ in getattr(settings, name):
        if account not in settings.broker_accounts:
            known = ", ".join(settings.broker_accounts) or "none"
            raise SettingError(
                f"{name} is {settings.shown(name)!r} ({settings.origins[name]}): broker_accounts has no account"
                f" {account}. Known: {known}."
            )
