"""What the audit costs, as ratios to the bare UPDATE of the same rows, measured in one run: ``make bench``.

Each measurement runs between two bare UPDATEs of equal tables, in a transaction of its own on one connection. The order is
another one in each round. Tables are new, vacuumed and analyzed, after a checkpoint; autovacuum is off.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

from datafixes.database.embedded import embedded_server
from tests.benchmarks import peers
from tests.benchmarks.measuring import Action, Cost, ask, connect, measured, run, settle
from tests.benchmarks.scripts import script
from tests.benchmarks.shapes import SHAPES, Shape
from tests.tampering import PROTECTED, UNPROTECTED

PROJECT = Path(__file__).resolve().parents[2]
# Every commit is on disk, as in production; memory and WAL are sized so that the disk does not drown the ratios.
SERVER = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "off",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
}


@dataclass(frozen=True)
class Version:
    """A version of datafixes: this one, or an older one in a directory of its own."""

    name: str
    directory: Path | None = None

    def script(self, operation: str, table: str, rows: int, shape: Shape) -> str:
        """The script of an operation on a table."""
        if self.directory is None:
            return script(operation, table, rows, dict(shape.set))
        # Alembic would load the plugin that this environment has installed, whose module the other version may not have.
        alone = "import importlib.metadata as m, runpy; m.entry_points = lambda **_: ()"
        command = f"{alone}; runpy.run_module('tests.benchmarks.scripts', run_name='__main__')"
        made = subprocess.run(
            [sys.executable, "-c", command, operation, table, str(rows), json.dumps(shape.set)],
            env={"PYTHONPATH": f"{self.directory}:{PROJECT}", "PATH": "/usr/bin:/bin"},
            cwd=self.directory,
            check=True,
            capture_output=True,
            text=True,
        )
        return made.stdout


def build(connection: Connection, shape: Shape, table: str, rows: int) -> None:
    """A new table, from a copy of its rows that is made once."""
    source = f"source_{rows}_{sum(map(ord, shape.name))}"
    if not ask(connection, f"SELECT count(*) FROM pg_class WHERE relname = '{source}'"):
        run(connection, shape.table.format(name=source, rows=rows))
    run(
        connection,
        f"CREATE TABLE {table} (LIKE {source} INCLUDING STORAGE)",
        f"INSERT INTO {table} TABLE {source}",
        f"ALTER TABLE {table} ADD PRIMARY KEY (id)",
        *(f"CREATE INDEX ON {table} ({column})" for column in shape.indexes),
    )
    settle(connection, table)


def applied(connection: Connection, table: str, *, version: Version, shape: Shape, rows: int) -> Cost:
    """A declared fix."""
    run(connection, version.script("audit", table, rows, shape))
    return measured(connection, version.script("apply", table, rows, shape))


def reverted(connection: Connection, table: str, *, version: Version, shape: Shape, rows: int) -> Cost:
    """The revert of a declared fix, on a settled table."""
    applied(connection, table, version=version, shape=shape, rows=rows)
    settle(connection, table, f"{table}_audit")
    return measured(connection, version.script("revert", table, rows, shape))


def recorded(connection: Connection, table: str, *, version: Version, shape: Shape, rows: int) -> Cost:
    """The same change as a recorded fix."""
    run(connection, version.script("audit", table, rows, shape))
    return measured(connection, version.script("record", table, rows, shape))


def bytes_per_image(connection: Connection, shape: Shape, rows: int, version: Version) -> float:
    """Bytes of an image, indexes included, to the bytes of a row without indexes (mean of before and after)."""
    build(connection, shape, "measured", rows)
    run(connection, "CREATE TABLE measured_before AS TABLE measured")
    applied(connection, "measured", version=version, shape=shape, rows=rows)
    run(connection, "CREATE TABLE measured_after AS TABLE measured")
    ratio = ask(
        connection,
        "SELECT pg_total_relation_size('measured_audit')::float8"
        " / (pg_total_relation_size('measured_before') + pg_total_relation_size('measured_after'))",
    )
    run(connection, "DROP TABLE measured, measured_before, measured_after, measured_audit CASCADE")
    return ratio


def actions(shape: Shape, rows: int, versions: list[Version], chosen: list[str]) -> dict[str, Action]:
    """What is measured, by name."""
    own = {"apply": applied, "revert": reverted, "recorded": recorded}
    everything: dict[str, Action] = {
        f"{name} {version.name}".strip(): partial(action, version=version, shape=shape, rows=rows)
        for name, action in own.items()
        for version in versions
    }
    everything |= {name: partial(peer, shape=shape) for name, peer in peers.PEERS.items()}
    return {
        name: action
        for name, action in everything.items()
        if not chosen or any(name.startswith(c) for c in chosen)
    }


def bare(connection: Connection, shape: Shape, rows: int) -> Cost:
    """The bare UPDATE."""
    build(connection, shape, "bare", rows)
    cost = measured(connection, f"UPDATE bare SET {shape.assignments} WHERE status = 'open'")
    run(connection, "DROP TABLE bare")
    return cost


def one_round(
    connections: dict[str, Connection], shape: Shape, rows: int, todo: dict[str, Action]
) -> Iterator[tuple[str, Cost, Cost]]:
    """Each action between two bare UPDATEs: its name, its ratios, and the cost of the bare UPDATE before."""
    own = connections[""]
    before = bare(own, shape, rows)
    for number, name in enumerate(random.sample(sorted(todo), len(todo))):
        _, _, version = name.partition("@")
        connection = connections.get(f"@{version}", own)
        build(connection, shape, f"book_{number}", rows)
        cost = todo[name](connection, f"book_{number}")
        forget(connection, f"book_{number}")
        after = bare(own, shape, rows)
        yield name, cost.over(before, after), before
        before = after


def forget(connection: Connection, table: str) -> None:
    """Remove what an action left, so that every round starts alike."""
    run(connection, f"DROP TABLE {table} CASCADE", f"DROP TABLE IF EXISTS {table}_audit CASCADE")
    if ask(connection, "SELECT count(*) FROM pg_class WHERE relname = 'datafix_run'"):
        run(connection, UNPROTECTED, "TRUNCATE datafix_run, datafix_run_table, datafix_range", PROTECTED)


def spread(figures: list[float]) -> str:
    """The median, and the lowest and highest."""
    return f"{statistics.median(figures):5.2f} ({min(figures):.2f}-{max(figures):.2f})"


def measure_shape(
    connections: dict[str, Connection], versions: list[Version], shape: Shape, options: argparse.Namespace
) -> dict[str, object]:
    """All rounds of one shape of table, printed when they are done."""
    rows = shape.rows(options.rows)
    todo = actions(shape, rows, versions, options.only)
    ratios: dict[str, list[Cost]] = {name: [] for name in todo}
    bares = []
    for number in range(options.rounds):
        for name, ratio, before in one_round(connections, shape, rows, todo):
            ratios[name].append(ratio)
            bares.append(before)
        print(f"  round {number + 1} of {options.rounds}: {shape.name}", file=sys.stderr, flush=True)
    print(
        f"\n{shape.name}, {rows:,} rows; bare UPDATE {statistics.median(b.wall for b in bares):.2f} s,"
        f" CPU {statistics.median(b.cpu for b in bares):.2f} s,"
        f" WAL {statistics.median(b.wal for b in bares) / 2**20:.0f} MiB"
    )
    print(f"{'':34} {'CPU':18} {'wall':18} WAL")
    for name, costs in ratios.items():
        cpu, wall = spread([c.cpu for c in costs]), spread([c.wall for c in costs])
        print(f"{name:34} {cpu:18} {wall:18} {statistics.median(c.wal for c in costs):5.2f}", flush=True)
    sizes = {
        version.name: bytes_per_image(connections[version.name], shape, rows, version) for version in versions
    }
    for version, size in sizes.items():
        print(f"{f'bytes of an image / of a row {version}':34} {size:5.2f}", flush=True)
    found = {name: [asdict(cost) for cost in costs] for name, costs in ratios.items()}
    return {"rows": rows, "bare": [asdict(b) for b in bares], "ratios": found, "bytes": sizes}


def other_version(revision: str, directory: Path) -> Version:
    """The package as it was at a revision of the repository, or as it is in a directory."""
    if Path(revision).is_dir():
        return Version(f"@{Path(revision).name}", Path(revision).resolve())
    packed = subprocess.run(
        ["git", "-C", PROJECT, "archive", revision, "datafixes"], check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", directory], input=packed.stdout, check=True)
    return Version(f"@{revision}", directory)


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; ``--quick`` only changes the defaults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="30,000 rows, 3 rounds, no wide rows, no peers")
    parser.add_argument("--rows", type=int, help="rows of a table (default: 300,000); wide tables have fewer")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, help="default: all")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="what to measure: the start of a name")
    parser.add_argument("--against", metavar="REV", help="a git revision or a directory to measure beside")
    parser.add_argument("--postgresql", type=int, choices=(16, 18), default=18)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args(arguments)
    options.rows = options.rows or (30_000 if options.quick else 300_000)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.shapes = options.shapes or (["pk", "indexes"] if options.quick else list(SHAPES))
    options.only = options.only or (["apply", "revert", "recorded"] if options.quick else [])
    return options


def main() -> None:
    """Measure, and print a table for each shape."""
    options = options_of(None)
    with (
        tempfile.TemporaryDirectory() as directory,
        embedded_server(None, options.postgresql, SERVER) as url,
    ):
        versions = [Version("")]
        connections = {"": connect(url)}
        if options.against:
            other = other_version(options.against, Path(directory))
            versions.append(other)
            run(connections[""], "CREATE DATABASE other")
            connections[other.name] = connect(url.replace("/postgres?", "/other?"))
        print(f"PostgreSQL {options.postgresql}, {options.rounds} rounds: median (lowest-highest)")
        found = {name: measure_shape(connections, versions, SHAPES[name], options) for name in options.shapes}
        for connection in connections.values():
            connection.close()
    if options.json:
        options.json.write_text(json.dumps({"postgresql": options.postgresql, "shapes": found}))


if __name__ == "__main__":
    main()
