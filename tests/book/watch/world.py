"""A watch on a clock that does not wait: what happens in each round, and what comes of it."""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from datafixes.book.alerts.alert import Alert
from datafixes.book.alerts.sinks import Sinks, hiding
from datafixes.book.positions.position import Comparison, Difference
from datafixes.book.positions.symbols import parse_symbol
from datafixes.book.watch.changes import Look
from datafixes.book.watch.incidents import Limits
from datafixes.book.watch.signals import SignalHandler, Terminated
from datafixes.book.watch.watching import Clock, Job, keep_looking, source_of
from tests.book.settings import book_settings

START = dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC)
PHANTOM = Difference("phantom", "large", parse_symbol("QCOM"), (16,), Decimal(5), Decimal(0))
FOUND = Look(Comparison((PHANTOM,)))
AWAY = Look(Comparison((), unknown={"large": "it answers 500", "tiny": "it answers 500"}))


@dataclass
class World:
    """What happens in each round, and what comes of it."""

    path: Path
    rounds: Iterator[Callable[[], Look] | Look]
    seconds: float = 0.0
    looks: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    reported: list[tuple[float, str]] = field(default_factory=list)
    slow: float = 0.0
    sink_broken: bool = False
    name: str = "webhook"
    signals: SignalHandler = field(default_factory=SignalHandler)
    sending: Callable[[Alert], None] = lambda _: None
    patience: float = 15.0

    def look(self) -> Look:
        self.looks.append(self.seconds)
        self.seconds += self.slow
        one = next(self.rounds, None)
        if one is None:
            raise Terminated
        return one() if callable(one) else one

    def send(self, alert: Alert) -> None:
        if self.sink_broken:
            raise OSError("no way")
        self.sending(alert)
        self.reported.append((self.seconds, alert.event))

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        assert self.seconds < 5 * 86_400, "it looks no more"

    @property
    def job(self) -> Job:
        """The job, as new."""
        settings = book_settings(url="postgresql://ops:HIDDEN@db/book")
        clock = Clock(lambda: START + dt.timedelta(seconds=self.seconds), lambda: self.seconds, self.wait)
        hide = hiding(settings)
        sinks = Sinks([self], self.said.append, hide, self.patience)
        limits = Limits(dt.timedelta(minutes=15), dt.timedelta(minutes=15))
        say, source = self.said.append, source_of(settings)
        return Job(self.look, sinks, self.path, limits, source, hide, say, clock, self.signals)

    def run(self, every: float = 300) -> None:
        """Run it until the rounds are over."""
        with pytest.raises(Terminated):
            keep_looking(self.job, every)


def world(path: Path, *rounds: Callable[[], Look] | Look) -> World:
    """A watch with its state in a directory, that ends after these rounds."""
    return World(path / "watch.json", iter(rounds))
