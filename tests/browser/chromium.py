"""A headless Chromium that is told what to do over two pipes, and tells what it asked the network for."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
# The browser reads commands from 3 and writes answers to 4; a shell cannot name numbers above 9 in every case.
_START = """import os, sys
os.dup2(int(sys.argv[1]), 103), os.dup2(int(sys.argv[2]), 104), os.dup2(103, 3), os.dup2(104, 4)
os.execvp(sys.argv[3], sys.argv[3:])"""


def find() -> str | None:
    """The browser, or None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One page of a running browser."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []

    def open(self) -> None:
        """Make a page, and watch it."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") == self._number:
                if "error" in found:
                    raise AssertionError(f"{method}: {found['error']}")
                return found["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers, 1 << 20)
            if not piece:
                raise AssertionError("the browser has gone")
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def load(self, file: Path) -> float:
        """Go to a file and wait until it is loaded and laid out; the seconds that it took."""
        self.events.clear()
        started = time.monotonic()
        self.ask("Page.navigate", url=file.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()
        self.run("document.body.offsetHeight")
        return time.monotonic() - started

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def look(self, width: int, height: int = 900, scale: float = 1, **features: str) -> None:
        """Set the size of the window, and what the person prefers: ``prefers_color_scheme="dark"``."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        given = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.ask("Emulation.setEmulatedMedia", features=given)

    def picture(self, file: Path, whole: bool = True) -> None:
        """What the page looks like, as PNG, or smaller and still legible as WebP."""
        kind = {"format": "webp", "quality": 40} if file.suffix == ".webp" else {}
        told = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, **kind)
        file.write_bytes(base64.b64decode(told["data"]))

    def paper(self) -> bytes:
        """The page on paper, as PDF."""
        return base64.b64decode(
            self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"]
        )

    @property
    def requests(self) -> list[str]:
        """What was asked for since the page was loaded, the page itself included."""
        return [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]

    @property
    def refused(self) -> list[str]:
        """Why requests came to nothing: ``csp`` is the page's own policy."""
        failed = [e["params"] for e in self.events if e["method"] == "Network.loadingFailed"]
        return [params.get("blockedReason", params["errorText"]) for params in failed]

    @property
    def complaints(self) -> list[str]:
        """Errors and refusals that the browser told of."""
        logged = [e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded"]
        thrown = [
            str(e["params"]["exceptionDetails"])
            for e in self.events
            if e["method"] == "Runtime.exceptionThrown"
        ]
        return logged + thrown


@contextlib.contextmanager
def running(program: str, directory: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with this."""
    command_out, command_in = os.pipe()
    answer_out, answer_in = os.pipe()
    start = [sys.executable, "-c", _START, str(command_out), str(answer_in)]
    process = subprocess.Popen(
        [*start, program, *FLAGS, f"--user-data-dir={directory}"],
        pass_fds=(command_out, answer_in), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    os.close(command_out)
    os.close(answer_in)
    try:
        browser = Browser(command_in, answer_out)
        browser.open()
        yield browser
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(command_in)
        os.close(answer_out)
