"""The threads of a lease start late where somebody outside can end the process: most attempts end before."""

from __future__ import annotations

import math
import threading
import time
from uuid import uuid4

import pytest
from tests.unit.execution.leases import Kept, Ledger, no_answer
from tests.unit.explain.situations import a_job
from tests.waiting import eventually

from spoke_jobs.execution import lease_keeper
from spoke_jobs.execution.lease import Lease, StopReason
from spoke_jobs.execution.lease_keeper import LeaseKeeper, Owner, keep_one
from spoke_jobs.model import Claim, Progress


class Started:
    """A keeper in a process that somebody can end from outside: its threads start late."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, lease: float = 300.0, run_until: float | None = None
    ) -> None:
        self.late = lease_keeper._LateStarts()
        monkeypatch.setattr(lease_keeper, "_LATE_STARTS", self.late)
        self.ledger, self.token = Ledger(), uuid4()
        self.stopped = list[StopReason]()
        self.keeper = LeaseKeeper(
            lambda progress, _lease: {token: self.ledger.beat(progress[token]) for token in progress}
        )
        now = time.monotonic()
        self.keeper.add(Lease.of(self.token, lease, now, now, run_until=run_until), Owner(self.stopped.append))
        self.keeper.start(late=True)

    @property
    def threads(self) -> list[str]:
        return [thread.name for thread in self.keeper._threads if thread.is_alive()]


class TestLateStart:
    """Most attempts end before the threads of their lease have anything to do."""

    BOTH = ("spoke-heartbeat", "spoke-watchdog")

    def test_an_attempt_that_ends_before_starts_no_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started = Started(monkeypatch)
        started.keeper.close()
        assert not started.late._due_at
        started.keeper.start_threads()
        assert started.keeper._threads == []

    def test_an_attempt_that_goes_on_has_its_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started = Started(monkeypatch)
        eventually(lambda: tuple(started.threads) == self.BOTH)
        started.keeper.close()
        assert started.threads == []

    def test_progress_is_written_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease_keeper._LateStarts, "_start_due", lambda *_: None)
        started = Started(monkeypatch)
        started.keeper.report(started.token, Progress(50, "half"))
        eventually(lambda: [progress for _, progress in started.ledger.beats] == [Progress(50, "half")])
        started.keeper.close()

    @pytest.mark.parametrize(
        "given", [{"lease": 0.5}, {"run_until": 0.0}], ids=["a short lease", "a timeout that is over"]
    )
    def test_what_is_due_soon_is_not_late(self, given: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease_keeper._LateStarts, "_start_due", lambda *_: None)
        started = Started(monkeypatch, **given)
        assert len(started.keeper._threads) == 2
        started.keeper.close()

    def test_threads_that_cannot_start_are_started_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start_due, start, left = lease_keeper._LateStarts._start_due, threading.Thread.start, [1]
        monkeypatch.setattr(lease_keeper._LateStarts, "_start_due", lambda *_: None)
        started = Started(monkeypatch)

        def full(thread: threading.Thread) -> None:
            if not left:
                raise RuntimeError("can't start new thread")
            left.pop()
            start(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", full)
            started.keeper.report(started.token, Progress(1, ""))
            start_due(started.late, math.inf)
            assert started.threads == ["spoke-heartbeat"]
        start_due(started.late, math.inf)
        assert tuple(started.threads) == self.BOTH
        assert not started.late._due_at
        started.keeper.close()

    def test_an_observer_makes_the_threads_late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease_keeper._LateStarts, "_start_due", lambda *_: None)
        claim = Claim(a_job(), 1, uuid4(), 300.0, time.monotonic())
        alone = keep_one(claim, no_answer, Owner(lambda _reason: None))
        observed = keep_one(claim, no_answer, Owner(lambda _reason: None), Kept(Ledger(), 300.0))
        assert (len(alone._keeper._threads), len(observed._keeper._threads)) == (2, 0)
        alone.end()
        observed.end()
