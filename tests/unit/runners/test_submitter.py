"""The one try to create a SpokeJob, beside its caller: what is tried, what is left to sync, and what is recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.unit.sync.making import job
from tests.waiting import eventually, patient

from spoke_jobs.model import JobRequest
from spoke_jobs.runners import submitter as module
from spoke_jobs.runners.submitter import Breaker, Submitter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Api:
    """What the tries meet: it does something to each."""

    def __init__(self, does: Callable[[JobRequest], object] = lambda _job: None) -> None:
        self.does = does
        self.asked = True
        self.tried: list[int] = []
        self.ended: list[int] = []

    def __call__(self, job: JobRequest) -> bool:
        self.tried.append(job.id)
        self.does(job)
        self.ended.append(job.id)
        return self.asked


class Sync:
    """How often it was told that jobs were left to it."""

    told = 0

    def __call__(self) -> None:
        self.told += 1


def submitter_of(api: Api, sync: Sync | None = None, **options: Any) -> Submitter:
    return Submitter(api, sync or Sync(), **{"patience_seconds": 60, **options})


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hangs, hangs until it is open; at last it is."""
    event = threading.Event()
    yield event
    event.set()


def fails(_job: JobRequest) -> None:
    raise OSError("no route")


def jobs(*ids: int) -> list[JobRequest]:
    return [job(id=id_) for id_ in ids]


def all_hang(submitter: Submitter, api: Api) -> None:
    for number in range(4):
        submitter.submit(jobs(number))
        eventually(lambda number=number: len(api.tried) == number + 1)  # type: ignore[misc]


def test_a_breaker_rests_then_probes_one_at_a_time() -> None:
    clock = Clock()
    breaker = Breaker(30, clock)
    assert breaker.ask()
    assert breaker.failed()
    assert not breaker.failed(), "the circuit was open"
    clock.now = 29.9
    assert not breaker.ask()
    assert breaker.is_paused()
    clock.now = 30
    assert not breaker.is_paused()
    assert [breaker.ask(), breaker.ask()] == [True, False]
    assert breaker.is_paused()
    breaker.failed()
    clock.now = 59.9
    assert breaker.is_paused(), "a probe that fails has the next ones rest again"
    clock.now = 60
    assert breaker.ask()
    breaker.succeeded(breaker.failures)
    assert not breaker.is_paused()
    assert breaker.ask()


def test_a_success_that_began_before_a_failure_says_nothing_of_it() -> None:
    breaker = Breaker(30, Clock())
    failures = breaker.failures
    breaker.failed()
    breaker.succeeded(failures)
    assert breaker.is_paused()


def test_a_job_waits_without_its_payload() -> None:
    """A thousand may wait, and each payload may be large."""
    payloads: list[str] = []
    submitter = submitter_of(Api(lambda job: payloads.append(job.payload)))
    submitter.submit([job(payload='"large"')])
    submitter.close(patient(30))
    assert payloads == [""]


def test_jobs_that_lock_one_queue_are_created_in_their_order_and_hold_up_no_others(gate: threading.Event) -> None:
    api = Api(lambda job: gate.wait() if job.id == 1 else None)
    submitter = submitter_of(api)
    submitter.submit(job(id=id_, queue_name="one", locks_queue=True) for id_ in (1, 2, 3))
    submitter.submit([job(id=4, queue_name="other", locks_queue=True), job(id=5, queue_name="one")])
    eventually(lambda: api.ended == [4, 5])
    assert api.tried == [1, 4, 5]
    gate.set()
    submitter.close(patient(30))
    assert api.ended == [4, 5, 1, 2, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_that_die_are_replaced_and_what_waited_for_them_holds_up_nothing(gate: threading.Event) -> None:
    def dies(_job: JobRequest) -> None:
        gate.wait(patient(30))
        sys.exit("a library's")

    api, clock = Api(dies), Clock()
    submitter = submitter_of(api, clock=clock)
    submitter.submit(jobs(*range(10)))
    threads = set(submitter._threads)
    gate.set()
    for thread in threads:
        thread.join(patient(60))
    assert not submitter._threads
    api.does = lambda _job: None
    clock.now = 3600
    submitter.submit(jobs(10))
    eventually(lambda: api.ended == [10])


def test_where_no_thread_can_be_started_it_is_left_to_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    api, sync, clock = Api(), Sync(), Clock()
    submitter = submitter_of(api, sync, clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        submitter.submit(jobs(1))
    assert sync.told == 1
    clock.now = 3600
    submitter.submit(jobs(2))
    eventually(lambda: api.ended == [2])


def test_one_that_hangs_holds_up_no_other(gate: threading.Event) -> None:
    api = Api(lambda job: job.id == 1 and gate.wait(patient(30)))
    submitter = submitter_of(api)
    submitter.submit(jobs(*range(1, 50)))
    eventually(lambda: sorted(api.ended) == list(range(2, 50)))


def test_a_failure_leaves_all_that_waits_to_sync_and_a_probe_ends_that(gate: threading.Event) -> None:
    def waits_and_fails(job: JobRequest) -> None:
        gate.wait(patient(30))
        fails(job)

    api, sync, clock = Api(waits_and_fails), Sync(), Clock()
    submitter = submitter_of(api, sync, clock=clock)
    submitter.submit(jobs(*range(100, 200)))
    assert sync.told == 0
    gate.set()
    eventually(submitter.is_paused)
    submitter.close(patient(30))
    assert len(api.tried) <= 4, "those that were under way"
    told = sync.told
    assert told
    submitter.submit(jobs(1))
    assert sync.told == told + 1
    clock.now = 31
    api.does = lambda _job: None
    submitter.submit(jobs(2, 3))
    assert sync.told == told + 2, "one at a time"
    submitter.close(patient(30))
    submitter.submit(jobs(4, 5))
    submitter.close(patient(30))
    assert sorted(api.ended) == [2, 4, 5]
    assert sync.told == told + 2


def test_a_probe_that_does_not_come_to_the_api_server_ends_nothing() -> None:
    """Its job was cancelled meanwhile."""
    api, clock = Api(fails), Clock()
    submitter = submitter_of(api, clock=clock)
    submitter.submit(jobs(1))
    submitter.close(patient(30))
    clock.now = 31
    api.does, api.asked = (lambda _job: None), False
    submitter.submit(jobs(2))
    submitter.close(patient(30))
    assert submitter.is_paused()


def test_what_finds_no_room_is_not_tried(gate: threading.Event) -> None:
    """Nor is sync told: it would begin with what is tried here."""
    api, sync = Api(lambda _job: gate.wait(patient(30))), Sync()
    submitter = submitter_of(api, sync, room=2)
    all_hang(submitter, api)
    submitter.submit(jobs(4, 5, 6))
    gate.set()
    submitter.close(patient(30))
    assert sorted(api.tried) == [0, 1, 2, 3, 4, 5]
    assert sync.told == 0


def test_what_has_waited_too_long_is_left_to_sync_and_so_is_what_comes_behind_it(gate: threading.Event) -> None:
    api, sync, clock = Api(lambda _job: gate.wait(patient(30))), Sync(), Clock()
    submitter = submitter_of(api, sync, patience_seconds=5, clock=clock)
    all_hang(submitter, api)
    submitter.submit(jobs(4))
    assert sync.told == 0
    clock.now = 5.1
    submitter.submit(jobs(5))
    assert sync.told == 1
    gate.set()
    submitter.close(patient(30))
    assert sync.told == 2
    assert sorted(api.tried) == [0, 1, 2, 3]


def test_closing_waits_for_what_was_submitted_but_not_for_what_hangs(gate: threading.Event) -> None:
    api = Api(lambda job: job.id < 4 and gate.wait(patient(30)))
    submitter = submitter_of(api)
    submitter.submit(jobs(*range(3), *range(10, 50)))
    began = time.monotonic()
    submitter.close(0.5)
    assert 0.49 <= time.monotonic() - began < 30
    assert sorted(api.ended) == list(range(10, 50))
    submitter.submit(jobs(3, 4))
    submitter.close(0.1)
    gate.set()
    submitter.close(patient(30))
    assert 4 not in api.tried, "it was closed before its turn"


def test_once_closed_it_tells_sync_nothing_more(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """That would open again what its owner has closed."""
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.01)

    def waits_and_fails(job: JobRequest) -> None:
        gate.wait(patient(30))
        fails(job)

    api, sync = Api(waits_and_fails), Sync()
    submitter = submitter_of(api, sync)
    submitter.submit(jobs(1))
    eventually(lambda: api.tried)
    submitter.close(0)
    gate.set()
    eventually(lambda: not submitter._threads)
    assert (submitter.is_paused(), sync.told) == (True, 0)
    submitter.submit(jobs(2))
    assert sync.told == 1


def test_of_two_that_close_neither_ends_the_other_s_wait(gate: threading.Event) -> None:
    api = Api(lambda _job: gate.wait(patient(30)))
    submitter = submitter_of(api)
    submitter.submit(jobs(1))
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(submitter.close, 60)
        eventually(lambda: submitter._closing)
        submitter.close(0.1)
        began = time.monotonic()
        gate.set()
        other.result(patient(30))
    assert time.monotonic() - began < 30


def test_threads_without_work_end_and_nothing_is_lost_as_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_THREADS", 1)
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.0005)
    api = Api()
    submitter = submitter_of(api)
    for number in range(600):
        submitter.submit(jobs(number))
        time.sleep(0.0005 * (number % 4))
    eventually(lambda: api.ended == list(range(600)))
    eventually(lambda: not submitter._threads)


def test_a_child_that_was_forked_has_nothing_to_close(gate: threading.Event) -> None:
    submitter = submitter_of(Api(lambda _job: gate.wait(patient(30))))
    submitter.submit(jobs(1))
    with submitter._changed:  # as another thread may hold it
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            submitter.close(patient(60))
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_process_that_ends_right_after_its_commit_has_its_try_before_others_clean_up() -> None:
    program = """
import atexit, time
from tests.unit.sync.making import job
from spoke_jobs.runners.submitter import Submitter
atexit.register(print, "cleaned up", flush=True)
def launch(job):
    time.sleep(0.2)
    print("launched", flush=True)
submitter = Submitter(launch, print, patience_seconds=60)
submitter.submit([job()])
"""
    assert output_of(program) == ["launched", "cleaned up"]


def test_what_a_process_dispatches_as_it_ends_is_tried_or_left_to_sync() -> None:
    program = """
import atexit
from tests.unit.sync.making import job
from spoke_jobs.runners.submitter import Submitter
def launch(job):
    print("launched", job.id, flush=True)
def left():
    print("left", flush=True)
submitter = Submitter(launch, left, patience_seconds=60)
submitter.submit([job(id=1)])
atexit.register(lambda: submitter.submit([job(id=2)]))
"""
    no_more_threads = (3, 12) <= sys.version_info < (3, 12, 2)  # cpython gh-113964
    assert output_of(program) == ["launched 1", "left" if no_more_threads else "launched 2"]


def output_of(program: str) -> list[str]:
    """What the program prints that may take its time to end: a busy machine starts a thread late."""
    patient = f"from spoke_jobs.runners import submitter as module; module._exit_seconds = 60.0\n{program}"
    done = subprocess.run([sys.executable, "-c", patient], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.splitlines()
