"""The one try to create a SpokeJob, beside its caller: what is tried, what is left to sync, and what is recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.sync.making import job

from spoke_jobs.model import JobRequest
from spoke_jobs.runners import submitting
from spoke_jobs.runners.submitting import Breaker, Submitter

BROKEN = 1313


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Api:
    """What the tries meet: it does something, and answers then."""

    def __init__(self, does: Callable[[JobRequest], object] = lambda _job: None, *, creates: bool = True) -> None:
        self.does = does
        self.creates = creates
        self.ids: list[int] = []

    def __call__(self, job: JobRequest) -> bool:
        self.ids.append(job.id)
        self.does(job)
        return self.creates


class Book:
    """The ledger, as the submitter has it."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, jobs: Sequence[JobRequest]) -> None:
        ids = [job.id for job in jobs]
        if BROKEN in ids:
            raise OSError("no database")
        self.calls.append(ids)

    @property
    def ids(self) -> list[int]:
        return sorted(id_ for call in self.calls for id_ in call)


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


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_breaker_rests_then_probes_one_at_a_time() -> None:
    clock = Clock()
    breaker = Breaker(30, clock)
    assert breaker.ask()
    assert breaker.failed()
    assert not breaker.failed(), "no news"
    clock.now = 29.9
    assert not breaker.ask()
    assert breaker.rests()
    clock.now = 30
    assert not breaker.rests()
    assert [breaker.ask(), breaker.ask()] == [True, False]
    assert breaker.rests()
    breaker.succeeded()
    assert not breaker.rests()
    assert breaker.ask()


def test_a_caller_waits_neither_for_an_answer_nor_for_its_record(gate: threading.Event) -> None:
    api, book = Api(lambda _job: gate.wait(30)), Book()
    submitter = Submitter(api, book)
    began = time.monotonic()
    assert submitter.submit(jobs(*range(100, 200)))
    assert time.monotonic() - began < 5
    wait_until(lambda: api.ids)
    assert book.calls == []
    gate.set()
    submitter.close(10)
    assert book.ids == list(range(100, 200))


def test_what_is_created_is_recorded_together() -> None:
    api, book = Api(lambda _job: time.sleep(0.001)), Book()
    submitter = Submitter(api, book)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: submitter.submit(jobs(number)), range(100, 300)))
    submitter.close(10)
    assert book.ids == sorted(api.ids) == list(range(100, 300))
    assert len(book.calls) < 50


def test_records_are_not_put_off_for_as_long_as_there_is_work(gate: threading.Event) -> None:
    """One at a time, each within the time that the next would be waited for."""
    api, book = Api(), Book()
    submitter = Submitter(api, book)
    deadline = time.monotonic() + 10
    number = 100
    while len(book.calls) < 3:
        assert time.monotonic() < deadline
        submitter.submit(jobs(number))
        number += 1
        time.sleep(0.02)
    submitter.close(10)


def test_one_that_hangs_holds_up_no_other(gate: threading.Event) -> None:
    api, book = Api(lambda job: job.id == 1 and gate.wait(30)), Book()
    submitter = Submitter(api, book)
    submitter.submit(jobs(*range(1, 50)))
    wait_until(lambda: book.ids == list(range(2, 50)))


def test_a_failure_leaves_all_that_waits_to_sync_and_a_probe_ends_that(gate: threading.Event) -> None:
    def waits_and_fails(job: JobRequest) -> None:
        gate.wait(30)
        fails(job)

    api, book, clock = Api(waits_and_fails), Book(), Clock()
    submitter = Submitter(api, book, clock=clock)
    assert submitter.submit(jobs(*range(100, 200)))
    gate.set()
    wait_until(submitter.rests)
    submitter.close(10)
    assert len(api.ids) <= 4, "those that were under way"
    assert not submitter.submit(jobs(1))
    clock.now = 31
    api.does = lambda _job: None
    assert not submitter.submit(jobs(2, 3)), "one at a time"
    submitter.close(10)
    assert submitter.submit(jobs(4))
    submitter.close(10)
    assert book.ids == [2, 4]


def test_a_probe_that_fails_has_the_next_ones_rest_again() -> None:
    api, clock = Api(fails), Clock()
    submitter = Submitter(api, Book(), clock=clock)
    for now in (0, 31, 62):
        clock.now = now
        submitter.submit(jobs(1))
        submitter.close(10)
        assert submitter.rests()
        assert not submitter.submit(jobs(2))
    assert api.ids == [1, 1, 1]


def test_what_finds_no_room_is_left_to_sync(gate: threading.Event) -> None:
    api = Api(lambda _job: gate.wait(30))
    submitter = Submitter(api, Book(), room=2)
    for number in range(4):
        assert submitter.submit(jobs(number))
        wait_until(lambda number=number: len(api.ids) == number + 1)  # type: ignore[misc]
    assert submitter.submit(jobs(4))
    assert not submitter.submit(jobs(5, 6))
    gate.set()
    submitter.close(10)
    assert sorted(api.ids) == [0, 1, 2, 3, 4, 5]


def test_what_has_waited_too_long_is_left_to_sync(gate: threading.Event) -> None:
    api, clock = Api(lambda _job: gate.wait(30)), Clock()
    submitter = Submitter(api, Book(), patience_seconds=5, clock=clock)
    submitter.submit(jobs(0, 1, 2, 3))
    wait_until(lambda: len(api.ids) == 4)
    submitter.submit(jobs(4))
    clock.now = 5.1
    submitter.submit(jobs(5))
    gate.set()
    submitter.close(10)
    assert sorted(api.ids) == [0, 1, 2, 3, 5]


def test_a_record_that_fails_is_not_the_next_one_s_trouble() -> None:
    book = Book()
    submitter = Submitter(Api(), book)
    for number in (BROKEN, 14):
        submitter.submit(jobs(number))
        submitter.close(10)
    assert book.ids == [14]
    assert not submitter.rests()


def test_what_was_not_created_is_not_recorded() -> None:
    book = Book()
    submitter = Submitter(Api(creates=False), book)
    submitter.submit(jobs(1))
    submitter.close(10)
    assert book.calls == []


def test_closing_waits_for_what_was_submitted_but_not_for_what_hangs(gate: threading.Event) -> None:
    book = Book()
    submitter = Submitter(Api(lambda job: job.id == 1 and gate.wait(30)), book)
    submitter.submit(jobs(*range(1, 50)))
    began = time.monotonic()
    submitter.close(0.5)
    assert 0.49 <= time.monotonic() - began < 10
    assert book.ids == list(range(2, 50))


def test_threads_without_work_end_and_nothing_is_lost_as_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "_IDLE_SECONDS", 0.0005)
    monkeypatch.setattr(submitting, "_RECORD_SECONDS", 0.0005)
    book = Book()
    submitter = Submitter(Api(), book)
    for number in range(100, 700):
        submitter.submit(jobs(number))
        time.sleep(0.0005 * (number % 4))
    wait_until(lambda: book.ids == list(range(100, 700)))
    wait_until(lambda: not submitter._threads)


def test_a_child_that_was_forked_has_nothing_to_close(gate: threading.Event) -> None:
    submitter = Submitter(Api(lambda _job: gate.wait(30)), Book())
    submitter.submit(jobs(1))
    with submitter._news:  # as another thread may hold it
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            submitter.close(60)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_process_that_ends_right_after_its_commit_has_its_try() -> None:
    program = """
import time
from tests.unit.sync.making import job
from spoke_jobs.runners.submitting import Submitter
def create(job):
    time.sleep(0.2)
    print("created", flush=True)
    return True
Submitter(create, lambda jobs: print("recorded", flush=True)).submit([job()])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["created", "recorded"]
