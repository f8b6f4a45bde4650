"""The webhook: what it is sent, when it is asked again, and that its URL is reported to nobody."""

import datetime as dt
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest

from datafixes.book.alerts import webhook
from datafixes.book.alerts.alert import Alert, Refused, Unanswered
from datafixes.book.alerts.webhook import NotDelivered, WebhookSink
from datafixes.errors import SettingError
from tests.book.alerts.receiver import Receiver, receiving
from tests.loopback import serving

ALERT = Alert("appeared", "2 differences", dt.datetime(2026, 2, 3, tzinfo=dt.UTC), "book", ("one", "two"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


def test_one_post_of_json(receiver: Receiver) -> None:
    WebhookSink(receiver.url).send(ALERT)
    [(path, headers, body)] = receiver.requests
    assert path == "/hooks/T0SECRET?key=K0SECRET"
    assert headers["Content-Type"] == "application/json"
    assert body == ALERT.as_json()
    assert body["text"].splitlines() == ["2 differences", "one", "two", "book, 2026-02-03 00:00:00 UTC"]


def test_a_name_and_a_password_in_the_url_become_a_header(receiver: Receiver) -> None:
    WebhookSink(receiver.url.replace("//", "//me:p%40ss@")).send(ALERT)
    assert receiver.requests[0][1]["Authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize("code", [429, 500, 503])
def test_it_is_tried_again_where_that_can_help(receiver: Receiver, pauses: list[float], code: int) -> None:
    receiver.answers = [code, code]
    WebhookSink(receiver.url, pauses.append).send(ALERT)
    assert len(receiver.bodies) == 3
    assert pauses == [0.5, 2.0]


def test_the_server_may_say_when_within_reason(receiver: Receiver, pauses: list[float]) -> None:
    receiver.answers, receiver.headers = [429], {"Retry-After": "3"}
    WebhookSink(receiver.url, pauses.append).send(ALERT)
    receiver.answers, receiver.headers = [429], {"Retry-After": "3600"}
    WebhookSink(receiver.url, pauses.append).send(ALERT)
    assert pauses == [3.0, 5.0]


@pytest.mark.parametrize(("code", "attempts"), [(403, 1), (404, 1), (302, 1), (500, 3)])
def test_it_gives_up_and_keeps_the_url_to_itself(
    receiver: Receiver, pauses: list[float], code: int, attempts: int
) -> None:
    receiver.answers = [code] * 5
    receiver.headers = {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}
    with pytest.raises(NotDelivered) as caught:
        WebhookSink(receiver.url, pauses.append).send(ALERT)
    assert str(caught.value) == f"127.0.0.1: it answers {code}"
    assert len(receiver.requests) == attempts
    assert {path for path, _, _ in receiver.requests} == {"/hooks/T0SECRET?key=K0SECRET"}


@pytest.mark.parametrize("code", [400, 413, 415, 422])
def test_what_will_never_do_is_refused_at_once(receiver: Receiver, pauses: list[float], code: int) -> None:
    receiver.answers = [code]
    with pytest.raises(Refused, match=f"^127.0.0.1: it answers {code}$"):
        WebhookSink(receiver.url, pauses.append).send(ALERT)
    assert len(receiver.requests) == 1


def test_a_server_that_closes_on_a_large_alert_gets_the_short_one(pauses: list[float]) -> None:
    large = replace(ALERT, lines=tuple(f"{n} {'x' * 400}" for n in range(100)))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close() -> None:
            taken, _ = listener.accept()
            taken.recv(10)
            taken.close()

        thread = threading.Thread(target=close, daemon=True)
        thread.start()
        with pytest.raises(Refused):
            WebhookSink(f"http://127.0.0.1:{listener.getsockname()[1]}/", pauses.append).send(large)
        thread.join()
    assert pauses == []


def test_each_alert_has_a_key_of_its_own_by_which_it_is_known_again(receiver: Receiver) -> None:
    sink = WebhookSink(receiver.url)
    again = Alert.from_json(json.loads(json.dumps(ALERT.as_json())))
    for alert in (
        ALERT,
        replace(again, unanswered=True),
        replace(ALERT, at=ALERT.at + dt.timedelta(seconds=1)),
    ):
        sink.send(alert)
    keys = [headers["Idempotency-Key"] for _, headers, _ in receiver.requests]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys[0]) == 32
    assert all("unanswered" not in body for body in receiver.bodies)


def test_what_was_sent_in_full_and_not_answered_is_not_sent_again_at_once(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_TIMEOUT", 0.3)
    with silent() as (url, taken):
        with pytest.raises(Unanswered, match=r"^127\.0\.0\.1: it does not answer within 0\.3s$"):
            WebhookSink(url, pauses.append).send(ALERT)
        assert (len(taken), pauses) == (1, [])


@contextmanager
def silent() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes all, and answers nothing: its URL, and its connections."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            with suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/T0SECRET", taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for one in taken:
        one.close()


def test_nobody_there(pauses: list[float]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NotDelivered, match=r"^127\.0\.0\.1: .*refused") as caught:
        WebhookSink(f"http://127.0.0.1:{port}/T0SECRET", pauses.append).send(ALERT)
    assert "SECRET" not in str(caught.value)
    assert len(pauses) == 2


@pytest.mark.parametrize(
    "url", ["file:///etc/T0SECRET", "T0SECRET", "http:///T0SECRET", "http://h:T0SECRET/", "http://[T0SECRET"]
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        WebhookSink(url)
    assert "SECRET" not in caught.value.one_line()


@contextmanager
def dripping(first: bytes) -> Iterator[str]:
    """A server that answers `first`, and then for ever a byte at a time."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.wfile.write(first)
            with suppress(OSError):
                while not over.wait(0.05):
                    self.wfile.write(b"x")

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        try:
            yield f"http://127.0.0.1:{port}/T0SECRET"
        finally:
            over.set()


def test_an_answer_byte_by_byte_has_its_end(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_TIMEOUT", 0.3)
    with dripping(b"HTTP/1.") as url:
        began = time.monotonic()
        with pytest.raises(Unanswered, match=r"^127\.0\.0\.1: it does not answer within 0\.3s$"):
            WebhookSink(url, pauses.append).send(ALERT)
        assert time.monotonic() - began < 3
    # Where the status is there, all is said.
    with dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n") as url:
        began = time.monotonic()
        WebhookSink(url, pauses.append).send(ALERT)
        assert time.monotonic() - began < 0.3


def test_all_attempts_together_have_an_end(
    receiver: Receiver, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_LONGEST", 10.4)
    receiver.answers = [500] * 5
    with pytest.raises(NotDelivered):
        WebhookSink(receiver.url, pauses.append).send(ALERT)
    # Half a second and ten for another attempt do not fit any more.
    assert (len(receiver.requests), pauses) == (1, [])
