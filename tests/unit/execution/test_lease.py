"""The lease's keeper: renews in time, writes progress seldom, and stops its owner before somebody else may start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.waiting import eventually, patient

from spoke_jobs.errors import Superseded
from spoke_jobs.execution.lease import LeaseKeeper, StopReason
from spoke_jobs.model import Progress, Pulse


class Ledger:
    """Answers heartbeats as a test says, and remembers them."""

    def __init__(self, answer: Callable[[], Pulse] = lambda: Pulse.HELD) -> None:
        self.answer = answer
        self.beats: list[tuple[float, Progress | None]] = []

    def beat(self, progress: Progress | None) -> Pulse:
        self.beats.append((time.monotonic(), progress))
        return self.answer()


def keeper_of(ledger: Ledger, lease: float) -> tuple[LeaseKeeper, threading.Event, list[str]]:
    lost, reasons = threading.Event(), []

    def on_stop(reason: str) -> None:
        reasons.append(reason)
        lost.set()

    return LeaseKeeper(ledger.beat, lease, on_stop), lost, reasons


@pytest.mark.alone
def test_entering_renews_at_once_and_then_every_third_of_the_lease() -> None:
    ledger = Ledger()
    keeper, lost, _ = keeper_of(ledger, 1.5)
    with keeper:
        assert len(ledger.beats) == 1
        eventually(lambda: len(ledger.beats) >= 4)
    assert not lost.is_set()
    times = [when for when, _ in ledger.beats[:4]]
    assert all(later - earlier < 1.5 for earlier, later in pairwise(times))


def test_a_thousand_reports_are_few_writes_and_the_last_is_not_lost() -> None:
    ledger = Ledger()
    keeper, _, _ = keeper_of(ledger, 30)
    with keeper:
        for number in range(1000):
            keeper.report(Progress(number // 10, f"row {number}"))
        eventually(lambda: ledger.beats[-1][1] == Progress(99, "row 999"))
    assert len(ledger.beats) <= 4


def test_a_report_that_is_being_written_belongs_to_the_end_as_well() -> None:
    being_written, goes_on = threading.Event(), threading.Event()

    def beat(progress: Progress | None) -> Pulse:
        if progress is not None:
            being_written.set()
            assert goes_on.wait(patient(60))
        return Pulse.HELD

    with LeaseKeeper(beat, 300, lambda _reason: None) as keeper:
        keeper.report(Progress(99, "row 99"))
        assert being_written.wait(patient(60))
        with keeper.ending() as progress:
            assert progress == Progress(99, "row 99")
        goes_on.set()


def test_a_claim_that_is_gone_stops_the_owner_once() -> None:
    ledger = Ledger()
    keeper, lost, reasons = keeper_of(ledger, 0.3)
    with keeper:
        ledger.answer = lambda: Pulse.GONE
        assert lost.wait(patient(30))
        beats = len(ledger.beats)
    assert reasons == ["another process holds the attempt, or the attempt has ended"]
    assert len(ledger.beats) == beats


def test_a_claim_that_was_gone_before_the_start_runs_nothing() -> None:
    ledger = Ledger(lambda: Pulse.GONE)
    keeper, lost, _ = keeper_of(ledger, 30)
    with pytest.raises(Superseded), keeper:
        raise AssertionError("it ran")
    assert lost.is_set()


@pytest.mark.alone
def test_a_database_that_is_away_stops_the_owner_before_the_lease_ends() -> None:
    ledger = Ledger()

    def away() -> Pulse:
        raise ConnectionError("away")

    keeper, lost, reasons = keeper_of(ledger, 1.0)
    with keeper:
        renewed = ledger.beats[-1][0]
        ledger.answer = away
        assert lost.wait(patient(30))
        stopped = time.monotonic()
    assert stopped - renewed < 1.0 + 0.5  # the last renewal may have been a beat later
    assert reasons == ["the database did not answer, so the lease could not be renewed in time"]


@pytest.mark.alone
def test_a_database_that_comes_back_in_time_is_forgiven() -> None:
    ledger = Ledger()
    failures = iter([True, True])

    def flaky() -> Pulse:
        if next(failures, False):
            raise ConnectionError("away")
        return Pulse.HELD

    keeper, lost, _ = keeper_of(ledger, 1.0)
    with keeper:
        ledger.answer = flaky
        eventually(lambda: len(ledger.beats) >= 8)
    assert not lost.is_set()


def test_a_hung_database_stops_the_owner_all_the_same() -> None:
    release = threading.Event()
    ledger = Ledger()

    def hang() -> Pulse:
        release.wait(patient(30))
        return Pulse.HELD

    keeper, lost, _ = keeper_of(ledger, 0.5)
    with keeper:
        ledger.answer = hang
        assert lost.wait(patient(30))
    release.set()


def test_an_answer_that_is_not_noted_before_the_lease_ends_is_the_databases_delay() -> None:
    """As on a machine so busy that the heartbeat's thread has the answer and does not go on."""
    ledger = Ledger()
    keeper, lost, reasons = keeper_of(ledger, 0.5)

    class Busy:
        def recovered(self) -> None:
            lost.wait(patient(30))

    with keeper:
        keeper._outage = Busy()  # type: ignore[assignment]
        assert lost.wait(patient(30))
    assert reasons == [StopReason.DATABASE_AWAY]


def test_who_wakes_after_the_lease_s_end_renews_it_no_more() -> None:
    """As when native code held the interpreter: whichever thread goes on first, another process may hold the job."""
    ledger = Ledger()
    keeper, _, reasons = keeper_of(ledger, 30)
    keeper._deadline = keeper._next_beat = time.monotonic() - 1
    keeper._keep()
    assert (ledger.beats, reasons) == ([], [StopReason.LEASE_EXPIRED])


@pytest.mark.alone
def test_while_the_attempt_records_its_own_end_a_lost_claim_means_nothing() -> None:
    ledger = Ledger()
    keeper, lost, _ = keeper_of(ledger, 0.3)
    with keeper:
        with keeper.ending():
            ledger.answer = lambda: Pulse.GONE
        eventually(lambda: len(ledger.beats) >= 2)
        assert not lost.wait(0.6)  # twice the lease: long enough for heartbeats and watchdog to have their say
    assert len(ledger.beats) == 2


@pytest.mark.alone
def test_a_watchdog_whose_time_came_during_a_commit_that_failed_goes_on() -> None:
    ledger = Ledger()

    def away() -> Pulse:
        raise ConnectionError("away")

    keeper, lost, _ = keeper_of(ledger, 0.3)
    with keeper:
        with pytest.raises(ZeroDivisionError), keeper.ending():
            ledger.answer = away
            assert not lost.wait(0.6)
            raise ZeroDivisionError
        assert lost.wait(patient(30))


@pytest.mark.alone
def test_progress_that_cannot_be_written_costs_the_lease_nothing() -> None:
    ledger = Ledger()
    real = ledger.beat

    def beat(progress: Progress | None) -> Pulse:
        if progress is not None:
            raise UnicodeEncodeError("utf-8", "", 0, 1, "as a driver may say")
        return real(progress)

    ledger.beat = beat  # type: ignore[method-assign]
    keeper, lost, _ = keeper_of(ledger, 0.6)
    with keeper:
        keeper.report(Progress(1, "\udcff"))
        eventually(lambda: len(ledger.beats) >= 5)
    assert not lost.is_set()


def test_a_commit_that_failed_leaves_the_watch_on() -> None:
    ledger = Ledger()
    keeper, lost, _ = keeper_of(ledger, 0.3)
    with keeper:
        with pytest.raises(ZeroDivisionError), keeper.ending():
            raise ZeroDivisionError
        ledger.answer = lambda: Pulse.GONE
        assert lost.wait(patient(30))
