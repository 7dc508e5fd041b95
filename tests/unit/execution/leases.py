"""What tests of leases share: a ledger that answers heartbeats, and the lease of an attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from uuid import UUID, uuid4

from tests.unit.explain.situations import a_job

from spoke_jobs.execution.lease import StopReason
from spoke_jobs.execution.lease_keeper import Owner, keep_one
from spoke_jobs.model import Claim, Progress, Pulse


class Ledger:
    """Answers heartbeats as a test says, and remembers them."""

    def __init__(self, answer: Callable[[], Pulse] = lambda: Pulse.HELD) -> None:
        self.answer = answer
        self.beats: list[tuple[float, Progress | None]] = []

    def beat(self, progress: Progress | None) -> Pulse:
        self.beats.append((time.monotonic(), progress))
        return self.answer()


class Kept:
    """The lease of one attempt, and why its owner was told to stop."""

    def __init__(self, ledger: Ledger, lease: float, asked_at: float | None = None) -> None:
        self.ledger = ledger
        self.claim = Claim(a_job(), 1, uuid4(), lease, asked_at)
        self.lost, self.reasons = threading.Event(), list[StopReason]()
        self.cancelled, self.ends = threading.Event(), list[float]()

    def lease_ends(self, moment: float) -> None:
        self.ends.append(moment)

    def function_begins(self, token: UUID) -> None:
        pass

    def heartbeat_unanswered(self, unanswered: bool) -> None:
        pass

    def __enter__(self) -> Kept:
        self.lease = keep_one(self.claim, self.beats, Owner(self.stop, self.cancelled.set), self)
        self.keeper = self.lease._keeper
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lease.end()

    def beats(self, progress: Mapping[UUID, Progress | None], _lease: float) -> Mapping[UUID, Pulse]:
        return {token: self.ledger.beat(report) for token, report in progress.items()}

    def stop(self, reason: StopReason) -> None:
        self.reasons.append(reason)
        self.lost.set()


def no_answer(_progress: object, _lease: float) -> Mapping[UUID, Pulse]:
    raise ConnectionError("away")
