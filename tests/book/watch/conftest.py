"""What the tests of the watch share."""

from pathlib import Path

import pytest

from tests.projects import Project, our_project
from tests.servers import Database

BOOK = Path(__file__).parents[2] / "fixtures/book.sql"


@pytest.fixture
def project(database: Database) -> Project:
    """The incident's book, and nothing that is closed yet."""
    project = our_project(database)
    assert project.alembic("upgrade", "014").code == 0
    database.psql(BOOK.read_text("utf-8"), "-v", "ON_ERROR_STOP=1")
    return project
