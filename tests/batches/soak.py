"""Rounds of a fix in batches that is killed, cut off and started twice, with four writers, until it is done or taken back.

Each round is checked row by row: see :mod:`tests.batches.soaked`. `make soak` runs 500 of them.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg2

from tests.batches.hammer import Hammer
from tests.batches.soaked import TABLE, TOP, check, check_taken_back, left_open
from tests.faults.deploys import answers
from tests.faults.own_server import OwnServer, own_server
from tests.projects import ENV, STOCK_ENV, Project, Ran, new_project
from tests.servers import Database

# Deploys are forked from a process that has loaded everything: a round takes seconds, and most of its time batches run.
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["tests.batches.soak", "datafixes.environment", "alembic.autogenerate"])
_numbers = itertools.count(1)
_TRIES = 12

_UP = ("upgrade", "head")
_SKIP = ("-x", "on_conflict=double_soaked:skip")
_UNDO = ("-x", "undo=double_soaked", *_SKIP, "upgrade", "head")
_DOWN = (*_SKIP, "downgrade", "m")
_HALF_APPLIED = "SELECT count(*) FROM datafix_run WHERE outcome = 'running'"

_AT_WORK = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND query LIKE '-- Batches for%' AND state = 'active'
"""


@dataclass
class Tally:
    """What happened in all rounds."""

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    changed: int = 0
    late: int = 0
    undone: int = 0
    downgraded: int = 0
    restored: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        writes = ", ".join(f"{count} {name}" for name, count in sorted(self.writes.items()))
        return (
            f"{self.rounds} rounds, {len(self.wrong)} of them wrong, {self.changed:,} rows changed once, {self.late:,} told as late; "
            f"taken back in the middle {self.undone} times, from the end {self.downgraded} times: {self.restored:,} rows; "
            f"faults: {faults}; writers: {writes}"
        )


def ended_within(connection: Any, seconds: float) -> bool:
    """Whether the server ends a session."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT")
        except psycopg2.Error:
            return True
        time.sleep(0.02)
    return False


class Deploy:
    """A command of Alembic in a process of its own."""

    def __init__(self, project: Project, command: tuple[str, ...]) -> None:
        self._told, tells = _FORKED.Pipe(duplex=False)
        self.process: BaseProcess = _FORKED.Process(
            target=_deploy, args=(project, command, tells), daemon=True
        )
        self.process.start()
        tells.close()

    def kill(self) -> None:
        if self.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    def ended(self) -> Ran | None:
        """What it came to; None if it was killed."""
        try:
            assert self._told.poll(90), "the deploy hangs"
            ran: Ran | None = self._told.recv()
        except EOFError:
            ran = None
        self.process.join(10)
        return ran


def _says_why(ran: Ran) -> bool:
    """It failed with one line; or env.py, which may be that of Alembic, found no server, while that recovers."""
    return ran.out.startswith("FAILED: ") or "OperationalError" in ran.out + ran.err


def _deploy(project: Project, command: tuple[str, ...], tells: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    tells.send(project.alembic(*command))


class Round:
    """A database with a fix in batches, and what befalls it.

    Args:
        crashes: whether the server's backends may be killed, which makes it recover from its WAL.
    """

    def __init__(self, directory: Path, database: Database, seed: int, *, crashes: bool) -> None:
        self._chance = random.Random(seed)
        self.database, self._crashes = database, crashes
        self._command: tuple[str, ...] = _UP
        env = self._chance.choice([ENV, STOCK_ENV])
        self.project = new_project(directory, database, env).on(
            database, self._chance.choice(["psycopg2", "psycopg"])
        )
        self.project.write_ini()
        make, drop = 'op.create_audit_table("soaked", name="soaked_audit")', "pass"
        self.project.revision("m", None, make, drop, top="# Copies.")
        self._stragglers = self._chance.choice(["sweep", "report"])
        top = TOP.format(workers=self._chance.choice([1, 2]), stragglers=self._stragglers)
        self.project.revision("n", "m", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top)
        database.psql(TABLE.format(database.name), "-v", "ON_ERROR_STOP=1")
        ran = self.project.alembic("upgrade", "m")
        assert ran.code == 0, ran.out + ran.err

    def run(self, tally: Tally) -> None:
        """Let faults befall it, end it or take it back, and check every row."""
        tally.rounds += 1
        goes_back = self._chance.random() < 0.4
        self._befall(_UP, tally, 1 if goes_back else self._chance.randint(1, 4))
        if goes_back and self.database.value(_HALF_APPLIED):
            tally.undone += 1
            self._take_back(_UNDO, tally)
            return
        was_over = self._is_over(_UP)
        told = self._end(_UP)
        again, later = left_open(self.database)
        if not was_over:
            assert not again or f"{again} rows that it had changed meet it again: left alone" in told, (
                again,
                told,
            )
            assert not later or f"{later} rows met its condition later: left alone" in told, (later, told)
            assert not (later and self._stragglers == "sweep"), later
        tally.late += again + later
        tally.changed += check(self.database)
        if self._chance.random() < 0.4:
            tally.downgraded += 1
            self._take_back(_DOWN, tally)

    def _take_back(self, command: tuple[str, ...], tally: Tally) -> None:
        self._befall(command, tally, self._chance.randint(1, 2))
        self._end(command)
        tally.restored += check_taken_back(self.database)

    def _befall(self, command: tuple[str, ...], tally: Tally, faults: int) -> None:
        """Let so many faults befall a command, while others write."""
        hammer = Hammer(self.database, self._chance.random())
        hammer.start()
        try:
            for _ in range(faults):
                if self._is_over(command):
                    break
                self._suffer(command, tally)
        finally:
            hammer.stop()
        tally.writes += hammer.writes

    def _is_over(self, command: tuple[str, ...]) -> bool:
        if command == _UP:
            return bool(self.database.value("SELECT version_num = 'n' FROM alembic_version"))
        return bool(
            self.database.value(f"SELECT version_num = 'm' AND ({_HALF_APPLIED}) = 0 FROM alembic_version")
        )

    def _suffer(self, command: tuple[str, ...], tally: Tally) -> None:
        self._command = command
        faults: list[Callable[[list[Deploy]], str]] = [self._kill, self._terminate, self._second]
        weights = [4, 4, 2]
        if self._crashes:
            faults.append(self._crash)
            weights.append(2)
        deploys = [Deploy(self.project, command)]
        self._wait_for_work(deploys[0])
        time.sleep(self._chance.random() * 0.8)
        [fault] = self._chance.choices(faults, weights)
        tally.faults[fault(deploys)] += 1
        answers(self.database)
        for deploy in deploys:
            ran = deploy.ended()
            assert ran is None or ran.code == 0 or _says_why(ran), ran.out + ran.err

    def _wait_for_work(self, deploy: Deploy) -> None:
        """Until its batches run; now and then, not even until then."""
        if self._chance.random() < 0.15:
            return
        deadline = time.monotonic() + 10
        while not self._workers() and deploy.process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _workers(self) -> list[int]:
        return [pid for (pid,) in self.database.rows(_AT_WORK)]

    def _kill(self, deploys: list[Deploy]) -> str:
        deploys[0].kill()
        return "clients killed"

    def _terminate(self, _: list[Deploy]) -> str:
        workers = self._workers()
        if not workers:
            return "nobody at work"
        self.database.execute(f"SELECT pg_terminate_backend({self._chance.choice(workers)})")
        return "backends terminated"

    def _crash(self, _: list[Deploy]) -> str:
        workers = self._workers()
        if not workers:
            return "nobody at work"
        with closing(self.database.connect()) as witness:
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(workers), signal.SIGKILL)
            # The server ends every session, and starts over by itself.
            if not ended_within(witness, 5):
                return "nobody at work"
        return "server crashes"

    def _second(self, deploys: list[Deploy]) -> str:
        deploys.append(Deploy(self.project, self._command))
        time.sleep(self._chance.random() * 0.5)
        if self._chance.random() < 0.5:
            deploys[0].kill()
        return "second upgrades"

    def _end(self, command: tuple[str, ...]) -> str:
        """Repeat a command until its work is done, and nobody is at work any more; what the last one told."""
        told = ""
        for _ in range(_TRIES):
            if command != _UP and self._is_over(command):
                break
            ran = Deploy(self.project, command).ended()
            assert ran is None or ran.code == 0 or _says_why(ran), ran.out + ran.err
            told = ran.out + ran.err if ran else "killed"
            if ran and ran.code == 0:
                break
        else:
            raise AssertionError(f"{_TRIES} times it failed: {' '.join(command)}: {told}")
        deadline = time.monotonic() + 20
        while self._workers():
            assert time.monotonic() < deadline, "an orphan stays"
            time.sleep(0.05)
        return told


def soak(running: OwnServer, seeds: range, tell: Callable[[str], Any] = lambda _: None) -> Tally:
    """Run one round for each seed, each in a database of its own, and note those that end wrong."""
    tally = Tally()
    for seed in seeds:
        with (
            tempfile.TemporaryDirectory() as directory,
            running.server.database(f"soak_{next(_numbers)}") as database,
        ):
            try:
                Round(Path(directory), database, seed, crashes=True).run(tally)
            except (AssertionError, psycopg2.Error) as error:
                tally.wrong.append(f"seed {seed}: {type(error).__name__}: {error}")
                tell(tally.wrong[-1])
            finally:
                answers(database)
        tell(f"seed {seed}: {tally}")
    return tally


def main() -> None:
    """The command behind `make soak`."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    told = parser.parse_args()
    with own_server(told.postgres) as running:
        tally = soak(running, range(told.seed, told.seed + told.rounds), lambda text: print(text, flush=True))
    print(f"PostgreSQL {told.postgres}: {tally}")
    if tally.wrong:
        raise SystemExit("\n".join(tally.wrong))
