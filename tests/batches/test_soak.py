"""Clients, backends and the server are killed under a fix in batches, with four writers: every row is changed once."""

from tests.batches.soak import soak
from tests.conftest import VERSIONS
from tests.faults.own_server import own_server
from tests.servers import Server

ROUNDS = 10
"""For all servers together; `make soak` runs 500."""


def test_what_is_killed_at_random_changes_every_row_once(server: Server) -> None:
    rounds = max(ROUNDS // len(VERSIONS), 1)
    with own_server(server.version) as running:
        tally = soak(running, range(server.version * 100, server.version * 100 + rounds))
    assert tally.wrong == []
    assert tally.rounds == rounds
    assert tally.changed + tally.restored > rounds * 500
    assert sum(tally.faults.values()) >= rounds
