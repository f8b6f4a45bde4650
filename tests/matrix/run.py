"""Runs the tests of this folder on each supported Alembic, SQLAlchemy and Python, against the package as it is installed.

    python -m tests.matrix.run            every cell; a Python that is not here is skipped, and named
    python -m tests.matrix.run --here     this Python alone: what CI runs

An Alembic or SQLAlchemy is put before the others on the path, so one environment does for all cells of a Python.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
NEWEST = "newest"
TWO = ">=2.0,<2.1"
"""The last SQLAlchemy 2.0; the newest is a 2.1."""

EVERY_ALEMBIC = (
    ("1.13.0", TWO),  # with 2.1, this Alembic warns about itself
    ("1.16.0", NEWEST),
    ("1.17.0", NEWEST),
    ("1.18.0", TWO),
    ("1.18.5", NEWEST),
    ("1.19.0", NEWEST),
    ("1.20.0", NEWEST),
    (NEWEST, TWO),
    (NEWEST, NEWEST),
)
_INSTALLING = threading.Lock()  # two cells may want the same package
BOTH_ENDS = (EVERY_ALEMBIC[0], *EVERY_ALEMBIC[-2:])


@dataclass(frozen=True)
class Cell:
    """What is run together: the environment of a Python, and what is put before it on the path."""

    environment: Path
    alembic: str
    sqlalchemy: str

    @property
    def python(self) -> str:
        """Its Python."""
        return str(self.environment / "bin/python")


@dataclass(frozen=True)
class Result:
    """How it went."""

    versions: str
    passed: bool
    seconds: float
    said: str


class Failed(Exception):
    """A command failed; its text is what it said."""


def output_of(*command: str, **environment: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def installed(python: str, target: Path, *what: str) -> Path:
    """A folder that holds a package without what it needs; made once, and whole or not at all."""
    with _INSTALLING:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as half:
                options = ("--quiet", "--root-user-action=ignore", "--no-deps", "--target", f"{half}/whole")
                output_of(python, "-m", "pip", "install", *options, *what)
                Path(half, "whole").rename(target)
    return target


def environment_of(version: str) -> Path | str:
    """The environment of a Python, made by the Makefile as .venv is; or why there is none."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.prefix)
    name, chosen = f"python{version}", {"PYENV_VERSION": version}  # pyenv has several, and shows one
    try:
        output_of(name, "-c", "import ensurepip, venv", **chosen)
    except (OSError, Failed):
        return f"{name} is not here, or has no module venv"
    folder = f".venv-{version}"
    print(f"{name}: its environment is {folder} ...", flush=True)
    output_of("make", f"{folder}/.installed", f"VENV={folder}", f"PYTHON={name}", **chosen)
    return ROOT / folder


def run(cell: Cell, package: Path) -> Result:
    """Run the tests in a cell."""
    began, path = time.monotonic(), [package]
    versions = f"Alembic {cell.alembic}, SQLAlchemy {cell.sqlalchemy}"
    try:
        for name, version in (("alembic", cell.alembic), ("sqlalchemy", cell.sqlalchemy)):
            if version != NEWEST:
                exact = version if version[0] in "<>" else f"=={version}"
                folder = cell.environment / "matrix" / f"{name}{exact}"
                path.append(installed(cell.python, folder, f"{name}{exact}"))
        found = {"PYTHONPATH": os.pathsep.join(map(str, path)), "TEST_POSTGRES": "18"}
        # -P: the folder that it runs in is not looked through first, so that the installed package is what is tested.
        versions = output_of(cell.python, "-P", "-c", _SEEN, cell.alembic, str(package), **found).strip()
        said = output_of(
            cell.python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/matrix", **found
        )
    except (Failed, subprocess.TimeoutExpired) as error:
        return Result(versions, False, time.monotonic() - began, str(error))
    return Result(versions, True, time.monotonic() - began, said.strip().splitlines()[-1])


_SEEN = """
import sys, alembic, sqlalchemy, datafixes
wanted, package = sys.argv[1:]
assert wanted in ("newest", alembic.__version__), alembic.__version__
assert datafixes.__file__.startswith(package), datafixes.__file__
print(f"Python {sys.version.split()[0]}, Alembic {alembic.__version__}, SQLAlchemy {sqlalchemy.__version__}")
"""


def cells(here: bool) -> tuple[list[Cell], list[str]]:
    """What is to be run, and which Pythons are not here."""
    own = Path(sys.prefix)
    found, missing = [Cell(own, *one) for one in EVERY_ALEMBIC], []
    if here:
        return found[:-1], []  # the last is what all other tests run on
    for version in PYTHONS:
        environment = environment_of(version)
        if isinstance(environment, str):
            missing.append(environment)
        elif environment != own:
            found += [Cell(environment, *one) for one in BOTH_ENDS]
    return found, missing


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="make test-matrix", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--here", action="store_true", help="with the Python of .venv alone")
    here: bool = parser.parse_args().here
    failed = False
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        try:
            wanted, missing = cells(here)
            offline = ("--no-build-isolation", "--no-index", str(ROOT))
            package = installed(sys.executable, Path(folder).resolve() / "package", *offline)
        except Failed as error:
            print(f"make: {error}", file=sys.stderr)
            return 1
        for result in pool.map(lambda cell: run(cell, package), wanted):
            failed = failed or not result.passed
            mark = "passed" if result.passed else "FAILED"
            print(f"{mark}  {result.versions}: {result.seconds:.0f} s  {result.said}", flush=True)
    for one in missing:
        print(f"skipped: {one}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
