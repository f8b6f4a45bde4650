"""``datafixes where``: the database that would be used and why, and every setting with its origin; no secret."""

import json
from pathlib import Path
from typing import Any

import pytest

from datafixes.settings import CHECK_SETTINGS, SETTINGS
from tests.cli.commands import datafixes
from tests.projects import Ran

URL = "postgresql://me:s3cret@db.example:5433/ops?sslmode=require"


def where(directory: Path, *arguments: str) -> tuple[Ran, Any]:
    (directory / "alembic.ini").write_text(
        "[alembic]\nscript_location = nowhere\nsqlalchemy.url = postgresql://ini:h1dden@ini/x\n[datafixes]\nlock_timeout = 7s\n"
    )
    ran = datafixes(None, "-c", str(directory / "alembic.ini"), *arguments, "where", "--format", "json")
    return ran, json.loads(ran.out) if ran.out else None


def test_the_first_place_that_names_a_database_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, value = where(tmp_path)
    assert ran.code == 0
    assert value["database"] == {
        "url": "postgresql+psycopg2://ini:***@ini/x",
        "origin": "alembic.ini sqlalchemy.url",
        "problem": None,
    }
    monkeypatch.setenv("DATABASE_URL", URL)
    _, value = where(tmp_path)
    assert value["database"]["origin"] == "environment DATABASE_URL"
    assert value["database"]["url"].startswith("postgresql+psycopg2://me:***@db.example:5433/ops")
    _, value = where(tmp_path, "-x", "url=embedded:")
    assert (value["database"]["url"], value["database"]["origin"]) == ("embedded:", "-x url")


def test_every_setting_has_its_value_and_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFIXES_RUN_WAIT", "1min")
    _, value = where(tmp_path, "-x", "mask=email")
    found = {one["name"]: (one["value"], one["origin"]) for one in value["settings"]}
    assert list(found) == [setting.name for setting in (*SETTINGS, *CHECK_SETTINGS)]
    assert found["lock_timeout"] == ("7s", "alembic.ini [datafixes] lock_timeout")
    assert found["run_wait"] == ("1min", "environment DATAFIXES_RUN_WAIT")
    assert found["mask"] == ("email", "-x mask")
    assert found["lock_pause"] == ("2s", "default")


@pytest.mark.parametrize("form", ["terminal", "markdown", "json", "html"])
def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    where(tmp_path)
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("DATAFIXES_APPLICATION", "https://bot:t0ken@ci.example/1")
    ran = datafixes(None, "-c", str(tmp_path / "alembic.ini"), "where", "--format", form)
    assert ran.code == 0
    assert "db.example" in ran.out
    assert not any(secret in ran.out + ran.err for secret in ("s3cret", "h1dden", "t0ken"))


def test_where_nothing_names_one_every_place_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = datafixes(None, "where")
    assert ran.code == 1
    assert "No database is configured" in ran.out
    for place in ("-x url: not given", "environment DATABASE_URL: not set", "AWS: not asked", "lock_timeout"):
        assert place in ran.out
    assert json.loads(datafixes(None, "where", "--format", "json").out)["database"]["url"] is None


def test_a_url_that_cannot_be_used_is_a_line_of_the_answer(tmp_path: Path) -> None:
    ran, value = where(tmp_path, "-x", "url=mysql://me:s3cret@x/y")
    assert ran.code == 1
    assert "is for mysql, but data fixes need PostgreSQL" in value["database"]["problem"]
    assert "s3cret" not in ran.out


def test_aws_is_not_asked_where_something_else_names_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("datafixes.database.aws.look_up", asked)
    assert where(tmp_path)[0].code == 0
