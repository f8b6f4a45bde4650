"""Alerts to a webhook: one POST of JSON each, which is tried again a few times."""

import base64
import json
import time
from collections.abc import Callable
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from datafixes.alerts.alert import Alert
from datafixes.errors import SettingError

_TIMEOUT = 5.0
_PAUSES = (0.5, 2.0)
"""How long to wait before the second and the third attempt, where the answer does not say."""
_LONGEST_PAUSE = 10.0
_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class NotDelivered(Exception):
    """The webhook did not take an alert. The text says why, and holds nothing of the URL but its host."""


class WebhookSink:
    """Posts each alert as JSON to a URL.

    The URL is as good as a password: it is not shown, and not sent anywhere else, so a redirection is a failure.

    Raises:
        SettingError: it is no http or https URL; the message does not repeat it.
    """

    name = "webhook"

    def __init__(self, url: str, pause: Callable[[float], object] = time.sleep) -> None:
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fine = False
        if not fine:
            raise SettingError("alert_webhook is no URL that begins with http:// or https://.")
        self._parts, self._pause = parts, pause
        self._open = build_opener(_NoRedirect).open

    def send(self, alert: Alert) -> None:
        """Post it; three attempts at most, where another one can help.

        Raises:
            NotDelivered: none of them worked.
        """
        body = json.dumps(alert.as_json()).encode()
        for pause in (*_PAUSES, None):
            why, again = self._post(body)
            if not why:
                return
            if pause is None or again is None:
                raise NotDelivered(f"{self._parts.hostname}: {why}")
            self._pause(min(again or pause, _LONGEST_PAUSE))

    def _post(self, body: bytes) -> tuple[str, float | None]:
        """What went wrong, if anything, and after how many seconds to try again: 0 where nobody said, None never."""
        request = Request(_without_user(self._parts), data=body, headers=_headers(self._parts), method="POST")
        try:
            with self._open(request, timeout=_TIMEOUT) as answer:
                answer.read(1024)
                return "", None
        except HTTPError as error:
            with error:
                # The answer's own words might repeat what was sent.
                return f"it answers {error.code}", _retry_after(error) if error.code in _AGAIN else None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            told = reason.strerror if isinstance(reason, OSError) and reason.strerror else ""
            return told or f"it does not answer ({type(reason).__name__})", 0


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _without_user(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))


def _headers(parts: SplitResult) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "datafixes"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return headers


def _retry_after(error: HTTPError) -> float:
    text = error.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0
