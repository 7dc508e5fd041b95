"""The one try to create a SpokeJob: who waits for it, how long, and who doesn't."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.sync.making import job

from spoke_jobs.model import JobRequest
from spoke_jobs.runners.submitting import Breaker, Permit, Submitter

# The breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_rests_then_probes_one_at_a_time() -> None:
    clock = Clock()
    breaker = Breaker(30, clock)
    assert breaker.ask() is Permit.TRY
    assert breaker.failed()
    assert not breaker.failed(), "no news"
    clock.now = 29.9
    assert breaker.ask() is Permit.LEAVE
    assert breaker.rests()
    clock.now = 30
    assert not breaker.rests()
    assert [breaker.ask(), breaker.ask()] == [Permit.PROBE, Permit.LEAVE]
    assert breaker.rests()
    breaker.succeeded()
    assert not breaker.rests()
    assert breaker.ask() is Permit.TRY


# The submitter


class Api:
    """What the submitter's tries meet."""

    def __init__(self, does: Callable[[], None]) -> None:
        self.does = does
        self.tries = 0

    def __call__(self, _job: JobRequest) -> bool:
        self.tries += 1
        self.does()
        return True


class Book:
    """The ledger as the submitter has it: what is recorded, and never two at once."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.calls = 0
        self.open = threading.Event()
        self.open.set()
        self.lock = threading.Lock()

    def __call__(self, jobs: Sequence[JobRequest]) -> None:
        assert self.lock.acquire(blocking=False), "two record at once"
        self.calls += 1
        try:
            assert self.open.wait(10)
            time.sleep(0.001)
            if BROKEN in [job.id for job in jobs]:
                raise OSError("no database")
            self.ids += [job.id for job in jobs]
        finally:
            self.lock.release()


BROKEN = 13


def seconds(call: Callable[[], None]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def fails() -> None:
    raise OSError("no route")


def test_a_success_is_waited_for() -> None:
    api = Api(lambda: time.sleep(0.05))
    assert seconds(lambda: Submitter(api, Book()).submit(job())) >= 0.05
    assert api.tries == 1


def test_a_failure_is_never_the_caller_s_and_spares_the_next_ones() -> None:
    api, clock = Api(fails), Clock()
    submitter = Submitter(api, Book(), clock=clock)
    for _ in range(3):
        submitter.submit(job())
    assert api.tries == 1
    clock.now = 31
    api.does = lambda: None
    submitter.submit(job())
    wait_until(lambda: api.tries == 2)
    wait_until(lambda: submitter._breaker.ask() is Permit.TRY)


@pytest.mark.parametrize("left", [None, 0.199], ids=["its own wait", "what a moment left of it"])
def test_what_hangs_delays_one_caller_by_the_wait_and_no_other(left: float | None) -> None:
    hang = threading.Event()
    api, clock = Api(lambda: hang.wait(10) and None), Clock()
    submitter = Submitter(api, Book(), wait_seconds=0.2, clock=clock)
    assert 0.19 <= seconds(lambda: submitter.submit(job(), left)) < 0.5
    assert seconds(lambda: submitter.submit(job())) < 0.1
    clock.now = 31
    assert seconds(lambda: submitter.submit(job())) < 0.1, "a probe is nobody's wait"
    assert api.tries == 2
    hang.set()
    wait_until(lambda: submitter._breaker.ask() is Permit.TRY)


def test_an_api_server_that_is_slow_delays_one_caller_and_no_other() -> None:
    """It answers each time, and later than anybody waits."""
    submitter = Submitter(Api(lambda: time.sleep(0.1)), Book(), wait_seconds=0.05, clock=Clock())
    for _ in range(3):
        submitter.submit(job())
        submitter.close(10)
    assert submitter._create.tries == 1  # type: ignore[attr-defined]


def test_a_wait_that_is_cut_short_opens_no_breaker() -> None:
    """The last of many dispatches: slow is not away."""
    slow = threading.Event()
    api = Api(lambda: slow.wait(10) and None)
    submitter = Submitter(api, Book(), wait_seconds=5, clock=Clock())
    assert seconds(lambda: submitter.submit(job(), 0.05)) < 1
    assert submitter._breaker.ask() is Permit.TRY
    slow.set()


def test_a_caller_waits_for_the_answer_and_not_for_its_record_unless_it_reads_the_row() -> None:
    book = Book()
    book.open.clear()
    submitter = Submitter(Api(lambda: None), book, wait_seconds=5)
    assert seconds(lambda: submitter.submit(job(id=1))) < 2
    threading.Timer(0.2, book.open.set).start()
    submitter.submit(job(id=2), recorded=True)
    assert book.ids == [1, 2]


def test_a_ledger_that_hangs_costs_its_reader_the_wait_and_says_nothing_of_the_api_server() -> None:
    book = Book()
    book.open.clear()
    submitter = Submitter(Api(lambda: None), book, wait_seconds=0.2)
    assert 0.19 <= seconds(lambda: submitter.submit(job(), recorded=True)) < 1
    assert submitter._breaker.ask() is Permit.TRY
    book.open.set()


def test_what_many_threads_create_is_recorded_together() -> None:
    book = Book()
    submitter = Submitter(Api(lambda: time.sleep(0.01)), book, wait_seconds=5)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: submitter.submit(job(id=number)), range(100, 200)))
    submitter.close(10)
    assert sorted(book.ids) == list(range(100, 200))
    assert book.calls < 50


def test_a_record_that_fails_is_not_the_next_one_s_trouble() -> None:
    book = Book()
    submitter = Submitter(Api(lambda: None), book, wait_seconds=5)
    for number in (BROKEN, 14):
        assert seconds(lambda number=number: submitter.submit(job(id=number), recorded=True)) < 2  # type: ignore[misc]
    assert book.ids == [14]


def test_what_was_not_created_is_not_recorded_and_its_reader_does_not_wait() -> None:
    book = Book()
    submitter = Submitter(lambda _job: False, book, wait_seconds=5)
    assert seconds(lambda: submitter.submit(job(), recorded=True)) < 2
    assert book.ids == []


def test_closing_lets_a_try_end_but_not_one_that_hangs() -> None:
    book = Book()
    book.open.clear()
    submitter = Submitter(Api(lambda: None), book)
    submitter.submit(job(id=1))
    assert 0.19 <= seconds(lambda: submitter.close(0.2)) < 1
    book.open.set()
    submitter.close(10)
    assert book.ids == [1]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
