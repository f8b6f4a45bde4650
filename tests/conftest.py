"""What every test can ask for: a real server, a fresh database, and an environment that leads nowhere."""

import itertools
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws import Cloud, enter, running_cloud
from tests.named import VARIABLE
from tests.servers import SERVERS, UNUSABLE, Database, Server, running_server

VERSIONS = tuple(sorted(SERVERS))
"""The servers to test on; `TEST_POSTGRES=18 pytest` is the quick half."""

# What these test is the same on every server: the newest one is enough.
NEWEST_ONLY = (
    "matrix",
    "plugin",
    "book",
    "docs",
    "house",
    "stacks",
    "batches/test_alone.py",
    "batches/test_hazards.py",
    "batches/test_interrupted.py",
    "batches/test_lag.py",
    "batches/test_odd.py",
    "batches/test_offline.py",
    "batches/test_operator.py",
    "batches/test_plan.py",
    "batches/test_seen.py",
    "batches/test_steering.py",
    "trust/test_append_only_doctor.py",
    "trust/test_append_only_moved.py",
    "trust/test_attacks.py",
    "trust/test_export.py",
    "trust/test_find_in_audit.py",
    "trust/test_no_alarm.py",
    "trust/test_prune_command.py",
    "trust/test_pruned.py",
    "trust/test_signed_anchors.py",
    "trust/test_three_roles.py",
    "cli/test_attacks.py",
    "cli/test_main.py",
    "cli/test_new.py",
    "cli/test_where.py",
    "faults/test_pooler.py",
    "cli/test_database_errors.py",
    "cli/test_doctor.py",
    "cli/test_plan.py",
    "cli/test_plan_commits.py",
    "cli/test_questions.py",
    "cli/test_revert.py",
    "cli/test_stamped.py",
    "migrations/test_alembic_revisions.py",
    "migrations/test_alembic_scripts.py",
    "migrations/test_bad_input.py",
    "migrations/test_baseline.py",
    "migrations/test_declaration_differs.py",
    "migrations/test_decline.py",
    "migrations/test_going_on.py",
    "migrations/test_masked_errors.py",
    "migrations/test_revert_without_its_file.py",
    "migrations/test_values_before_a_drop.py",
)

# Only the tests' own processes are measured (make coverage), and not the many that they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COVERAGE_PROCESS_START", None)

_numbers = itertools.count(1)

# Names that could lead a test to somebody's database or cloud account, or put a real pipeline into a ledger.
_FOREIGN_PREFIXES = (
    "AWS_", "DATAFIXES_", "PG", "GITHUB_", "GITLAB_", "CI_", "BUILD_", "BUILDKITE", "CIRCLE", "CODEBUILD_",
    "BITBUCKET_", "SYSTEM_", "TRAVIS", "JENKINS_",
)  # fmt: skip
_FOREIGN_NAMES = ("DATABASE_URL", "CI", "GIT_COMMIT", "JOB_NAME", "TF_BUILD")


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-alembic from adding tests of its own here: its collector stops pytest 9.2.

    Its fixtures still work. The path must be one that does not exist.
    """
    config.option.pytest_alembic_tests_path = "tests/none.py"
    # A connection whose server is gone may be collected while Python parses a module. Formatting its traceback parses,
    # too, and before 3.11.8 and 3.12.2 the outer one then fails (SystemError: AST constructor recursion depth mismatch).
    for kind in ("QueuePool", "NullPool", "StaticPool"):
        logging.getLogger(f"sqlalchemy.pool.impl.{kind}").addFilter(_without_traceback)
    if UNUSABLE:
        raise pytest.UsageError(UNUSABLE)
    if getattr(config.option, "numprocesses", None) and any(SERVERS.values()):
        raise pytest.UsageError(f"{VARIABLE} names a server, and only one process may use it: add -n 0")
    # Told to end, by a pipeline that ran out of time, pytest stops the servers that it started.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run on the newest server alone what does not depend on it."""
    here = Path(__file__).parent

    def is_enough(item: pytest.Item) -> bool:
        version = getattr(item, "callspec", None) and item.callspec.params.get("server")  # type: ignore[attr-defined]
        place = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return version in (None, max(VERSIONS)) or not place.startswith(NEWEST_ONLY)

    left_out = [item for item in items if not is_enough(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if is_enough(item)]


@pytest.fixture(autouse=True)
def _nothing_leaves_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(_FOREIGN_PREFIXES) or name in _FOREIGN_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # Profiles and credentials of whoever runs the tests.
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda version: f"pg{version}")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server, once for each version; tests that do not ask for it start none."""
    with running_server(request.param) as running:
        yield running


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """An empty database of the test's own."""
    with server.database(f"test_{next(_numbers)}") as fresh:
        yield fresh


@pytest.fixture(scope="session")
def _running_cloud() -> Iterator[Cloud]:
    with running_cloud() as running:
        yield running


@pytest.fixture
def cloud(_running_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty AWS account on this machine, to which this test's boto3 is led."""
    return enter(_running_cloud, monkeypatch)
