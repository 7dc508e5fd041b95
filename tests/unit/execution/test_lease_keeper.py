"""The leases' keeper: renews in time, writes progress seldom, and stops an owner before somebody else may start."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from tests.unit.execution.leases import Kept, Ledger, no_answer
from tests.waiting import eventually, patient

from spoke_jobs.errors import Superseded
from spoke_jobs.execution import lease_keeper
from spoke_jobs.execution.lease import Lease, StopReason
from spoke_jobs.execution.lease_keeper import Beats, LeaseKeeper, Owner
from spoke_jobs.model import Progress, Pulse


def away() -> Pulse:
    raise ConnectionError("away")


@pytest.mark.alone
def test_entering_renews_at_once_and_then_every_third_of_the_lease() -> None:
    ledger = Ledger()
    kept = Kept(ledger, 1.5)
    with kept:
        assert len(ledger.beats) == 1
        eventually(lambda: len(ledger.beats) >= 4)
    assert not kept.lost.is_set()
    times = [when for when, _ in ledger.beats[:4]]
    assert all(later - earlier < 1.5 for earlier, later in pairwise(times))


def test_a_claim_that_is_gone_stops_the_owner_once() -> None:
    ledger = Ledger()
    kept = Kept(ledger, 0.3)
    with kept:
        ledger.answer = lambda: Pulse.GONE
        assert kept.lost.wait(patient(30))
        beats = len(ledger.beats)
    assert kept.reasons == ["another process holds the attempt, or the attempt has ended"]
    assert len(ledger.beats) == beats


def test_a_claim_that_was_gone_before_the_start_runs_nothing() -> None:
    ledger = Ledger(lambda: Pulse.GONE)
    kept = Kept(ledger, 30)
    with pytest.raises(Superseded), kept:
        raise AssertionError("it ran")
    assert kept.lost.is_set()


@pytest.mark.alone
def test_a_database_that_is_away_stops_the_owner_before_the_lease_ends() -> None:
    ledger = Ledger()
    kept = Kept(ledger, 1.0)
    with kept:
        renewed = ledger.beats[-1][0]
        ledger.answer = away
        assert kept.lost.wait(patient(30))
        stopped = time.monotonic()
    assert stopped - renewed < 1.0 + 0.5  # the last renewal may have been a beat later
    assert kept.reasons == ["the database did not answer, so the lease could not be renewed in time"]


def test_a_renewal_at_the_start_that_fails_makes_the_lease_no_longer() -> None:
    """Another process may hold the job from then on, however late this one has begun."""
    asked_at = time.monotonic() - 20
    with Kept(Ledger(away), 30, asked_at) as kept:
        assert kept.ends[-1] == pytest.approx(asked_at + 30)


def test_a_hung_database_stops_the_owner_all_the_same() -> None:
    release = threading.Event()
    ledger = Ledger()

    def hang() -> Pulse:
        release.wait(patient(30))
        return Pulse.HELD

    kept = Kept(ledger, 0.5)
    with kept:
        ledger.answer = hang
        assert kept.lost.wait(patient(30))
    release.set()


def test_who_wakes_after_the_lease_s_end_renews_it_no_more() -> None:
    """As when native code held the interpreter: whichever thread goes on first, another process may hold the job."""
    beats, reasons = list[object](), list[StopReason]()

    def beat(progress: Mapping[UUID, Progress | None], _lease: float) -> Mapping[UUID, Pulse]:
        beats.append(progress)
        return dict.fromkeys(progress, Pulse.HELD)

    def on_stop(reason: StopReason) -> None:
        reasons.append(reason)
        keeper.close()

    keeper = LeaseKeeper(beat)
    keeper.add(Lease.of(uuid4(), 30, time.monotonic() - 31, time.monotonic()), Owner(on_stop))
    keeper._keep()
    assert (beats, reasons) == ([], [StopReason.LEASE_EXPIRED])


@pytest.mark.alone
def test_while_the_attempt_records_its_own_end_a_lost_claim_means_nothing() -> None:
    ledger = Ledger()
    kept = Kept(ledger, 0.3)
    with kept:
        with kept.lease.ending():
            ledger.answer = lambda: Pulse.GONE
        eventually(lambda: len(ledger.beats) >= 2)
        assert not kept.lost.wait(0.6)  # twice the lease: long enough for heartbeats and watchdog to have their say
    assert len(ledger.beats) == 2


@pytest.mark.alone
def test_a_watchdog_whose_time_came_during_a_commit_that_failed_goes_on() -> None:
    ledger = Ledger()
    kept = Kept(ledger, 0.3)
    with kept:
        with pytest.raises(ZeroDivisionError), kept.lease.ending():
            ledger.answer = away
            assert not kept.lost.wait(0.6)
            raise ZeroDivisionError
        assert kept.lost.wait(patient(30))


@pytest.mark.alone
def test_progress_that_cannot_be_written_costs_the_lease_nothing() -> None:
    ledger = Ledger()
    real = ledger.beat

    def beat(progress: Progress | None) -> Pulse:
        if progress is not None:
            raise UnicodeEncodeError("utf-8", "", 0, 1, "as a driver may say")
        return real(progress)

    ledger.beat = beat  # type: ignore[method-assign]
    kept = Kept(ledger, 0.6)
    with kept:
        kept.lease.report(Progress(1, "\udcff"))
        eventually(lambda: len(ledger.beats) >= 5)
    assert not kept.lost.is_set()


def test_who_is_asked_to_stop_is_told_first_and_may_stop_by_itself() -> None:
    with Kept(Ledger(lambda: Pulse.CANCELLED), 30) as kept:
        assert kept.cancelled.is_set()
        assert not kept.lost.is_set()


def test_the_watcher_outside_learns_when_the_lease_ends_and_that_it_no_longer_matters() -> None:
    asked_at = time.monotonic()
    with Kept(Ledger(), 30, asked_at) as kept:
        assert kept.ends[-1] == asked_at + 30
        with kept.lease.ending():
            assert kept.ends[-1] == math.inf
    assert kept.ends[-1] == math.inf


def test_the_watcher_outside_may_end_an_owner_that_hangs_while_it_is_told_to_stop() -> None:
    class Hanging(Kept):
        def stop(self, reason: StopReason) -> None:
            self.ends_when_told = self.ends[-1]
            super().stop(reason)

    asked_at = time.monotonic()
    with Hanging(Ledger(), 30, asked_at) as kept:
        kept.keeper._stop(kept.claim.token, StopReason.CLAIM_LOST)
        assert kept.ends_when_told == asked_at + 30


def test_a_late_answer_tells_the_watcher_nothing_about_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_keeper, "_LAST_BEAT_SECONDS", 0.01)
    asked, may_answer, answered = threading.Event(), threading.Event(), threading.Event()

    def hangs() -> Pulse:
        if len(ledger.beats) > 1:
            asked.set()
            assert may_answer.wait(patient(60))
        return Pulse.HELD

    ledger = Ledger(hangs)
    kept = Kept(ledger, 0.6)
    monkeypatch.setattr(kept, "heartbeat_unanswered", lambda unanswered: unanswered or answered.set())
    with kept:
        assert asked.wait(patient(60))
        answered.clear()
    before = list(kept.ends)
    may_answer.set()
    assert answered.wait(patient(60))
    for thread in kept.keeper._threads:
        thread.join(patient(60))
    assert kept.ends == before


class TestMany:
    """The leases of many attempts, renewed by one thread."""

    def test_a_report_belongs_to_the_end_until_it_is_written(self) -> None:
        may_write = threading.Event()

        def beat(progress: Mapping[UUID, Progress | None], _lease: float) -> Mapping[UUID, Pulse]:
            if Progress(2, "row 2") in progress.values():
                assert may_write.wait(patient(60))
            return dict.fromkeys(progress, Pulse.HELD)

        keeper, token = many(beat), uuid4()
        keeper.add(Lease.of(token, 300.0, time.monotonic(), time.monotonic()), Owner(lambda _reason: None))
        assert keeper.end(token) is None
        keeper.report(token, Progress(1, "row 1"))
        eventually(lambda: keeper.end(token) is None, "it is written")
        keeper.report(token, Progress(2, "row 2"))
        assert keeper.end(token) == Progress(2, "row 2")
        may_write.set()
        eventually(lambda: keeper.end(token) is None, "it is written")
        keeper.remove(token)
        assert keeper.end(token) is None
        keeper.close()

    def test_an_answer_that_is_not_noted_before_the_lease_ends_is_the_databases_delay(self) -> None:
        """As on a machine so busy that the heartbeats' thread has the answer and does not go on."""
        stopped, reasons = threading.Event(), list[StopReason]()

        class Busy:
            def recovered(self) -> None:
                stopped.wait(patient(30))

        def on_stop(reason: StopReason) -> None:
            reasons.append(reason)
            stopped.set()

        keeper = many(lambda progress, _lease: dict.fromkeys(progress, Pulse.HELD))
        keeper._outage = Busy()  # type: ignore[assignment]
        keeper.add(Lease.of(uuid4(), 3.0, time.monotonic(), time.monotonic()), Owner(on_stop))
        assert stopped.wait(patient(30))
        assert reasons == [StopReason.DATABASE_AWAY]
        keeper.close()

    def test_one_heartbeat_renews_all_and_each_owner_learns_of_its_own_claim(self) -> None:
        held, cancelled, gone = (uuid4() for _ in range(3))
        pulses = {held: Pulse.HELD, cancelled: Pulse.CANCELLED, gone: Pulse.GONE}
        asked, told = list[set[UUID]](), list[tuple[UUID, StopReason]]()

        def beat(progress: Mapping[UUID, Progress | None], _lease: float) -> Mapping[UUID, Pulse]:
            asked.append(set(progress))
            return {token: pulses[token] for token in progress}

        keeper = LeaseKeeper(beat, give_up=lambda _token, _reason: None)
        for token in pulses:
            owner = Owner(lambda reason, token=token: told.append((token, reason)))  # type: ignore[misc]
            keeper.add(Lease.of(token, 300.0, None, time.monotonic()), owner)
        keeper.start()
        eventually(lambda: len(told) == 2, "both are told")
        assert asked[0] == set(pulses)
        assert set(told) == {(cancelled, StopReason.CANCELLED), (gone, StopReason.CLAIM_LOST)}
        keeper.close()

    def test_an_owner_that_does_not_stop_ends_the_process(self) -> None:
        ended, order = threading.Event(), list[object]()

        def give_up(token: UUID, reason: StopReason) -> None:
            order.append((token, reason))
            ended.set()

        keeper, token = LeaseKeeper(no_answer, give_up=give_up), uuid4()
        keeper.add(Lease.of(token, 0.5, time.monotonic(), time.monotonic()), Owner(order.append))
        keeper.start()
        assert ended.wait(patient(30))
        assert order == [StopReason.DATABASE_AWAY, (token, StopReason.DATABASE_AWAY)]
        keeper.close()

    def test_an_owner_that_stops_in_time_does_not(self) -> None:
        ended = list[object]()
        keeper, token, other = LeaseKeeper(no_answer, give_up=lambda *given: ended.append(given)), uuid4(), uuid4()
        told = threading.Event()

        def on_stop(_reason: StopReason) -> None:
            keeper.remove(token)

        keeper.add(Lease.of(token, 0.5, time.monotonic(), time.monotonic()), Owner(on_stop))
        keeper.add(Lease.of(other, 2.0, time.monotonic(), time.monotonic()), Owner(lambda _reason: told.set()))
        keeper.start()
        assert told.wait(patient(30))  # more than a second after the margin of the first
        assert ended == []
        keeper.close()


def test_a_lease_that_is_due_after_others_wakes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand short attempts each lease is due after that of the first, which has long ended."""
    ledger, woken = Ledger(), list[None]()
    keeper = many(lambda progress, _lease: {token: ledger.beat(progress[token]) for token in progress})
    first, now = Lease.of(uuid4(), 300.0, time.monotonic(), time.monotonic()), time.monotonic()
    keeper.add(first, Owner(lambda _reason: None))
    eventually(lambda: (keeper._keeps_until, keeper._watches_until) == (first.due_at, first.stop_at))
    keeper.remove(first.token)
    wake = keeper._changed.notify_all

    def notify_all() -> None:
        woken.append(None)
        wake()

    monkeypatch.setattr(keeper._changed, "notify_all", notify_all)
    keeper.add(Lease.of(uuid4(), 300.0, now + 1, now), Owner(lambda _reason: None))
    assert woken == []
    keeper.add(Lease.of(uuid4(), 300.0, None, now), Owner(lambda _reason: None))
    eventually(lambda: ledger.beats)
    assert woken
    keeper.close()


@pytest.mark.parametrize("given", [{"lease": 60.0}, {"run_until": 1.0}], ids=["a lease", "a timeout"])
def test_a_lease_that_is_due_before_others_wakes_the_watchdog(given: dict[str, float]) -> None:
    stopped = list[StopReason]()
    keeper = LeaseKeeper(no_answer)
    now = time.monotonic()
    first = Lease.of(uuid4(), 300.0, now, now)
    keeper.add(first, Owner(lambda _reason: None))
    keeper.start()
    eventually(lambda: (keeper._keeps_until, keeper._watches_until) == (first.due_at, first.stop_at))
    run_until = now + given["run_until"] if "run_until" in given else None
    second = Lease.of(
        uuid4(), given.get("lease", 300.0), now - 59.0 if "lease" in given else now + 1, now, run_until=run_until
    )
    keeper.add(second, Owner(stopped.append))
    eventually(lambda: stopped)
    keeper.close()


def many(beat: Beats) -> LeaseKeeper:
    """A keeper whose owners may take a while to stop."""
    keeper = LeaseKeeper(beat, give_up=lambda _token, _reason: None)
    keeper.start()
    return keeper
