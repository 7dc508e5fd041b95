"""Ten times more tasks than a server can run: memory stays bounded, nothing accepted is lost, and it recovers at once.

Figures of a run are printed (`-s`): what the server held in memory, and the latency before and after.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from pathlib import Path

import pytest
from tests.integration.tasks.conftest import MakeDispatcher, StartServer
from tests.integration.tasks.servers import Server

from spoke_jobs.errors import TaskBufferFull
from spoke_jobs.tasks.dispatcher import TaskDispatcher

CONCURRENCY = 4
CAPACITY = CONCURRENCY / 0.01
"""Tasks a second that it can run: each takes a hundredth of one."""
RECOVERS_WITHIN_SECONDS = 5.0
GROWTH_LIMIT_MB = 64
PAYLOAD = json.dumps("x" * 1_000)


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def latency(dispatcher: TaskDispatcher, server: Server) -> float:
    """From a dispatch to its acknowledgement, with nothing else under way."""
    begin = time.monotonic()
    dispatcher.submit("noop", PAYLOAD)
    assert dispatcher.flush(60)
    return time.monotonic() - begin


def overload(start_server: StartServer, make_dispatcher: MakeDispatcher, seconds: float) -> None:
    server = start_server(concurrency=CONCURRENCY)
    dispatcher = make_dispatcher(server.url, buffer_tasks=1_000, full_wait_seconds=0.05)
    usual = statistics.median(latency(dispatcher, server) for _ in range(20))
    before = resident_mb(server.process.pid)
    most = [before]
    accepted, refused = [0] * 8, [0] * 8
    until = time.monotonic() + seconds

    def send(thread: int) -> None:
        """So many a second that all threads together send ten times what the server can run."""
        rate, begin, number = 10 * CAPACITY / len(accepted), time.monotonic(), 0
        while time.monotonic() < until:
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            number += 1
            try:
                dispatcher.submit("nap", PAYLOAD)
                accepted[thread] += 1
            except TaskBufferFull:
                refused[thread] += 1

    threads = [threading.Thread(target=send, args=(number,)) for number in range(len(accepted))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most.append(resident_mb(server.process.pid))
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert sum(refused) > 0, "it was overloaded"
    held = dispatcher.statistics().held
    assert held <= 1_000
    assert dispatcher.flush(120)
    freed = time.monotonic()
    again = latency(dispatcher, server)
    while again > max(5 * usual, 0.25):
        assert time.monotonic() - freed < RECOVERS_WITHIN_SECONDS
        again = latency(dispatcher, server)
    growth = max(most) - before
    print(f"sent {sum(accepted)}, refused {sum(refused)}, server {before:.0f} MiB and {growth:.0f} more, ", end="")
    print(f"latency {1000 * usual:.1f} ms before, {1000 * again:.1f} ms after")
    assert growth < GROWTH_LIMIT_MB
    counted = dispatcher.statistics()
    assert counted.delivered == counted.submitted
    assert counted.failed == 0
    assert len(server.traces()) == sum(accepted), "each accepted one ran, and none twice"


def test_ten_times_too_many_for_three_seconds(start_server: StartServer, make_dispatcher: MakeDispatcher) -> None:
    overload(start_server, make_dispatcher, 3)


@pytest.mark.long  # the same for a minute: growth that is slow shows only then
def test_ten_times_too_many_for_a_minute(start_server: StartServer, make_dispatcher: MakeDispatcher) -> None:
    overload(start_server, make_dispatcher, 60)
