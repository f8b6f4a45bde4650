"""One thing that can be set, and the places from which its value is taken."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from datafixes.errors import SettingError
from datafixes.settings.values import masked

URL_OPTION = "sqlalchemy.url"


@dataclass(frozen=True)
class Setting:
    """One thing that can be set: a row of a table of settings.

    Attributes:
        name: the field of the settings' class, and the name after `alembic -x`.
        meaning: one line for a reader of the settings.
        parse: turns text into the value; raises ValueError with what is wrong.
        default: the text that counts when no place has a value.
        environment: the variables that may hold it, the first one that is not empty wins.
        ini: the option in the section [datafixes] of alembic.ini; an empty string when there is none.
        show: turns the value into text; passwords in URLs are masked afterwards.
        is_secret: whether a text that cannot be parsed may be a secret, so that no error shows it.
        derive: where no place has it, what the environment as a whole says, and where; an empty text is nothing.
    """

    name: str
    meaning: str
    parse: Callable[[str], Any]
    default: str = ""
    environment: tuple[str, ...] = ()
    ini: str = ""
    show: Callable[[Any], str] = str
    is_secret: bool = False
    derive: Callable[[Mapping[str, str]], tuple[str, str]] | None = None

    @classmethod
    def everywhere(
        cls, name: str, meaning: str, parse: Callable[[str], Any], default: str = "", **more: Any
    ) -> "Setting":
        """A setting that can be given in all three places.

        Args:
            name: its name; the variable is ``DATAFIXES_NAME``.
            meaning: one line for a reader of the settings.
            parse: turns text into the value.
            default: the text that counts when no place has a value.
            more: further attributes; ``environment`` names further variables.
        """
        variables = (f"DATAFIXES_{name.upper()}", *more.pop("environment", ()))
        return cls(name, meaning, parse, default, variables, name, **more)

    def shown(self, value: Any) -> str:
        """A value as text that may be printed."""
        return masked(self.show(value))


@dataclass(frozen=True, repr=False)
class Sources:
    """The places of one run, in the order in which they are asked; their text form is that of any object.

    Attributes:
        flags: what `alembic -x name=value` gave.
        environment: usually `os.environ`; an empty variable counts as missing.
        ini: the options of the section [datafixes], and `sqlalchemy.url` of the main section.
    """

    flags: Mapping[str, str]
    environment: Mapping[str, str]
    ini: Mapping[str, str]

    def first(self, setting: Setting) -> tuple[str, str]:
        """The text of a setting, and where it stands.

        Raises:
            SettingError: it was given after ``-x`` without a value.
        """
        if setting.name in self.flags:
            # `-x url=$URL` with an unset variable must not quietly run on another database.
            if not self.flags[setting.name].strip():
                raise SettingError(f"-x {setting.name}= is given without a value.")
            return self.flags[setting.name].strip(), f"-x {setting.name}"
        for variable in setting.environment:
            if self.environment.get(variable, "").strip():
                return self.environment[variable].strip(), f"environment {variable}"
        if self.ini.get(setting.ini, "").strip():
            section = "" if setting.ini == URL_OPTION else "[datafixes] "
            return self.ini[setting.ini].strip(), f"alembic.ini {section}{setting.ini}"
        if setting.derive is not None:
            return setting.derive(self.environment)
        return setting.default, "default"

    def resolve(self, table: Iterable[Setting]) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The value of each setting, and the origin of each.

        Args:
            table: the settings.

        Raises:
            SettingError: a value means nothing.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for setting in table:
            text, origin = self.first(setting)
            try:
                values[setting.name] = setting.parse(text)
            except ValueError as error:
                # Who writes the keys themselves where their name belongs must not find them in a log.
                given = "not readable" if setting.is_secret else repr(masked(text))
                raise SettingError(f"{setting.name} is {given} ({origin}): {error}") from None
            origins[setting.name] = origin
        return values, MappingProxyType(origins)
