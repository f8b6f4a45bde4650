"""Tests of fixes on a real PostgreSQL: the types behind the pytest fixture ``datafix``, for annotations."""

from datafixes.testing.fixture import Datafix
from datafixes.testing.trial import Trial

__all__ = ["Datafix", "Trial"]
