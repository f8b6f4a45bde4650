"""A database moves to another server as the page says, and everything goes on there: through all the servers that there are."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import shop
from tests.cli.commands import answer, datafixes
from tests.conftest import VERSIONS
from tests.docs.pages import ROOT, Block, Reader, blocks_of
from tests.projects import Project, new_project
from tests.servers import SERVERS, Database, Server, running_server

PAGE = ROOT / "docs/how-to/move-a-database.md"
WAYS = ("Dump and restore", "Switch over by logical replication")

TOP = """
from datafixes import RecordedFix, Table

fix = RecordedFix(
    name="merge", reason="Made twice by the import.",
    tables=[
        Table("customer", "customer_audit", key="id", deleted={2: "Acme Inc"}, identity={"name": "name"}),
        Table("invoice", "invoice_audit", updated=2),
        Table("note", "note_audit", deleted=2, inserted=2),
    ],
)
"""
UPDATE = """
fix = DataFix(
    name="mark_{0}", reason="r", change=Update("customer", set={{"email": "{0}@example.org"}}),
    rows=Rows(key="id", expect=[{1}]), audit="customer_audit",
)
"""


@pytest.fixture(scope="module")
def route() -> Iterator[list[Server]]:
    """Two servers at least, from the oldest to the newest."""
    if len(VERSIONS) == 1 and any(SERVERS.values()):
        pytest.skip("needs two servers, and TEST_POSTGRES names one")
    with ExitStack() as stack:
        versions = VERSIONS if len(VERSIONS) > 1 else VERSIONS * 2
        yield [stack.enter_context(running_server(version)) for version in versions]


@dataclass
class Move:
    """A project whose database goes from server to server.

    Attributes:
        project: the project, with the database that is in use.
        start: what was in the tables before the first fix.
        later: the servers that are still ahead.
    """

    project: Project
    start: dict[str, list[str]]
    later: list[Database]

    def page(self, heading: str) -> Iterator[Block]:
        """The commands below a heading."""
        section = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
        [text] = [part for part in section if part.startswith(heading + "\n")]
        return iter(blocks_of(text, "sh"))

    def reader(self) -> Reader:
        old, new = self.project.database, self.later[0]
        urls = {name: Reader(one, Path()).url for name, one in (("OLD_URL", old), ("NEW_URL", new))}
        return Reader(new, self.project.directory, urls)

    def arrive(self) -> None:
        """The next server is the one in use."""
        self.project = self.project.on(self.later.pop(0))
        self.project.write_ini()


@pytest.fixture
def move(route: list[Server], tmp_path: Path) -> Iterator[Move]:
    """The shop with a recorded fix of four tables; one of them has no key, one a generated column."""
    with ExitStack() as stack:
        first, *later = [
            stack.enter_context(server.database(f"house_{number}")) for number, server in enumerate(route)
        ]
        project = new_project(tmp_path, first)
        first.execute(shop.TABLES)
        names = ("customer", "invoice", "note")
        make = "\n".join(f'op.create_audit_table("{name}", name="{name}_audit")' for name in names)
        drop = "\n".join(f'op.drop_audit_table("{name}_audit")' for name in names)
        project.revision("a", None, make, drop, top="# Copies.")
        body = "\n".join(f"    body.execute({statement!r})" for statement in shop.MERGE)
        project.revision(
            "b", "a", f"with op.record_datafix(fix) as body:\n{body}", "op.revert_datafix(fix)", top=TOP
        )
        start = shop.contents(first)
        assert project.alembic("upgrade", "b").code == 0
        yield Move(project, start, later)


def fix(move: Move, name: str, after: str, row: int) -> None:
    """Write and apply one more fix."""
    move.project.revision(
        name, after, "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=UPDATE.format(name, row)
    )
    ran = move.project.alembic("upgrade", name)
    assert ran.code == 0, ran.err


def history(project: Project) -> object:
    return answer(project, "history")["runs"]


def goes_on(move: Move, steps: int) -> None:
    """What is open can be reverted, the next fix is a new run, and everything goes back to the first state."""
    project = move.project
    runs = [run for (run,) in project.database.rows("SELECT run_id FROM datafix_run ORDER BY run_id")]
    opened = answer(project, "open")["fixes"]
    assert [(one["fix"], one["can_be_reverted"]) for one in opened] == [
        (name, True) for name in ("merge", *(f"mark_c{step}" for step in range(steps)))
    ][::-1]
    assert [
        one["state"]
        for one in answer(project, "doctor", code=None)["findings"]
        if one["check"] == "sequences"
    ] == ["good"]
    fix(move, "z", f"c{steps - 1}" if steps else "b", 3)
    assert project.database.value("SELECT max(run_id) FROM datafix_run") > max(runs)
    project.database.execute(
        "INSERT INTO customer (name) VALUES ('new')", "DELETE FROM customer WHERE name = 'new'"
    )
    ran = project.alembic("downgrade", "a")
    assert ran.code == 0, ran.err
    assert shop.contents(project.database) == move.start
    assert answer(project, "open")["fixes"] == []


def same(move: Move) -> None:
    """Everything that was in the old database is in the new one."""
    old, new = move.project.database, move.later[0]
    assert new.dump() == old.dump()
    project = move.project
    assert datafixes(project.on(new), "history").out == datafixes(project, "history").out


def test_dump_and_restore(move: Move) -> None:
    while move.later:
        reader = move.reader()
        for block in move.page("Dump and restore"):
            reader.run_block(block)
        same(move)
        move.arrive()
    goes_on(move, 0)


def afterwards(move: Move) -> None:
    reader = move.reader()
    for block in move.page("Afterwards"):
        done = reader.run(block.text)
        assert done.returncode == 0, done.stdout
        assert "None is behind its table" in done.stdout


def until(reader: Reader, block: Block, word: str) -> None:
    """Ask again, as the page says, until it is so."""
    deadline = time.monotonic() + 60
    while True:
        done = reader.run(block.text.replace("psql ", "psql -At ", 1))
        assert done.returncode == 0, done.stdout
        if done.stdout.strip() == word:
            return
        assert time.monotonic() < deadline, done.stdout
        time.sleep(0.2)


def test_a_switchover_by_logical_replication(move: Move) -> None:
    step = 0
    while move.later:
        reader, page = move.reader(), move.page("Switch over by logical replication")
        old = move.project.database
        reader.run_block(next(page))  # identities
        full = "SELECT relname FROM pg_class WHERE relreplident = 'f' AND relname !~ '_audit$' ORDER BY 1"
        assert old.rows(full) == [("log",), ("note",)]  # audit tables are made with it
        reader.run_block(next(page))  # definitions
        reader.run_block(next(page))  # publication and subscription
        until(reader, next(page), "0")
        # Fixes run on in the old database: their images and their line in the ledger follow.
        fix(move, f"c{step}", f"c{step - 1}" if step else "b", (4, 3, 1)[step])
        until(reader, next(page), "t")
        same(move)
        reader.run_block(next(page))  # the end of the subscription, and sequences
        assert next(page, None) is None
        afterwards(move)
        old.execute("DROP PUBLICATION moving")
        move.arrive()
        step += 1
    goes_on(move, step)


def test_sequences_that_were_forgotten_are_named_and_nothing_is_changed(move: Move) -> None:
    reader, page = move.reader(), list(move.page("Switch over by logical replication"))
    for block in page[:3]:
        reader.run_block(block)
    until(reader, page[3], "0")
    move.later[0].execute("DROP SUBSCRIPTION moving")
    project = move.project.on(move.later[0])
    project.revision("c", "b", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=UPDATE.format("c", 4))
    told = [one for one in answer(project, "doctor", code=3)["findings"] if one["check"] == "sequences"]
    named = {
        "datafix_run_run_id_seq",
        "customer_audit_audit_id_seq",
        "invoice_audit_audit_id_seq",
        "note_audit_audit_id_seq",
        "customer_id_seq",
    }
    assert {re.search(r"public\.(\w+_seq)", one["evidence"])[1] for one in told} == named  # type: ignore[index]
    before = project.database.dump()
    ran = project.alembic("upgrade", "c")
    assert ran.code != 0
    assert "the sequence public.datafix_run_run_id_seq would hand out 1 next" in ran.last_line
    assert "as after a switchover by logical replication" in ran.last_line
    assert project.database.dump() == before
    for one in told:
        project.database.execute(one["remedy"].partition(": ")[2])
    assert project.alembic("upgrade", "c").code == 0
    assert project.alembic("downgrade", "a").code == 0
    assert shop.contents(project.database) == move.start
