"""Which database a run is for, as far as no database and no cloud need to be asked."""

import traceback

import pytest

import datafixes.database.location as location_module
from datafixes.database.location import Location, locate
from datafixes.errors import DatabaseNotFound, SettingError
from datafixes.settings import Settings


def location(url: str) -> Location:
    return locate(Settings.resolve({"url": url}, {}, {}))


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://ops@host/db", "postgresql+psycopg2"),
        ("postgres://ops@host/db", "postgresql+psycopg2"),
        ("postgresql+psycopg2://ops@host/db", "postgresql+psycopg2"),
        ("postgresql+psycopg://ops@host/db", "postgresql+psycopg"),
    ],
)
def test_bare_url_means_psycopg2_and_a_named_driver_stays(url: str, driver: str) -> None:
    assert location(url).url.drivername == driver


def test_origin_is_remembered() -> None:
    settings = Settings.resolve(
        {}, {"DATABASE_URL": "postgresql://b/db"}, {"sqlalchemy.url": "postgresql://c/db"}
    )
    assert (locate(settings).url.host, locate(settings).origin) == ("b", "environment DATABASE_URL")


def test_socket_directory() -> None:
    url = location("postgresql://postgres@/db?host=/run/some%20where").url
    assert (url.host, url.database, dict(url.query)) == (None, "db", {"host": "/run/some where"})


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("p@ss", "p@ss"),
        ("p%40ss", "p@ss"),
        ("a/b?c#d:e", "a/b?c#d:e"),
        ("x/y@z@", "x/y@z@"),
        ("100%", "100%"),
        ("p%25@40", "p%@40"),
        ("a b+c&d=e", "a b+c&d=e"),
        ("ümläut", "ümläut"),
    ],
)
def test_odd_passwords(written: str, password: str) -> None:
    found = location(f"postgresql://ops:{written}@host:5433/db?application_name=me")
    assert (found.url.password, found.url.host, found.url.port, found.url.database) == (
        password,
        "host",
        5433,
        "db",
    )
    assert found.masked == "postgresql+psycopg2://ops:***@host:5433/db?application_name=me"


@pytest.mark.parametrize(
    ("asynchronous", "waits"),
    [
        ("postgresql+asyncpg://ops:pw@host:5433/db", "ops:pw@host:5433/db"),
        ("postgresql+psycopg_async://ops@host/db?sslmode=require", "ops@host/db?sslmode=require"),
        ("postgresql+asyncpg://ops@/db?host=/tmp&ssl=verify-full", "ops@/db?host=%2Ftmp&sslmode=verify-full"),
        (
            "postgresql+asyncpg://ops@host/db?ssl=true&timeout=5",
            "ops@host/db?connect_timeout=5&sslmode=require",
        ),
        (
            "postgresql+asyncpg://ops@host/db?prepared_statement_cache_size=0&command_timeout=60",
            "ops@host/db",
        ),
    ],
)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_driver_that_waits_reads_the_same_place(
    asynchronous: str, waits: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"psycopg": object()} if driver == "psycopg" else {}
    monkeypatch.setattr(location_module, "find_spec", there.get)
    assert (
        location(asynchronous).url.render_as_string(hide_password=False) == f"postgresql+{driver}://{waits}"
    )


def test_password_in_the_query_is_masked() -> None:
    assert "HIDDEN" not in location("postgresql://ops@/db?host=/tmp&password=HIDDEN").masked


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///HIDDEN.db", "is for sqlite, but data fixes need PostgreSQL"),
        ("mysql://ops:HIDDEN@host/db", "is for mysql"),
        ("HIDDEN", "cannot be parsed"),
        ("host=here dbname=db password=HIDDEN", "cannot be parsed"),
        ("postgresql://ops:HIDDEN@host:port/db", "cannot be parsed"),
        ("postgresql://ops:HIDDEN/db", "cannot be parsed"),
        ("postgresql+nothing://ops:HIDDEN@host/db", "a driver that SQLAlchemy does not know"),
        ("embedded://HIDDEN", "write embedded: or embedded:PATH"),
    ],
)
def test_refused_without_showing_the_url(url: str, words: str) -> None:
    with pytest.raises(SettingError, match="The URL from -x url") as caught:
        location(url)
    assert words in caught.value.message
    assert "HIDDEN" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("url", "path"), [("embedded:", None), ("embedded:/data/here", "/data/here")])
def test_embedded_is_chosen_by_name(url: str, path: str | None) -> None:
    found = location(url)
    assert (found.is_embedded, found.url.database, found.masked) == (True, path, url)
    assert not location("postgresql://ops@host/embedded").is_embedded


@pytest.mark.parametrize("ini", [{}, {"sqlalchemy.url": "driver://user:pass@localhost/dbname"}])
def test_nothing_found_lists_every_place(ini: dict[str, str]) -> None:
    with pytest.raises(DatabaseNotFound) as caught:
        locate(Settings.resolve({}, {}, ini))
    lines = caught.value.message.splitlines()
    assert lines[1:3] == ["  -x url: not given", "  environment DATABASE_URL: not set"]
    why = "Alembic's own placeholder" if ini else "not set"
    assert lines[3] == f"  alembic.ini sqlalchemy.url: {why}"
    assert lines[4:] == [
        "  AWS: not asked, because alembic.ini [datafixes] does not set aws_parameters and aws_secret"
    ]
    assert caught.value.hint.startswith("export DATABASE_URL=")
    assert "credentials" not in caught.value.hint


@pytest.mark.parametrize(
    ("ini", "missing"),
    [
        ({"aws_parameters": "/shop/"}, "aws_secret"),
        ({"aws_secret": "shop/db", "aws_region": "eu-central-1"}, "aws_parameters"),
        ({"aws_region": "eu-central-1"}, "aws_parameters and aws_secret"),
    ],
)
def test_aws_is_asked_only_where_a_project_says_all_of_what_to_ask(ini: dict[str, str], missing: str) -> None:
    with pytest.raises(DatabaseNotFound) as caught:
        locate(Settings.resolve({}, {}, ini))
    line = f"  AWS: not asked, because alembic.ini [datafixes] does not set {missing}"
    assert caught.value.message.splitlines()[4:] == [line]


def test_where_aws_is_set_up_it_is_the_last_place() -> None:
    ini = {"aws_region": "eu-central-1", "aws_parameters": "/shop", "aws_secret": "shop/db"}
    with pytest.raises(DatabaseNotFound) as caught:
        locate(Settings.resolve({}, {}, ini))
    lines = caught.value.message.splitlines()
    assert "AWS eu-central-1, SSM /shop/db_*, secret shop/db: no credentials" in lines[4]
    assert len(lines) == 5
    assert "AWS credentials" in caught.value.hint
