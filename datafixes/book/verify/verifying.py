"""Runs all checks, once or until all are green."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from datafixes.book.compare.reconciling import Reconciliation
from datafixes.book.rows.book import Book
from datafixes.book.settings import BookSettings
from datafixes.book.verify import aws, ledger, log_lines, service_log
from datafixes.book.verify.book import check_book, rows_of
from datafixes.book.verify.checklist import Checklist, Progress
from datafixes.book.verify.ledger import Entry, Expected
from datafixes.book.verify.service_log import Since
from datafixes.database.aws_client import Aws, NotAsked
from datafixes.errors import ConnectionLost, DatafixError
from datafixes.project import Project
from datafixes.report.document import Fact, unknown
from datafixes.running.execution import failure
from datafixes.settings.values import masked

BOOK, LOG = "Positions", "Log"

PARTS: Mapping[str, tuple[str, ...]] = {
    "ledger": (ledger.NAME,),
    "broker": (BOOK,),
    "logs": (log_lines.ERRORS_NAME, log_lines.COUNT_NAME),
    "service": (aws.SERVICE,),
}
"""The parts that can be skipped, and their lines."""


@dataclass(frozen=True)
class Question:
    """What to check.

    Attributes:
        project: the project with its settings.
        read_book: reads the open rows of the book; may raise a DatafixError.
        reconcile: compares the book with the broker; may raise a DatafixError.
        expected: the expected contents of the ledger.
        skip: the parts to skip, names of `PARTS`.
        account: the expected AWS account, or an empty string.
        deployment: the deployment that was just begun.
        aws: AWS.
        now: the time.
    """

    project: Project
    read_book: Callable[[Project], Book]
    reconcile: Callable[[Project], Reconciliation]
    expected: Expected = field(default_factory=Expected)
    skip: frozenset[str] = frozenset()
    account: str | None = None
    deployment: aws.Deployment | None = None
    aws: Aws = field(default_factory=lambda: Aws(""))
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)

    @property
    def settings(self) -> BookSettings:
        """The settings of the book in this project."""
        return BookSettings.of(self.project.settings)


def look(question: Question, progress: Progress | None = None) -> Checklist:
    """Run all checks once; one that fails to run becomes a line that says so.

    Args:
        question: what to check.
        progress: notes the progress.
    """
    progress = Progress() if progress is None else progress
    progress.asks(aws.IDENTITY)
    identity = identity_line(question)
    progress.asks(ledger.NAME, *([identity] if identity else ()))
    entry, ledger_line = _ledger(question)
    progress.asks(BOOK, ledger_line)
    rows, book_lines = _book(question)
    asks = identity is None or identity.state == "good"
    progress.asks(aws.SERVICE, *book_lines)
    service, deployed_at = _service(question) if asks else (_not_asked("service", question), None)
    since = Since(ledger.finished_at(entry), deployed_at)
    progress.asks(LOG, *service)
    logs = _logs(question, rows, since) if asks else _not_asked("logs", question)
    first = () if identity is None else (identity,)
    return Checklist((*first, ledger_line, *book_lines, *logs, *service))


def identity_line(question: Question) -> Fact | None:
    """The AWS identity; None if AWS is not used."""
    if {"logs", "service"} <= question.skip and question.account is None:
        return None
    return aws.look_at_identity(question.aws, aws.accounts_of(question.settings, question.account))


def _skipped(part: str) -> tuple[Fact, ...]:
    return tuple(Fact(name, f"skipped by --skip {part}") for name in PARTS[part])


def _not_asked(part: str, question: Question) -> tuple[Fact, ...]:
    if part in question.skip:
        return _skipped(part)
    return tuple(unknown(name, f"not checked: see {aws.IDENTITY}") for name in PARTS[part])


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn the errors of a check, such as a lost database, into a DatafixError."""
    try:
        yield
    except DBAPIError as error:
        raise DatafixError(failure(error, "the query").message) from None
    except ConnectionLost as error:
        # Its hint is about migrations.
        raise DatafixError(error.message) from None
    except (OSError, ValueError) as error:  # from a client with a broken configuration
        words = " ".join(str(error).split())
        raise DatafixError(masked(f"{type(error).__name__}: {words}")) from None


def _ledger(question: Question) -> tuple[Entry | None, Fact]:
    if "ledger" in question.skip:
        return None, _skipped("ledger")[0]
    try:
        with _in_words(), question.project.reading() as connection:
            entry = ledger.read_entry(connection, question.expected)
    except DatafixError as error:
        return None, unknown(ledger.NAME, error.message, error.hint)
    return entry, ledger.check_entry(entry, question.expected)


def _book(question: Question) -> tuple[Mapping[str, int] | None, tuple[Fact, ...]]:
    """The number of open rows by account, if known, and the lines about them."""
    if "broker" in question.skip:
        return (None if "logs" in question.skip else _rows(question)), _skipped("broker")
    settings = question.settings
    try:
        with _in_words():
            found = question.reconcile(question.project)
    except DatafixError as error:
        return _rows(question), (unknown(BOOK, error.message, error.hint),)
    return rows_of(found.book), check_book(found.book, found.comparison, settings.broker_accounts)


def _rows(question: Question) -> Mapping[str, int] | None:
    """The open rows of the book, counted without the broker."""
    try:
        with _in_words():
            return rows_of(question.read_book(question.project))
    except DatafixError:
        return None


def _logs(question: Question, rows: Mapping[str, int] | None, since: Since) -> tuple[Fact, ...]:
    settings = question.settings
    if "logs" in question.skip:
        return _skipped("logs")
    try:
        log = service_log.read_log(question.aws, settings, question.now(), rows or ())
    except NotAsked as error:
        return log_lines.not_read(error, settings)
    return log_lines.check_log(log, settings, rows, since)


def _service(question: Question) -> tuple[tuple[Fact, ...], dt.datetime | None]:
    """The line about the service, and when its expected deployment was begun."""
    if "service" in question.skip:
        return _skipped("service"), None
    begun = question.deployment
    line, runs = aws.look_at_service(question.aws, question.settings, begun)
    times = [one.began for one in (begun, runs) if one is not None and one.began is not None]
    return (line,), max(times, default=None)
