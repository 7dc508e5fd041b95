"""Tasks dispatched to real servers: each runs, is acknowledged, and is kept until then, whatever dies in between."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.tasks.conftest import MakeDispatcher, StartServer
from tests.integration.tasks.support.servers import Server, environment, started_anew
from tests.ports import free_port
from tests.waiting import eventually, patient

BOTH = ["127.0.0.1", "127.0.0.2"]


def test_a_thousand_tasks_of_eight_threads_each_run_once(server: Server, make_dispatcher: MakeDispatcher) -> None:
    dispatcher = make_dispatcher(server.url)

    def submit(first: int) -> None:
        for number in range(first, first + 125):
            dispatcher.submit(("mark", "amark", "numbered")[number % 3], payload(number))

    def payload(number: int) -> str:
        return json.dumps({"number": number}) if number % 3 == 2 else str(number)

    threads = [threading.Thread(target=submit, args=(first,)) for first in range(0, 1000, 125)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dispatcher.flush(patient(120))
    assert sorted(map(int, server.traces())) == list(range(1000))
    assert dispatcher.statistics().delivered == 1000


def test_a_server_killed_amid_five_hundred_tasks_loses_none(
    start_server: StartServer, make_dispatcher: MakeDispatcher
) -> None:
    port = free_port()
    first = start_server(port=port, concurrency=8)
    dispatcher = make_dispatcher(first.url)
    for number in range(500):
        dispatcher.submit("nap", str(number))
    eventually(lambda: len(first.traces()) >= 100)
    first.kill()
    traced, statistics = len(first.traces()), dispatcher.statistics()
    assert traced < 500
    assert statistics.held > 0
    second = start_server(port=port, concurrency=8)
    assert dispatcher.flush(patient(120))
    runs = Counter(map(int, second.traces()))
    assert set(runs) == set(range(500))
    # Run again were only those that had run without their acknowledgement's getting through.
    assert sum(runs.values()) - 500 <= traced - statistics.delivered
    assert dispatcher.statistics().redelivered > 0


def test_a_replica_that_falls_silent_is_given_up(start_server: StartServer, make_dispatcher: MakeDispatcher) -> None:
    port = free_port()
    silent = start_server("one", host="127.0.0.1", port=port)
    living = start_server("two", host="127.0.0.2", port=port)
    dispatcher = make_dispatcher(
        f"http://tasks.invalid:{port}", resolve=lambda _host, _port: BOTH, silence_seconds=1.0, connect_seconds=1.0
    )
    silent.process.send_signal(signal.SIGSTOP)
    for number in range(100):
        dispatcher.submit("mark", str(number))
    assert dispatcher.flush(patient(120))
    assert {int(line) for line in living.traces()} == set(range(100))


def test_a_task_that_kills_its_replicas_is_given_up_and_costs_no_other(
    make_dispatcher: MakeDispatcher, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    trace, port = tmp_path / "trace", free_port()
    dispatcher = make_dispatcher(f"http://127.0.0.1:{port}", losses=4)
    for number in range(50):
        dispatcher.submit("nap", str(number))
    dispatcher.submit("kills", "null", "killer")
    for number in range(50, 100):
        dispatcher.submit("nap", str(number))
    with started_anew(environment(trace, port=port, host="127.0.0.1", concurrency=2)):
        assert dispatcher.flush(patient(240))
    lines = trace.read_text().splitlines()
    assert lines.count("killing") == 4
    assert set(lines) - {"killing"} == {str(number) for number in range(100)}
    statistics = dispatcher.statistics()
    assert (statistics.delivered, statistics.failed) == (100, 1)
    assert "task killer (kills) failed for good: WorkerLost, 4 replicas died while they had it" in caplog.text


def test_sigterm_finishes_what_was_accepted_and_the_rest_goes_elsewhere(
    start_server: StartServer, make_dispatcher: MakeDispatcher
) -> None:
    port = free_port()
    stopping = start_server("one", host="127.0.0.1", port=port, concurrency=4)
    living = start_server("two", host="127.0.0.2", port=port, concurrency=4)
    dispatcher = make_dispatcher(f"http://tasks.invalid:{port}", resolve=lambda _host, _port: BOTH)
    for number in range(200):
        dispatcher.submit("nap", str(number))
    eventually(lambda: len(stopping.traces()) >= 10, what="the stopping replica at work")
    stopping.terminate()
    for number in range(200, 400):
        dispatcher.submit("nap", str(number))
    assert dispatcher.flush(patient(120))
    assert stopping.stopped() == 0
    # An orderly stop repeats nothing.
    assert sorted(int(line) for line in stopping.traces() + living.traces()) == list(range(400))
    assert "finishing" in stopping.log.read_text()


def test_what_outlasts_the_grace_period_is_returned_and_run_elsewhere(
    start_server: StartServer, make_dispatcher: MakeDispatcher
) -> None:
    port = free_port()
    stopping = start_server("one", host="127.0.0.1", port=port, grace_seconds=0.2, concurrency=1)
    replicas = ["127.0.0.1"]
    dispatcher = make_dispatcher(
        f"http://tasks.invalid:{port}", resolve=lambda _host, _port: replicas, resolve_seconds=0.1
    )
    living = start_server("two", host="127.0.0.2", port=port)
    living.open_gate()
    for name in ("gated", "agated", "gated"):  # one of the two def tasks waits in the queue
        dispatcher.submit(name, json.dumps(name))
    eventually(lambda: len(stopping.traces()) == 2)
    replicas.append("127.0.0.2")
    stopping.terminate()
    assert stopping.stopped() == 0
    assert dispatcher.flush(patient(120))
    assert Counter(living.traces()) == {"begin gated": 2, "end gated": 2, "begin agated": 1, "end agated": 1}
    assert sorted(stopping.traces()) == ["begin agated", "begin gated"]


def test_a_task_that_does_not_end_delays_no_other_ones_acknowledgement(
    server: Server, make_dispatcher: MakeDispatcher
) -> None:
    dispatcher = make_dispatcher(server.url)
    for number in range(300):  # slow ones in the middle of batches
        dispatcher.submit("mark", str(number))
        if number % 100 == 50:
            dispatcher.submit("gated", '"slow"')
            dispatcher.submit("agated", '"slow"')
    eventually(lambda: dispatcher.statistics().delivered == 300)
    assert dispatcher.statistics().held == 6
    server.open_gate()
    assert dispatcher.flush(patient(120))


def test_a_task_that_raises_is_tried_three_times_and_an_unknown_one_once(
    server: Server, make_dispatcher: MakeDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = make_dispatcher(server.url)
    dispatcher.submit("second_time_lucky", "null")
    assert dispatcher.flush(patient(120))
    assert server.traces() == ["attempt 1", "attempt 2"]
    doomed, lost = str(uuid4()), str(uuid4())
    dispatcher.submit("raises", "null", task_id=doomed)
    dispatcher.submit("nobody_knows", "1", task_id=lost)
    dispatcher.submit("mark", '"other"')
    assert dispatcher.flush(patient(120))
    assert [line for line in server.traces()[2:] if line != "other"] == ["attempt 1", "attempt 2", "attempt 3"]
    assert (dispatcher.statistics().failed, dispatcher.statistics().delivered) == (2, 2)
    final = {record.getMessage() for record in caplog.records if record.levelno == logging.ERROR}
    assert final == {
        f"task {doomed} (raises) failed for good: TaskError ValueError (attempt 3)",
        f"task {lost} (nobody_knows) failed for good: UnknownTask (attempt 1)",
    }
    assert "secret payload value" not in caplog.text
    assert f"task {doomed} (raises), attempt 3 of 3" in server.said()
