"""A setting, and the places from which its value is taken."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from datafixes.errors import SettingError
from datafixes.settings.values import masked

URL_OPTION = "sqlalchemy.url"


@dataclass(frozen=True)
class Setting:
    """A row of a table of settings.

    Attributes:
        name: the field of the settings' class, and the name after `alembic -x`.
        meaning: its description, in one line.
        parse: turns text into the value; raises ValueError with the problem.
        default: the text that is used if no place has a value.
        environment: its variables, of which the first non-empty one wins.
        ini: the option in [datafixes] of alembic.ini, and in [tool.datafixes] of pyproject.toml, or an empty string.
        show: turns the value into text; passwords in URLs are masked afterwards.
        is_secret: whether an unparsable text may be a secret, which no error may show.
        derive: computes a value and its origin from the whole environment, if no place has one; may be empty.
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
            meaning: its description, in one line.
            parse: turns text into the value.
            default: the text that is used if no place has a value.
            more: further attributes; ``environment`` names further variables.
        """
        variables = (f"DATAFIXES_{name.upper()}", *more.pop("environment", ()))
        return cls(name, meaning, parse, default, variables, name, **more)

    def shown(self, value: Any) -> str:
        """A value as text, without passwords."""
        return masked(self.show(value))


@dataclass(frozen=True, repr=False)
class Sources:
    """The places of one run, in the order of precedence; their repr shows no values.

    Attributes:
        flags: the `alembic -x name=value` options.
        environment: usually `os.environ`; an empty variable counts as missing.
        ini: the options of the section [datafixes], and `sqlalchemy.url` of the main section.
        toml: the options of the table [tool.datafixes] of pyproject.toml.
        known: settings of the program that runs the command, by name: text and origin. Only flags precede them.
    """

    flags: Mapping[str, str]
    environment: Mapping[str, str]
    ini: Mapping[str, str]
    known: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    toml: Mapping[str, str] = field(default_factory=dict)

    def first(self, setting: Setting) -> tuple[str, str]:
        """The text of a setting, and its origin.

        Raises:
            SettingError: it is given after ``-x`` without a value.
        """
        if setting.name in self.flags:
            # `-x url=$URL` with an unset variable must not quietly run on another database.
            if not self.flags[setting.name].strip():
                raise SettingError(f"-x {setting.name}= has no value.")
            return self.flags[setting.name].strip(), f"-x {setting.name}"
        if setting.name in self.known:
            return self.known[setting.name]
        for variable in setting.environment:
            if self.environment.get(variable, "").strip():
                return self.environment[variable].strip(), f"environment {variable}"
        if self.ini.get(setting.ini, "").strip():
            section = "" if setting.ini == URL_OPTION else "[datafixes] "
            return self.ini[setting.ini].strip(), f"alembic.ini {section}{setting.ini}"
        if self.toml.get(setting.ini, "").strip():
            return self.toml[setting.ini].strip(), f"pyproject.toml [tool.datafixes] {setting.ini}"
        if setting.derive is not None:
            return setting.derive(self.environment)
        return setting.default, "default"

    def resolve(self, table: Iterable[Setting]) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The value of each setting, and the origin of each.

        Args:
            table: the settings.

        Raises:
            SettingError: a value is invalid.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for setting in table:
            text, origin = self.first(setting)
            try:
                values[setting.name] = setting.parse(text)
            except ValueError as error:
                # A secret may be given by mistake where its name is expected, and must not get into a log.
                given = "not readable" if setting.is_secret else repr(masked(text))
                raise SettingError(f"{setting.name} is {given} ({origin}): {error}") from None
            origins[setting.name] = origin
        return values, MappingProxyType(origins)
