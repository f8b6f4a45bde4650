"""The settings of the book: where they come from, what is refused, and that a command names the one that is missing."""

from pathlib import Path

import pytest

from datafixes.book.settings import SETTINGS, BookSettings
from datafixes.errors import SettingError
from datafixes.settings import Settings
from tests.book.settings import OURS, book_settings
from tests.cli.commands import datafixes
from tests.projects import Ran

BARE = Settings.resolve({}, {}, {})


def test_no_setting_is_without_field_or_meaning() -> None:
    settings = BookSettings.of(BARE)
    names = {setting.name for setting in SETTINGS}
    assert set(settings.origins) == names
    assert set(BookSettings.__dataclass_fields__) - {"origins", "engine"} == names
    assert all(setting.meaning for setting in SETTINGS)
    assert set(settings.origins.values()) == {"default"}


def test_flag_before_environment_before_ini() -> None:
    environment = {"DATAFIXES_GRACE": "2min", "DATAFIXES_BOOK_TABLE": "public.b"}
    engine = Settings.resolve({"grace": "1min"}, environment, {"book_table": "public.c", "watch_every": "9s"})
    settings = BookSettings.of(engine)
    assert (str(settings.grace), settings.book_table) == ("1min", "public.b")
    assert settings.origins["grace"] == "-x grace"
    assert settings.origins["book_table"] == "environment DATAFIXES_BOOK_TABLE"
    assert settings.origins["watch_every"] == "alembic.ini [datafixes] watch_every"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("broker_ignore", "KLAR", "write ACCOUNT:INSTRUMENT"),
        ("broker_ignore", "large:", "write ACCOUNT:INSTRUMENT"),
        ("broker_ignore", "large:KLAR,large:KLAR", "large:KLAR is given twice"),
        ("log_streams", "large", "write ACCOUNT=PATTERN"),
        ("log_streams", "=pm-*", "write ACCOUNT=PATTERN"),
        ("broker", "ibkr", "write alpaca, or file:"),
        ("task_revision", "0", "write a revision such as 8"),
        ("grace", "5", "a number and a unit"),
    ],
)
def test_bad_value_names_setting_value_and_place(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingError) as caught:
        book_settings(**{name: value})
    assert caught.value.message.startswith(f"{name} is {value!r} (-x {name}): ")
    assert words in caught.value.message


def test_an_option_of_the_book_is_known_and_a_misspelt_one_is_not() -> None:
    assert Settings.resolve({}, {}, OURS) == Settings.resolve({}, {}, {**OURS, "grace": "9min"})
    with pytest.raises(SettingError, match=r"book_tabel: unknown setting\. Did you mean book_table\?"):
        Settings.resolve({}, {}, {"book_tabel": "public.t"})


def test_secrets_are_not_shown() -> None:
    settings = book_settings(alert_webhook="https://bot:t0ken@hooks.example/T0/s3cret?x=1")
    assert settings.shown("alert_webhook") == "https://hooks.example/***"
    assert "s3cret" not in repr(settings)
    assert settings.shown("broker_accounts") == OURS["broker_accounts"]


OTHER_BOOK = "book_table = public.trades\nbroker_accounts = main=shop/alpaca\n"
LOG = "log_group = /ecs/shop\n"


@pytest.mark.parametrize(
    ("section", "command", "missing"),
    [
        ("", ("reconcile",), "book_table"),
        ("", ("propose", "--phantoms"), "book_table"),
        ("", ("watch", "--once"), "book_table"),
        ("", ("verify",), "book_table"),
        ("book_table = public.trades\n", ("reconcile",), "broker_accounts"),
        ("book_table = public.trades\n", ("verify",), "broker_accounts"),
        (OTHER_BOOK, ("verify",), "log_group"),
        (OTHER_BOOK + LOG, ("verify",), "ecs_cluster"),
        (OTHER_BOOK, ("verify", "--skip", "logs"), "ecs_cluster"),
        (OTHER_BOOK + LOG + "ecs_cluster = c\necs_service = s\n", ("verify",), "task_revision"),
        (LOG, ("verify", "--skip", "broker", "--skip", "service"), ""),
        ("", ("verify", "--skip", "broker", "--skip", "service", "--skip", "logs"), ""),
    ],
)
def test_a_command_names_the_setting_that_is_missing(
    tmp_path: Path, section: str, command: tuple[str, ...], missing: str
) -> None:
    ran = in_project(tmp_path, section, *command)
    if not missing:
        assert "Not set" not in ran.err
        return
    assert ran.code == 2
    [line] = ran.err.splitlines()
    assert line.startswith(f"FAILED: Not set: {missing} (")
    assert f"Set {missing} = … in the section [datafixes] of alembic.ini, or give DATAFIXES_" in line
    assert ran.out == ""


def in_project(directory: Path, section: str, *command: str) -> Ran:
    """A command in a project that is not this one."""
    (directory / "migrations/versions").mkdir(parents=True)
    (directory / "migrations/env.py").write_text("")
    ini = directory / "alembic.ini"
    ini.write_text(f"[alembic]\nscript_location = {directory}/migrations\n[datafixes]\n{section}")
    return datafixes(None, "-c", str(ini), "-x", "url=postgresql://me@127.0.0.1:1/x", *command)
