"""Loads revision files again in another process, where a declaration that reads a clock or random values differs.

A plan is made from one load, and the upgrade from another in another process. Declarations that differ only on another
day or machine are not found here. Its time limit is that of a process, which can be killed; a thread could not.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass

from datafixes.declaration.project_fixes import fixes_in

_SECONDS = 60


@dataclass(frozen=True)
class Reloading:
    """A process that loads files in the background."""

    process: subprocess.Popen[bytes] | None

    @classmethod
    def begin(cls, paths: Iterable[str]) -> "Reloading":
        """Begin to load files; if Python cannot be started, nothing is loaded."""
        files = list(paths)
        if not files or not sys.executable:
            return cls(None)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        command = [sys.executable, "-P", "-m", __name__, *files]
        try:
            return cls(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
            )
        except OSError:
            return cls(None)

    def fingerprints(self) -> Mapping[str, Mapping[str, str]]:
        """The fingerprints of each file's fixes. A file that cannot be loaded by itself is skipped."""
        if self.process is None:
            return {}
        try:
            output, _ = self.process.communicate(timeout=_SECONDS)
            found: dict[str, dict[str, str]] = json.loads(output)
        except (subprocess.TimeoutExpired, ValueError):
            return {}
        finally:
            self.end()
        return found

    def end(self) -> None:
        """End the process, if it is still running."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def fingerprints_of(paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Load files in this process, and return the same as :meth:`Reloading.fingerprints`."""
    found: dict[str, dict[str, str]] = {}
    for number, path in enumerate(paths):
        try:
            spec = importlib.util.spec_from_file_location(f"datafixes_reloaded_{number}", path)
            if spec is None or spec.loader is None:
                continue
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except (Exception, SystemExit):
            continue
        found[path] = {fix.name: fix.fingerprint for fix in fixes_in(module)}
    return found


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        answer = fingerprints_of(sys.argv[1:])
    sys.stdout.write(json.dumps(answer))
