"""A forge on this machine, as far as comments go: GitHub's and GitLab's ways to list, write and change them."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import serving

TOKENS = ("Bearer T0KEN", "T0KEN")
BOT = {"id": 99, "login": "github-actions[bot]"}
ALL = ("/repos/shop/web/issues/7/comments", "/projects/5/merge_requests/7/notes")
ONE = re.compile(r"(?:PATCH /repos/shop/web/issues/comments|PUT /projects/5/merge_requests/7/notes)/(\d+)")


@dataclass
class Forge:
    """The comments of one request, oldest first, and how each was asked for.

    Attributes:
        url: where its API is.
        comments: all comments.
        asked: method and path of each request.
        refuses: it answers 403.
    """

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refuses: bool = False

    def say(self, body: str, user: dict[str, Any] = BOT) -> dict[str, Any]:
        """Add a comment; GitHub calls its author user, GitLab author."""
        comment = {"id": 1000 + len(self.comments), "body": body, "user": user, "author": user}
        self.comments.append(comment)
        return comment

    def answer(self, method: str, path: str, value: Any) -> Any:
        """What a request gets; None: there is nothing of that name."""
        parts = urlsplit(path)
        self.asked.append(f"{method} {parts.path}")
        if (method, parts.path) == ("GET", "/user"):
            return BOT
        if parts.path in ALL and method == "POST":
            return self.say(value["body"])
        if parts.path in ALL and method == "GET":
            page, size = (int(parse_qs(parts.query)[name][0]) for name in ("page", "per_page"))
            return self.comments[(page - 1) * size : page * size]
        if found := ONE.fullmatch(f"{method} {parts.path}"):
            [comment] = [one for one in self.comments if one["id"] == int(found[1])]
            return comment | {"body": comment.update(value)}
        return None


@contextmanager
def forge() -> Iterator[Forge]:
    """Run one."""
    running = Forge()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers["Content-Length"] or 0)
            value = json.loads(self.rfile.read(length)) if length else None
            token = self.headers["Authorization"] or self.headers["PRIVATE-TOKEN"]
            known = token in TOKENS and not running.refuses
            found = running.answer(self.command, self.path, value) if known else None
            body = json.dumps(found).encode()
            self.send_response(403 if not known else 404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815 - their names are the library's

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        running.url = f"http://127.0.0.1:{port}"
        yield running
