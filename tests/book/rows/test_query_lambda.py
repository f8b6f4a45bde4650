"""The book through the query Lambda: the same book, or one clear line, with the real boto3 over HTTP."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from datafixes.book.positions.symbols import Stock
from datafixes.book.rows import query_lambda
from datafixes.book.rows.book import read_book, read_others
from datafixes.book.rows.query_lambda import query
from datafixes.errors import DatafixError
from datafixes.project import Project
from tests.book.books import BOOK, new_row
from tests.book.rows.lambda_server import NAME, Lambdas, Reply, answer, lambdas, on
from tests.book.settings import engine_settings
from tests.cli.commands import datafixes
from tests.projects import our_project
from tests.servers import Database

SETTINGS = engine_settings()
THROUGH_LAMBDA = Project.read(flags=("book=lambda", "url=postgresql://nobody@127.0.0.1:1/nothing"))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambdas]:
    with lambdas(monkeypatch) as account:
        yield account


def refusal(account: Lambdas, reply: Reply | None, select: str = "SELECT 1") -> DatafixError:
    if reply is not None:
        account.functions[NAME] = lambda _: reply
    with pytest.raises(DatafixError) as caught:
        query(SETTINGS, NAME, select)
    assert "\n" not in caught.value.one_line()
    assert "HIDDEN" not in caught.value.one_line()
    return caught.value


@pytest.mark.parametrize("at_most", [None, 2])
def test_the_book_is_the_same_as_from_postgresql_page_by_page_and_however_much_is_cut(
    account: Lambdas, database: Database, monkeypatch: pytest.MonkeyPatch, at_most: int | None
) -> None:
    assert our_project(database).alembic("upgrade", "013").code == 0
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    database.execute(new_row(id=50, quantity=0), new_row(id=51, account_name=None))
    monkeypatch.setattr(query_lambda, "_PAGE", 5)
    account.functions[NAME] = on(database, at_most=at_most)
    there, here = read_book(Project.read(flags=(f"url={database.url}",))), read_book(THROUGH_LAMBDA)
    assert len(there.rows) == 10
    assert here == replace(there, read_at=here.read_at, source=f"public.active_positions, Lambda {NAME}")
    assert len(account.asked) == (3 if at_most is None else 6)
    assert all(sql.startswith("SELECT ") for sql in account.asked)


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        ([{"rows": 0}], ""),
        ([{"rows": 7}], "The Lambda answered no rows, but counts 7."),
        ([], "The Lambda answered no rows, but counts nothing."),
    ],
)
def test_an_empty_book_is_believed_only_when_it_is_counted(
    account: Lambdas, counted: list[dict[str, Any]], told: str
) -> None:
    account.functions[NAME] = lambda sql: answer(counted if "LIMIT" not in sql else [])
    if told:
        with pytest.raises(DatafixError) as caught:
            read_book(THROUGH_LAMBDA)
        assert caught.value.message == told
    else:
        assert read_book(THROUGH_LAMBDA).rows == ()
    assert len(account.asked) == 2


def row(**values: Any) -> dict[str, Any]:
    return {
        "id": 1, "account_name": "large", "ticker": "QCOM", "option_symbol": None, "instrument_type": "STOCK",
        "side": "long", "status": "open", "strategy_type": "x", "quantity": "5", "entry_price": "1", "entry_time": "0", "rows_left": 1, **values,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"id": 1}], "The Lambda answered another query: id: 1"),
        ([row(id=None)], "The Lambda answered another query: id: None, account_name: large"),
        (
            [row(id=2, rows_left=2), row(id=1, rows_left=2)],
            "The Lambda answered another query: id: 1",
        ),
        ([row(rows_left=0)], "The Lambda answered 1 rows, but counts 0."),
    ],
)
def test_rows_that_were_not_asked_for_are_no_book(
    account: Lambdas, rows: list[dict[str, Any]], told: str
) -> None:
    account.functions[NAME] = lambda _: answer(rows)
    with pytest.raises(DatafixError) as caught:
        read_book(THROUGH_LAMBDA)
    assert caught.value.message.startswith(told)


def test_numbers_are_exact(account: Lambdas) -> None:
    body = '{"success": true, "rows": [{"a": 0.1000000000000000055, "b": 3}], "count": 1}'
    account.functions[NAME] = lambda _: Reply(json.dumps({"statusCode": 200, "body": body}).encode())
    assert query(SETTINGS, NAME, "SELECT a, b") == [{"a": Decimal("0.1000000000000000055"), "b": 3}]
    # Some integrations give the body as an object.
    account.functions[NAME] = lambda _: Reply(
        json.dumps({"statusCode": 200, "body": json.loads(body)}).encode()
    )
    assert query(SETTINGS, NAME, "SELECT a, b")[0]["b"] == 3


def outer(**content: Any) -> Reply:
    return Reply(json.dumps({"statusCode": 200, **content}).encode())


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(b'{"errorMessage": "boom", "stackTrace": ["HIDDEN"]}', headers={"X-Amz-Function-Error": "Unhandled"}),
         "it failed (Unhandled): boom"),
        (Reply(b"Task timed out", headers={"X-Amz-Function-Error": "Unhandled"}), "it failed (Unhandled): Task timed out"),
        (outer(statusCode=500, body='{"error": "connect postgresql://ops:HIDDEN@db/x"}'),
         'statusCode 500: {"error": "connect postgresql://ops:***@db/x"}'),
        (Reply(b'{"errorType": "x"}'), "statusCode None"),
        (Reply(b'{"statusCode": 200, "bo'), "its answer is not JSON, or is truncated"),
        (Reply(b"[]"), "its answer is not a JSON object"),
        (outer(body='{"success": true, "rows": [{'), "the body of its answer is not JSON, or is truncated"),
        (outer(), "the body of its answer is not JSON"),
        (outer(body='{"success": true, "rows": [{"a": NaN}], "count": 1}'), "the body of its answer is not JSON"),
        (answer([], success=False, error="Only SELECT queries allowed"), "it reports a failure: Only SELECT queries"),
        (answer([], success="true"), "it reports a failure"),
        (answer([{"a": 1}], count=2), "it counts 2 rows, but its answer has 1"),
        (answer([{"a": 1}], count=True), "it counts True rows"),
        (answer([], count=None), "it counts None rows, but its answer has 0"),
        (answer([], rows=None, count=0), "its answer has no list of rows"),
        (answer([], rows=[[1]], count=1), "its answer has no list of rows"),
        (Reply(b'{"statusCode": 200}', headers={"Content-Length": "500", "Connection": "close"}), ""),
        (Reply(b'{"Message": "no"}', 403, {"X-Amzn-ErrorType": "AccessDeniedException"}), "AccessDeniedException: no"),
        (Reply(b'{"Message": "slow down"}', 429, {"X-Amzn-ErrorType": "TooManyRequestsException"}),
         "TooManyRequestsException: slow down"),
        (None, "ResourceNotFoundException: Function not found: arn:aws:lambda:us-west-2:123456789012:function:ops-"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_whole_is_none(account: Lambdas, reply: Reply | None, told: str) -> None:
    error = refusal(account, reply)
    assert error.message.startswith(f"The Lambda {NAME} gave no reliable answer: {told}")


def test_where_nobody_answers_or_there_are_no_credentials_that_is_said(
    account: Lambdas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:1")
    assert "Could not connect to the endpoint URL" in refusal(account, None).message
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "Unable to locate credentials" in refusal(account, None).message


@pytest.mark.parametrize(
    "statement", ["UPDATE active_positions SET status = 'closed'", "  delete from t", "SELECTED", ""]
)
def test_a_fix_is_never_sent_through_it(account: Lambdas, statement: str) -> None:
    error = refusal(account, answer([]), statement)
    assert (
        error.message
        == f"The Lambda {NAME} only answers SELECT: datafixes reconcile can use it, but fixes cannot."
    )
    assert account.asked == []


def test_whoever_names_the_lambda_for_a_fix_is_told_what_it_can_do(database: Database) -> None:
    said = "is a Lambda, which only answers SELECT: fixes cannot run there."
    ran = our_project(database).alembic("-x", f"url=lambda:{NAME}", "upgrade", "head")
    assert (ran.code != 0, said in ran.out) == (True, True), ran.err
    for command in ("plan", "history"):
        told = datafixes(None, "-x", f"url=lambda:{NAME}", command)
        assert (told.code != 0, told.out, said in told.err) == (True, "", True), told.err


def test_a_view_hides_who_may_see_what(account: Lambdas, database: Database) -> None:
    assert our_project(database).alembic("upgrade", "013").code == 0
    database.execute("CREATE VIEW seen AS SELECT * FROM active_positions")
    account.functions[NAME] = on(database)
    project = Project.read(flags=(f"book=lambda:{NAME}", "book_table=public.seen"))
    with pytest.raises(DatafixError, match="The book is a view, or row security hides rows of it"):
        read_book(project)


def lost(counted: list[dict[str, Any]], sql: str) -> Reply:
    """Of the rows none, and of their number what a test says."""
    return answer(counted if "SELECT count" in sql else [])


def test_closed_rows_that_were_lost_on_the_way_are_not_none(account: Lambdas) -> None:
    since = dt.datetime(2026, 2, 3, tzinfo=dt.UTC)
    for counted, told in (
        ([{"rows": 2}], "The Lambda answered no rows, but counts 2."),
        ([], "The Lambda answered no rows, but counts nothing."),
    ):
        account.functions[NAME] = partial(lost, counted)
        with pytest.raises(DatafixError, match=told):
            read_others(THROUGH_LAMBDA, [Stock("IBM")], since)
    account.functions[NAME] = partial(lost, [{"rows": 0}])
    assert read_others(THROUGH_LAMBDA, [Stock("IBM")], since) == []
    assert read_others(THROUGH_LAMBDA, [], since) == []


def test_an_endpoint_that_is_no_url(account: Lambdas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "localhost:4566/no-scheme")
    with pytest.raises(
        DatafixError, match="gave no reliable answer: Invalid endpoint: localhost:4566/no-scheme"
    ):
        query(SETTINGS, NAME, "SELECT 1")
