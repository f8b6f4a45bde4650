"""The pytest plugin for authors of fixes: a fixture, and checks that run automatically after the test.

pytest loads this module in every project of the environment, so it imports only pytest; the rest is loaded when a test
uses the fixture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from datafixes.testing import Datafix
    from datafixes.testing.session import Session

_DATAFIX = pytest.StashKey[Any]()
_TOLD = ("datafix left out",)
_ALL = (*_TOLD, "datafix passed", "datafix nothing to check")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("datafixes", "tests of data fixes")
    group.addoption(
        "--datafix-url",
        metavar="URL",
        help="the PostgreSQL server for tests of fixes, in databases of their own; by default a private one",
    )
    group.addoption(
        "--datafix-remote",
        action="store_true",
        help="allow a server on another machine",
    )
    parser.addini("datafix_url", "as --datafix-url")
    parser.addini(
        "datafix_config", "Alembic's configuration, relative to pytest's root", default="alembic.ini"
    )
    parser.addini(
        "datafix_baseline", "SQL file that runs before the first migration, relative to pytest's root"
    )


@pytest.fixture(scope="session")
def datafix_session(pytestconfig: pytest.Config) -> Iterator[Session]:
    """Shared by all tests of fixes: the server, and a database at each starting revision."""
    from datafixes.testing.session import Session, Wishes

    with Session(
        Wishes(
            root=pytestconfig.rootpath,
            config=pytestconfig.getini("datafix_config"),
            baseline=pytestconfig.getini("datafix_baseline") or "",
            url=pytestconfig.getoption("datafix_url") or "",
            url_in_ini=pytestconfig.getini("datafix_url") or "",
            remote=pytestconfig.getoption("datafix_remote"),
        )
    ) as session:
        yield session


@pytest.fixture
def datafix(request: pytest.FixtureRequest, datafix_session: Session) -> Iterator[Datafix]:
    """Call it with a revision, or with the name of a fix, to get that fix with its own database."""
    from datafixes.testing import Datafix

    with Datafix(datafix_session) as one:
        request.node.stash[_DATAFIX] = one
        yield one


# trylast makes it the innermost wrapper: output, log and time of the checks belong to the test, and xfail covers them.
@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """When a test has passed, run the checks of its fixes; a failed check fails the test."""
    result = yield
    datafix: Datafix | None = item.stash.get(_DATAFIX, None)
    if datafix is not None:
        reports = datafix.check()
        item.user_properties.extend(
            (f"datafix {kind}", line) for one in reports for kind, line in one.notes()
        )
        if failures := [report.failure() for report in reports if report.failed]:
            pytest.fail("\n\n".join(failures), pytrace=False)
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report the checks that were left out; with ``-v``, also those that ran."""
    kinds = _ALL if terminalreporter.verbosity > 0 else _TOLD
    shown = [
        f"{report.nodeid}: {text}"
        for outcome in ("passed", "failed", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, ())
        for kind, text in getattr(report, "user_properties", ())
        if kind in kinds
    ]
    if shown:
        terminalreporter.section("data fixes")
        for line in shown:
            terminalreporter.write_line(line)
