"""Settings: which place wins, what is refused, and that nothing secret is printed."""

import re
from pathlib import Path

import pytest
from alembic.config import Config

from datafixes.errors import SettingError
from datafixes.running.operation import settings_of
from datafixes.settings import SETTINGS, Settings
from datafixes.settings.toml import options_of
from datafixes.settings.values import Duration, masked


def test_defaults() -> None:
    settings = Settings.resolve({}, {}, {})
    assert (settings.url, settings.application, settings.lock_attempts) == ("", "", 5)
    assert (str(settings.lock_timeout), str(settings.statement_timeout)) == ("5s", "10min")
    assert (str(settings.lock_pause), str(settings.run_wait)) == ("2s", "5min")
    assert settings.connect_timeout.seconds == 10
    assert (settings.aws_region, settings.aws_parameters, settings.aws_secret) == ("", "", "")
    assert settings.embedded_version == 18
    assert (dict(settings.on_conflict), settings.discard) == ({}, frozenset())
    assert set(settings.origins.values()) == {"default"}


def test_flag_before_environment_before_ini() -> None:
    flags = {"lock_timeout": "1s"}
    environment = {"DATAFIXES_LOCK_TIMEOUT": "2s", "DATAFIXES_LOCK_ATTEMPTS": "7"}
    ini = {"lock_timeout": "3s", "lock_attempts": "8", "lock_pause": "4s", "here": "/somewhere"}
    settings = Settings.resolve(flags, environment, ini)
    assert (str(settings.lock_timeout), settings.lock_attempts, str(settings.lock_pause)) == ("1s", 7, "4s")
    assert settings.origins["lock_timeout"] == "-x lock_timeout"
    assert settings.origins["lock_attempts"] == "environment DATAFIXES_LOCK_ATTEMPTS"
    assert settings.origins["lock_pause"] == "alembic.ini [datafixes] lock_pause"


def test_alembic_ini_before_pyproject_toml(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[tool.datafixes]\nlock_pause = "1s"\nlock_attempts = 3\nmask = ["email", "users.*"]\n', "utf-8"
    )
    settings = Settings.resolve({}, {}, {"lock_pause": "4s"}, toml=options_of(path))
    assert (str(settings.lock_pause), settings.lock_attempts, settings.mask) == (
        "4s",
        3,
        ("email", "users.*"),
    )
    assert settings.origins["mask"] == "pyproject.toml [tool.datafixes] mask"
    with pytest.raises(SettingError, match=r"\[tool\.datafixes\] plan: this must be given for each run"):
        Settings.resolve({}, {}, {}, toml={"plan": "0f3c9a5b7d2e4811"})
    assert options_of(tmp_path / "nowhere.toml") == {}


def test_places_of_the_url() -> None:
    ini = {"sqlalchemy.url": "postgresql://c"}
    environment = {"DATABASE_URL": "postgresql://b"}
    assert Settings.resolve({"url": "postgresql://a"}, environment, ini).url == "postgresql://a"
    assert Settings.resolve({}, environment, ini).url == "postgresql://b"
    third = Settings.resolve({}, {"DATABASE_URL": " "}, ini)
    assert (third.url, third.origins["url"]) == ("postgresql://c", "alembic.ini sqlalchemy.url")


def test_region_of_the_project_before_that_of_the_machine() -> None:
    machine = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}
    assert Settings.resolve({}, machine, {}).aws_region == "eu-west-1"
    assert (
        Settings.resolve({}, {**machine, "DATAFIXES_AWS_REGION": "us-east-1"}, {}).aws_region == "us-east-1"
    )
    assert Settings.resolve({}, {"AWS_DEFAULT_REGION": "eu-west-2"}, {}).aws_region == "eu-west-2"


@pytest.mark.parametrize(
    ("text", "milliseconds", "shown"),
    [
        ("5s", 5000, "5s"),
        ("500ms", 500, "500ms"),
        ("10min", 600_000, "10min"),
        ("1.5min", 90_000, "90s"),
        ("2 h", 7_200_000, "2h"),
        ("0", 0, "0"),
        ("0s", 0, "0"),
        ("1d", 86_400_000, "1d"),
        ("2500us", 2, "2ms"),
    ],
)
def test_durations(text: str, milliseconds: int, shown: str) -> None:
    duration = Duration.parse(text)
    assert (duration.milliseconds, str(duration)) == (milliseconds, shown)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lock_timeout", "5", "a number and a unit"),
        ("lock_timeout", "-1s", "a number and a unit"),
        ("statement_timeout", "5sec", "a number and a unit"),
        ("statement_timeout", "5s; DROP TABLE x", "a number and a unit"),
        ("run_wait", "٥s", "a number and a unit"),
        ("lock_pause", "10us", "no limit"),
        ("statement_timeout", "25d", "24 days"),
        ("lock_attempts", "0", "from 1"),
        ("lock_attempts", "many", "from 1"),
        ("embedded_version", "17", "16 and 18"),
        ("aws_region", "evil.example/", "eu-central-1"),
        ("on_conflict", "skip", "FIX:skip or FIX:overwrite"),
        ("on_conflict", "a:keep", "FIX:skip or FIX:overwrite"),
        ("on_conflict", "a:skip,", "FIX:skip or FIX:overwrite"),
        ("on_conflict", "a:skip,a:overwrite", "a is given twice"),
        ("discard", "a,,b", "NAME"),
        ("batches", "5000", "FIX:5000"),
        ("batches", "a:0", "1 to 10_000_000 rows"),
        ("batches", "a:10000001", "1 to 10_000_000 rows"),
        ("batches", "a:5k", "FIX:5000"),
        ("batches", "a:5,", "FIX:5000"),
        ("batches", "a:5,a:6", "a is given twice"),
        ("undo", "a,b", "the name of one fix"),
    ],
)
def test_bad_value_names_setting_value_and_place(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.resolve({name: value}, {}, {})
    assert caught.value.message.startswith(f"{name} is {value!r} (-x {name}): ")
    assert words in caught.value.message


def test_empty_flag_is_refused_rather_than_passed_over() -> None:
    with pytest.raises(SettingError, match="-x url= has no value"):
        Settings.resolve({"url": ""}, {"DATABASE_URL": "postgresql://elsewhere"}, {})


def test_decisions_of_one_run() -> None:
    settings = Settings.resolve({"on_conflict": "a:skip, b:overwrite", "discard": "t1,ops.t2"}, {}, {})
    assert dict(settings.on_conflict) == {"a": "skip", "b": "overwrite"}
    assert settings.discard == {"t1", "ops.t2"}
    by_environment = Settings.resolve({}, {"DATAFIXES_ON_CONFLICT": "a:skip", "DATAFIXES_DISCARD": "t"}, {})
    assert dict(by_environment.on_conflict) == {"a": "skip"}
    assert by_environment.discard == frozenset()
    settings = Settings.resolve({"batches": "a:5000, b.c:1_000", "undo": "a"}, {}, {})
    assert (dict(settings.batches), settings.undo) == ({"a": 5000, "b.c": 1000}, "a")
    assert settings.shown("batches") == "a:5000,b.c:1000"
    by_environment = Settings.resolve({}, {"DATAFIXES_BATCHES": "a:7", "DATAFIXES_UNDO": "a"}, {})
    assert (dict(by_environment.batches), by_environment.undo) == ({"a": 7}, "")


@pytest.mark.parametrize("option", ["on_conflict", "discard", "batches", "undo"])
def test_decisions_of_one_run_cannot_stand_in_a_file(option: str) -> None:
    with pytest.raises(SettingError, match=rf"\[datafixes\] {option}: this must be given for each run"):
        Settings.resolve({}, {}, {option: "a:skip"})


def test_unknown_names() -> None:
    assert Settings.resolve({"tenant": "x"}, {"DATAFIXES_TENANT": "x"}, {}) == Settings.resolve({}, {}, {})
    with pytest.raises(SettingError, match=r"lock_timeot: unknown setting\. Did you mean lock_timeout"):
        Settings.resolve({}, {}, {"lock_timeot": "5s"})
    with pytest.raises(SettingError, match="Known are: lock_timeout, "):
        Settings.resolve({}, {}, {"zzz": "5s"})


def test_no_setting_is_without_field_or_meaning() -> None:
    settings = Settings.resolve({}, {}, {})
    assert set(settings.origins) == {setting.name for setting in SETTINGS}
    assert set(settings.origins) == set(Settings.__dataclass_fields__) - {"origins", "sources"}
    assert all(setting.meaning for setting in SETTINGS)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ops:HIDDEN@host/db",
        "postgresql://ops:HID@DEN@host/db",
        "postgresql://ops:HID/DEN@host/db?sslmode=require",
        "postgresql://ops:x/HID@DEN@host/db",
        "postgresql://ops:x?HID@DEN@host/db",
        "postgresql://ops:x#HID:DEN@host/db",
        "postgresql://ops:x HID DEN@host/db",
        "postgresql://ops@/db?host=/tmp&password=HIDDEN",
        "postgresql://ops:HIDDEN@one:1,two:2/db",
        "host=here password=HIDDEN",
        "host=here password = 'x HIDDEN'",
    ],
)
def test_no_password_is_printed(url: str) -> None:
    settings = Settings.resolve({"url": url}, {}, {})
    for text in (repr(settings), str(settings), settings.shown("url")):
        assert "HID" not in text
        assert "DEN" not in text
        assert "***" in text
    assert "HID" in settings.url


def test_masking_keeps_what_is_not_secret() -> None:
    url = "postgresql://ops:HIDDEN@host:5/db?host=/a&application_name=me@x"
    assert masked(url) == "postgresql://ops:***@host:5/db?host=/a&application_name=me@x"
    assert masked("postgresql://postgres@/db?host=/tmp/x") == "postgresql://postgres@/db?host=/tmp/x"
    assert masked("mail ops@example.org about http://x/y") == "mail ops@example.org about http://x/y"


SHA = "3f2a9c1d" * 5


@pytest.mark.parametrize(
    ("environment", "application", "origin"),
    [
        (
            {
                "GITHUB_SHA": SHA,
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "ops/book",
                "GITHUB_RUN_ID": "7",
            },
            f"commit {SHA}; pipeline https://github.com/ops/book/actions/runs/7",
            "GitHub Actions",
        ),
        (
            {"CI_COMMIT_SHA": SHA, "CI_PIPELINE_URL": "https://gitlab.com/o/b/-/pipelines/7"},
            f"commit {SHA}; pipeline https://gitlab.com/o/b/-/pipelines/7",
            "GitLab CI",
        ),
        (
            {"GIT_COMMIT": SHA, "BUILD_URL": "https://me:HIDDEN@ci.example.org/job/book/7/?token=HIDDEN"},
            f"commit {SHA}; pipeline https://***@ci.example.org/job/book/7/?token=***",
            "Jenkins",
        ),
        ({"CIRCLE_BUILD_URL": "https://circleci.com/7"}, "pipeline https://circleci.com/7", "CircleCI"),
        (
            {
                "BUILDKITE_COMMIT": SHA,
                "BUILDKITE_BUILD_URL": "https://buildkite.com/7",
                "GIT_COMMIT": "other",
            },
            f"commit {SHA}; pipeline https://buildkite.com/7",
            "Buildkite",
        ),
        (
            {
                "CODEBUILD_RESOLVED_SOURCE_VERSION": SHA,
                "CODEBUILD_BUILD_ARN": "arn:aws:codebuild:r:1:build/x",
            },
            f"commit {SHA}; pipeline arn:aws:codebuild:r:1:build/x",
            "AWS CodeBuild",
        ),
        (
            {
                "BITBUCKET_COMMIT": SHA,
                "BITBUCKET_REPO_FULL_NAME": "ops/book",
                "BITBUCKET_BUILD_NUMBER": "7",
            },
            f"commit {SHA}; pipeline https://bitbucket.org/ops/book/pipelines/results/7",
            "Bitbucket Pipelines",
        ),
        (
            {
                "BUILD_SOURCEVERSION": SHA,
                "SYSTEM_COLLECTIONURI": "https://dev.azure.com/ops/",
                "SYSTEM_TEAMPROJECT": "the book",
                "BUILD_BUILDID": "7",
            },
            f"commit {SHA}; pipeline https://dev.azure.com/ops/the%20book/_build/results?buildId=7",
            "Azure Pipelines",
        ),
        ({"TRAVIS_COMMIT": SHA}, f"commit {SHA}", "Travis CI"),
    ],
)
def test_application_comes_from_the_pipeline(
    environment: dict[str, str], application: str, origin: str
) -> None:
    settings = Settings.resolve({}, environment, {})
    assert settings.application == application
    assert settings.origins["application"] == f"environment of {origin}"


def test_application_that_was_set_comes_first_and_is_one_line_without_secrets() -> None:
    environment = {"GITHUB_SHA": SHA, "DATAFIXES_APPLICATION": "by hand\nsee https://t:HIDDEN@wiki/x\x1b[31m"}
    settings = Settings.resolve({}, environment, {})
    assert settings.application == "by hand see https://***@wiki/x [31m"
    assert re.search("HIDDEN", repr(settings)) is None


def test_a_run_of_alembic_reads_pyproject_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_of(Config(), {}).origins["lock_timeout"] == "default"
    (tmp_path / "pyproject.toml").write_text('[tool.datafixes]\nlock_timeout = "7s"\n', "utf-8")
    settings = settings_of(Config(), {})
    assert str(settings.lock_timeout) == "7s"
    assert settings.origins["lock_timeout"] == "pyproject.toml [tool.datafixes] lock_timeout"
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'datafixes-user'\n", "utf-8")
    assert settings_of(Config(), {}).origins["lock_timeout"] == "default"
