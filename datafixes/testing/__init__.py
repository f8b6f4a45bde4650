"""Testing a fix on a real PostgreSQL: what the pytest fixture ``datafix`` gives, for annotations."""

from datafixes.testing.fixture import Datafix
from datafixes.testing.trial import Trial

__all__ = ["Datafix", "Trial"]
