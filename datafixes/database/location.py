"""Finds the database of a run: the first place that names one, or an error that lists all places."""

from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from datafixes.database import aws
from datafixes.errors import DatabaseNotFound, SettingError
from datafixes.settings import SETTINGS, Settings
from datafixes.settings.values import USER_INFO, masked

EMBEDDED = "embedded"

_FORM = "postgresql://ROLE:PASSWORD@HOST:PORT/DATABASE"
_PLACEHOLDER = "driver://user:pass@localhost/dbname"

# Options of asyncpg and its dialect: those that libpq calls otherwise, and those that it does not know.
_OF_LIBPQ = {"ssl": "sslmode", "timeout": "connect_timeout"}
_OF_ASYNCPG = frozenset({
    "async_fallback", "command_timeout", "max_cacheable_statement_size", "max_cached_statement_lifetime",
    "prepared_statement_cache_size", "prepared_statement_name_func", "statement_cache_size",
})  # fmt: skip


@dataclass(frozen=True)
class Location:
    """The location of a database, and its origin.

    Attributes:
        url: for SQLAlchemy, always with a driver. For the embedded server the driver is `embedded`, and the
            database is the path of its directory or None.
        origin: the place that named it, such as `environment DATABASE_URL`.
    """

    url: URL
    origin: str

    @property
    def is_embedded(self) -> bool:
        """Whether a private server must be started first."""
        return self.url.drivername == EMBEDDED

    @property
    def masked(self) -> str:
        """The URL without its password."""
        if self.is_embedded:
            return f"{EMBEDDED}:{self.url.database or ''}"
        return masked(self.url.render_as_string(hide_password=True))


def locate(settings: Settings) -> Location:
    """Find the database: `-x url`, DATABASE_URL, sqlalchemy.url, then AWS if the project has configured it.

    No connection is made.

    Raises:
        DatabaseNotFound: no place names one; the message has a line for each place.
        SettingError: a place names something that is not a PostgreSQL database.
    """
    origin = settings.origins["url"]
    if settings.url and settings.url != _PLACEHOLDER:
        return Location(_read(settings.url, origin), origin)
    missing = [name for name in ("aws_parameters", "aws_secret") if not getattr(settings, name)]
    if missing:
        problems: tuple[tuple[str, str], ...] = (("AWS", _unconfigured(missing)),)
    else:
        answer = aws.look_up(settings)
        if answer.url is not None:
            return Location(answer.url, answer.origin)
        problems = answer.problems
    places = (f"  {place}: {wrong}" for place, wrong in (*_unset(settings), *problems))
    credentials = "" if missing else ", or give alembic AWS credentials that may read these parameters"
    raise DatabaseNotFound(
        "\n".join(["No database is configured. These places were searched:", *places]),
        hint=f"export DATABASE_URL={_FORM}{credentials}. "
        "To try it without a database server: alembic -x url=embedded: upgrade head",
    )


def _unconfigured(missing: list[str]) -> str:
    """Why AWS is not asked: its parameters are read only if the project names them."""
    return f"not asked, because alembic.ini [datafixes] does not set {' and '.join(missing)}"


def _unset(settings: Settings) -> list[tuple[str, str]]:
    [row] = (setting for setting in SETTINGS if setting.name == "url")
    option = "Alembic's own placeholder" if settings.url == _PLACEHOLDER else "not set"
    return [
        ("-x url", "not given"),
        *((f"environment {variable}", "not set") for variable in row.environment),
        (f"alembic.ini {row.ini}", option),
    ]


def _read(text: str, origin: str) -> URL:
    """Parse a URL; no error shows its text, because an unparsable text may contain a password anywhere."""
    if text.startswith("lambda:"):
        raise SettingError(
            f"The URL from {origin} is a Lambda, which only answers SELECT: fixes cannot run there.",
            hint=f"Name the database itself: {_FORM}.",
        )
    if text.startswith(f"{EMBEDDED}:"):
        path = text.removeprefix(f"{EMBEDDED}:")
        if path.startswith("//"):
            raise SettingError(f"The URL from {origin} has slashes: write embedded: or embedded:PATH.")
        return URL.create(EMBEDDED, database=path or None)
    try:
        url = make_url(_escaped(text))
    except (ArgumentError, ValueError):
        raise SettingError(f"The URL from {origin} cannot be parsed.", hint=f"The form is {_FORM}.") from None
    if url.drivername in ("postgresql", "postgres"):
        # SQLAlchemy 2.1 takes psycopg 3 for a bare postgresql://, and knows no postgres://.
        url = url.set(drivername="postgresql+psycopg2")
    if url.get_backend_name() != "postgresql":
        raise SettingError(
            f"The URL from {origin} is for {url.get_backend_name()}, but data fixes need PostgreSQL.",
            hint=f"The form is {_FORM}.",
        )
    return _with_synchronous_driver(url, origin)


def _escaped(text: str) -> str:
    """Escape an @ in a password, which SQLAlchemy would treat as the end of the password."""
    match = USER_INFO.match(text)
    if match is None or match["password"] is None or "@" not in match["password"]:
        return text
    return f"{match['before']}{match['user']}:{quote(match['password'], safe='%')}@{text[match.end() :]}"


def _with_synchronous_driver(url: URL, origin: str) -> URL:
    """The same place for a driver that waits: a project whose env.py is asynchronous names one that does not."""
    try:
        asynchronous = url.get_dialect().is_async
    except NoSuchModuleError:
        raise SettingError(
            f"The URL from {origin} names a driver that SQLAlchemy does not know.",
            hint=f"Leave it out: {_FORM}.",
        ) from None
    if not asynchronous:
        return url
    # psycopg2 is always there; a project that has chosen another driver shall not load it without need.
    driver = "psycopg" if find_spec("psycopg") is not None else "psycopg2"
    query = {_OF_LIBPQ.get(name, name): value for name, value in url.query.items() if name not in _OF_ASYNCPG}
    if query.get("sslmode") in ("true", "True"):
        query["sslmode"] = "require"
    return url.set(drivername=f"postgresql+{driver}", query=query)
