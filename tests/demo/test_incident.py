"""`make demo` does what it says, fits a terminal, and leaves nothing running."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_the_demo_shows_the_incident_and_leaves_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo.incident"],
        cwd=PROJECT,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert done.stderr == ""
    # A promise that does not hold; a report may have differences to show.
    assert not [line for line in done.stdout.splitlines() if line.startswith("  ✗")]
    assert "\033" not in done.stdout
    promises = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ✓")]
    assert [promise for promise in promises if "has ended" in promise or "is gone" in promise] == promises[
        -2:
    ]
    # A long name may not be folded; nothing else goes beyond the width of a terminal.
    assert not [line for line in done.stdout.splitlines() if len(line) > 100]
