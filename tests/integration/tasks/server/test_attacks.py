"""Clients without credentials that mean harm, and beside them a sender with the key that must hardly notice.

Attacker, server and sender share this machine. So the attacker has the lowest priority, and the sender's usual time is
measured beside a process of that priority that uses a processor and leaves the server alone. Figures of a run are
printed (`-s`).
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from tests.integration.tasks.conftest import MakeDispatcher, StartServer
from tests.integration.tasks.support.api_server import OWN_TOKEN, api_server
from tests.integration.tasks.support.attacks import ATTACKS
from tests.integration.tasks.support.servers import REPOSITORY, Server
from tests.waiting import eventually, patient

from spoke_jobs.tasks.client.dispatcher import TaskDispatcher

FACTOR = 3.0
ROUNDS = 5
"""Of these, the median counts: the scheduler may pause any process in one of a hundred samples."""
BUSY_PAUSE_SECONDS = 2.0
"""A pause beside other tests. There, the test shows that no good request is turned away or waits for a deadline."""


@contextmanager
def attacked(kind: str, server: Server, size: int) -> Iterator[list[str]]:
    """An attack that has all its connections within the block; afterwards, how fast it was."""
    command = ["nice", "-n", "19", sys.executable, "-m", "tests.integration.tasks.support.attacks"]
    figures: list[str] = []
    with subprocess.Popen(
        [*command, kind, str(server.port), str(size)], cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"all\n"
            yield figures
            process.terminate()
            figures.append(process.stdout.readline().decode().strip())
        finally:
            process.kill()


def p99(dispatcher: TaskDispatcher, samples: int) -> float:
    """Seconds from a dispatch to its acknowledgement."""
    took = []
    for _ in range(samples):
        begin = time.monotonic()
        dispatcher.submit("noop", '"x"', wait_seconds=60)
        assert dispatcher.flush(patient(60))
        took.append(time.monotonic() - begin)
    return sorted(took)[int(0.99 * samples)]


@pytest.fixture
def server(start_server: StartServer, tmp_path: Path) -> Iterator[Server]:
    """One that reviews tokens, too."""
    own = tmp_path / "own-token"
    own.write_text(OWN_TOKEN)
    with api_server() as api:
        yield start_server(callers="texting/web", api_url=api.url, api_token_file=own, api_ca_file="")


@pytest.mark.parametrize(
    ("kinds", "size", "samples", "rounds", "pause"),
    [
        pytest.param(list(ATTACKS), 60, 15, 1, BUSY_PAUSE_SECONDS, marks=pytest.mark.alone, id="each"),
        *(pytest.param([kind], 5_000, 300, ROUNDS, 0.0, marks=pytest.mark.long, id=kind) for kind in ATTACKS),
    ],
)
def test_a_good_sender_hardly_notices_attackers(
    server: Server,
    make_dispatcher: MakeDispatcher,
    kinds: list[str],
    size: int,
    samples: int,
    rounds: int,
    pause: float,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * size)), hard))
    sender = make_dispatcher(server.url)
    usual: list[float] = []
    for kind in kinds:
        under_attack = []
        for _ in range(rounds):
            if len(usual) < rounds:
                with attacked("busy", server, 1):
                    p99(sender, 20)
                    usual.append(p99(sender, samples))
            with attacked(kind, server, size) as figures:
                under_attack.append(p99(sender, samples))
                newcomer = make_dispatcher(server.url)
                first = p99(newcomer, 1)
                assert server.ready()
            print(
                f"{kind}, {size} connections: p99 {1000 * under_attack[-1]:.1f} ms, {1000 * usual[-1]:.1f} without; "
                f"a newcomer's first {1000 * first:.1f}; attacker: {figures[0]}"
            )
            assert first < 5.0
        assert median(under_attack) < max(FACTOR * median(usual), pause)
    for one in (sender, newcomer):
        counted = one.statistics()
        assert (counted.delivered, counted.redelivered) == (counted.submitted, 0), "nothing was sent twice"
    eventually(lambda: server.metric('spoke_tasks_connections{proven="false"}') <= 2, what="the end of all connections")
    assert "Traceback" not in server.log.read_text()
    assert len(server.log.read_text().splitlines()) < 1_000, "the log is not flooded"


def test_the_port_is_accepted_from_again_when_file_descriptors_ran_out(server: Server) -> None:
    idle: list[socket.socket] = []
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (40, before[1]))
    try:
        idle += [socket.create_connection(("127.0.0.1", server.port), timeout=patient(60)) for _ in range(60)]
        eventually(lambda: "can't be accepted" in server.log.read_text())
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
        for sender in idle:
            sender.close()
    eventually(server.ready)
