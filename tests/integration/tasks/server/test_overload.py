"""Ten times more tasks than a server can run: memory stays bounded, nothing accepted is lost, and it recovers at once.

Figures of a run are printed (`-s`): what the server held in memory, and the latency before and after.
"""

from __future__ import annotations

import json
import logging
import statistics
import threading
import time

import pytest
from tests.integration.tasks.conftest import MakeDispatcher, StartServer
from tests.waiting import patient

from spoke_jobs.errors import TaskBufferFull
from spoke_jobs.tasks.client.dispatcher import TaskDispatcher

CONCURRENCY = 4
CAPACITY = CONCURRENCY / 0.01
"""Tasks a second that it can run: each takes a hundredth of one."""
RECOVERS_WITHIN_SECONDS = 5.0
GROWTH_LIMIT_MB = 64
PAYLOAD = json.dumps("x" * 1_000)
QUEUE = 200
SENDERS, BUFFER_TASKS = 2, 300
"""Dispatchers, and what each holds: each alone would send the server more than it accepts."""


def latency(dispatcher: TaskDispatcher) -> float:
    """From a dispatch until it and all before it are acknowledged."""
    begin = time.monotonic()
    dispatcher.submit("noop", PAYLOAD, wait_seconds=60)
    assert dispatcher.flush(patient(60))
    return time.monotonic() - begin


@pytest.mark.alone
@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.long, id="growth that is slow")])
def test_ten_times_too_many(
    start_server: StartServer, make_dispatcher: MakeDispatcher, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    server = start_server(concurrency=CONCURRENCY, queue=QUEUE)
    senders = [make_dispatcher(server.url, buffer_tasks=BUFFER_TASKS, full_wait_seconds=0.05) for _ in range(SENDERS)]
    usual = statistics.median(latency(senders[0]) for _ in range(20))
    before = server.memory()
    most = [before]
    accepted, refused = [0] * 8, [0] * 8
    until = time.monotonic() + seconds

    def send(thread: int) -> None:
        """So many a second that all threads together send ten times what the server can run."""
        dispatcher = senders[thread % SENDERS]
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
        most.append(server.memory())
        time.sleep(0.1)
    ended = time.monotonic()
    held = [sender.statistics().held for sender in senders]
    again = max(latency(sender) for sender in senders)
    while again > max(5 * usual, 0.25):
        assert time.monotonic() - ended < RECOVERS_WITHIN_SECONDS
        again = max(latency(sender) for sender in senders)
    recovered = time.monotonic() - ended
    growth = (max(most) - before) / 2**20
    full = sum(sender.statistics().redelivered for sender in senders)
    print(f"sent {sum(accepted)}, {full} handed back by the full server, {sum(refused)} refused by the full buffers")
    print(f"server {before / 2**20:.0f} MiB and {growth:.1f} more; {held} held at the end")
    print(f"latency {1000 * usual:.1f} ms before, {1000 * again:.1f} ms within {recovered:.1f} s after")
    assert recovered < RECOVERS_WITHIN_SECONDS
    assert sum(refused) > 0, "the dispatchers' buffers were full"
    assert full > 0, "the server's queue was full"
    assert not [item for item in caplog.records if item.levelno >= logging.ERROR], "and nothing else was the matter"
    assert max(held) <= BUFFER_TASKS
    assert growth < GROWTH_LIMIT_MB
    for sender in senders:
        counted = sender.statistics()
        assert (counted.delivered, counted.failed) == (counted.submitted, 0)
    assert len(server.traces()) == sum(accepted), "each accepted one ran, and none twice"
