"""Settings for tests of the book: those of this repository's alembic.ini, and whatever a test gives besides."""

import configparser
from pathlib import Path

from datafixes.book.settings import BookSettings
from datafixes.settings import Settings

ROOT = Path(__file__).parents[2]


def _section() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "alembic.ini", encoding="utf-8")
    return dict(parser["datafixes"])


OURS = _section()
"""The section [datafixes] of the pipeline's own alembic.ini."""


def engine_settings(**flags: str) -> Settings:
    """The settings of the engine in the pipeline, with what comes after ``-x``."""
    return Settings.resolve(flags, {}, OURS)


def book_settings(**flags: str) -> BookSettings:
    """The settings of the book in the pipeline, with what comes after ``-x``."""
    return BookSettings.of(engine_settings(**flags))
