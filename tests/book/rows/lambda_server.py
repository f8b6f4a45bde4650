"""Plays the invoke API of AWS Lambda on this machine: a function that answers SQL with JSON, or whatever a test says."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from psycopg2.extras import RealDictCursor

from tests.loopback import serving
from tests.servers import Database

NAME = "ops-pipeline-db-query"


@dataclass
class Reply:
    """What comes back over HTTP."""

    payload: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Function = Callable[[str], Reply]
"""What a Lambda makes of a statement."""


def answer(rows: list[dict[str, Any]], /, **more: Any) -> Reply:
    """A good answer, or one with a fault."""
    body = {"success": True, "rows": rows, "count": len(rows), **more}
    return Reply(json.dumps({"statusCode": 200, "body": json.dumps(body, default=str)}).encode())


def on(database: Database, *, at_most: int | None = None, role: str = "postgres") -> Function:
    """A Lambda that runs the statement as a role that only reads, and may cut what it found without a word."""

    def run(sql: str) -> Reply:
        with (
            closing(database.connect(role)) as connection,
            connection.cursor(cursor_factory=RealDictCursor) as cursor,
        ):
            connection.set_session(readonly=True)
            cursor.execute(sql)
            return answer([dict(row) for row in cursor.fetchall()][:at_most])

    return run


@dataclass
class Lambdas:
    """The functions of an account, by name, and what they were asked."""

    functions: dict[str, Function] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def lambdas(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambdas]:
    """An endpoint that boto3 finds by itself, with credentials that it takes."""
    account = Lambdas()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sql = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["sql"]
            account.asked.append(sql)
            function = account.functions.get(self.path.split("/")[3])
            reply = function(sql) if function else _missing(self.path.split("/")[3])
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.payload)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.payload)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Handler) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HIDDEN")
        yield account


def _missing(name: str) -> Reply:
    message = f"Function not found: arn:aws:lambda:us-west-2:123456789012:function:{name}"
    return Reply(
        json.dumps({"Message": message}).encode(), 404, {"X-Amzn-ErrorType": "ResourceNotFoundException"}
    )
