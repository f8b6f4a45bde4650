"""Alerts to a webhook: one POST of JSON each, retried only if it cannot have arrived."""

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, InvalidURL
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from datafixes.book.alerts.alert import Alert, Refused, Unanswered
from datafixes.errors import SettingError

_TIMEOUT = 10.0
"""The time limit of an attempt, in seconds."""
_LONGEST = 16.0
"""The time limit of all attempts with their pauses, in seconds."""
_PAUSES = (0.5, 2.0)
"""The pauses before the second and the third attempt, if the answer does not give one."""
_LONGEST_PAUSE = 5.0
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_FOR_GOOD = {400, 413, 415, 422}
_LARGE = 16_384
"""The size in bytes from which a server may close the connection without reading the whole body."""


class NotDelivered(Exception):
    """The webhook did not accept an alert. The text says why, and shows only the host of the URL."""


class WebhookSink:
    """Posts each alert as JSON to a URL.

    The URL is a secret: it is not shown, and not sent anywhere else, so a redirection is a failure.

    Raises:
        SettingError: it is not an http or https URL; the message does not show it.
    """

    name = "webhook"

    def __init__(self, url: str, pause: Callable[[float], object] = time.sleep) -> None:
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fine = False
        if not fine:
            raise SettingError("alert_webhook is not a URL that begins with http:// or https://.")
        self._host, self._pause = parts.hostname, pause
        self._headers = {"Content-Type": "application/json", "User-Agent": "datafixes"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        self._url = urlunsplit(
            parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path or "/", fragment="")
        )

    def send(self, alert: Alert) -> None:
        """Post the alert, with three attempts at most.

        Raises:
            NotDelivered: all attempts failed.
            Refused: the webhook rejected this alert.
            Unanswered: it was sent in full, but there was no answer in time.
        """
        body = json.dumps(alert.as_json()).encode()
        until = time.monotonic() + _LONGEST
        for pause in (*_PAUSES, None):
            why, again = self._post(body)
            if not why:
                return
            wait = min(again or pause or 0, _LONGEST_PAUSE)
            if pause is None or again is None or time.monotonic() + wait + _TIMEOUT > until:
                raise NotDelivered(f"{self._host}: {why}")
            self._pause(wait)

    def _post(self, body: bytes) -> tuple[str, float | None]:
        """The error, if any, and the seconds before the next attempt: 0 if none are given, None for no attempt."""
        headers = {**self._headers, "Idempotency-Key": hashlib.sha256(body).hexdigest()[:32]}
        request = Request(self._url, data=body, headers=headers, method="POST")
        connections = _Connections()
        # A socket timeout applies to each byte separately.
        cut = threading.Timer(_TIMEOUT, connections.cut)
        cut.daemon = True
        cut.start()
        try:
            # The status suffices; the body is not read.
            build_opener(_NoRedirect, connections).open(request, timeout=_TIMEOUT).close()
            return "", None
        except HTTPError as error:
            with error:
                # The body of the answer might repeat what was sent.
                if error.code in _FOR_GOOD:
                    raise Refused(f"{self._host}: it answers {error.code}") from None
                pause = error.headers.get("Retry-After", "")
                again = float(pause) if pause.isdecimal() else 0
                return f"it answers {error.code}", again if error.code in _AGAIN else None
        except (OSError, HTTPException) as error:
            return self._without_answer(error, connections.was_cut, len(body)), 0
        finally:
            cut.cancel()

    def _without_answer(self, error: OSError | HTTPException, was_cut: bool, size: int) -> str:
        """Why there is no answer, if another attempt is safe."""
        reason = getattr(error, "reason", error)
        words = reason.strerror if isinstance(reason, OSError) and reason.strerror else ""
        why = words or f"it does not answer ({type(reason).__name__})"
        if was_cut or isinstance(reason, TimeoutError):
            why = f"it does not answer within {_TIMEOUT:g}s"
        elif size > _LARGE and isinstance(reason, (BrokenPipeError, ConnectionResetError)):
            raise Refused(f"{self._host}: {why}")
        # Failures before the last byte is sent are a URLError.
        if not isinstance(error, (URLError, InvalidURL)):
            raise Unanswered(f"{self._host}: {why}")
        return why


class _Connections(HTTPHandler, HTTPSHandler):
    """Opens connections normally, and can cut the last one from another thread."""

    was_cut = False
    _last: HTTPConnection | None = None

    def do_open(self, http_class: Callable[..., HTTPConnection], *request: Any, **more: Any) -> Any:
        def opened(*about: Any, **more: Any) -> HTTPConnection:
            self._last = http_class(*about, **more)
            return self._last

        return super().do_open(opened, *request, **more)

    def cut(self) -> None:
        self.was_cut = True
        if self._last is not None and self._last.sock is not None:
            with suppress(OSError):
                self._last.sock.shutdown(socket.SHUT_RDWR)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None
