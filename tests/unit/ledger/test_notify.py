"""Notifications wake a process at a bounded rate, and none of a changed limit is lost."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from spoke_jobs.ledger.notify import LIMITS, LIMITS_MARK, pass_on


@dataclass(frozen=True)
class Note:
    payload: str


class Driver:
    """A connection on which these batches of notifications arrive, and which then fails."""

    def __init__(self, batches: Sequence[Sequence[str]]) -> None:
        self.batches = list(batches)

    def notifies(self, *, timeout: float | None, stop_after: int) -> Iterator[Note]:
        if not self.batches:
            raise ConnectionError
        assert stop_after == 1
        batch = self.batches.pop(0)
        assert batch or timeout is not None, "waits for ever"
        yield from map(Note, batch)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def passed_on(pair: tuple[socket.socket, socket.socket], *batches: Sequence[str]) -> tuple[bytes, float]:
    ours, theirs = pair
    clock = Clock()
    with contextlib.suppress(ConnectionError):
        pass_on(Driver(batches), theirs, clock, clock.sleep)
    return ours.recv(4096), clock.now


def test_every_change_of_a_limit_is_marked_also_within_others(pair: tuple[socket.socket, socket.socket]) -> None:
    read, _ = passed_on(pair, ["", LIMITS, ""], [""], [LIMITS], ["", "other"])
    assert read == LIMITS_MARK * 2 + b"." + LIMITS_MARK + b"."


def test_a_few_notifications_are_passed_on_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    _, took = passed_on(pair, *[[""]] * 100)
    assert took == 0


def test_a_flood_wakes_the_process_a_hundred_times_a_second(pair: tuple[socket.socket, socket.socket]) -> None:
    _, took = passed_on(pair, *[[""]] * 5_199)
    assert took == pytest.approx(50, abs=1)


def test_it_ends_once_nobody_reads(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.close()
    pass_on(Driver([]), theirs)


def test_a_reader_that_is_behind_still_learns_of_changed_limits(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with contextlib.suppress(BlockingIOError):
        while True:
            theirs.send(b"." * 65536)
    driver = Driver([[""], [LIMITS], []])
    original = driver.notifies

    def notifies(*, timeout: float | None, stop_after: int) -> Iterator[Note]:
        if len(driver.batches) == 1:  # now the reader reads
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.recv(1 << 20)
        return original(timeout=timeout, stop_after=stop_after)

    driver.notifies = notifies  # type: ignore[method-assign]
    clock = Clock()
    with contextlib.suppress(ConnectionError):
        pass_on(driver, theirs, clock, clock.sleep)
    assert ours.recv(4096) == LIMITS_MARK
