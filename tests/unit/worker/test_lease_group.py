"""The leases of many attempts, renewed by one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from uuid import UUID, uuid4

from tests.waiting import eventually, patient

from spoke_jobs.execution.lease import StopReason
from spoke_jobs.model import Progress, Pulse
from spoke_jobs.worker.lease_group import LeaseGroup


def test_a_report_belongs_to_the_end_until_it_is_written() -> None:
    may_write = threading.Event()

    def beat(progress: Mapping[UUID, Progress | None], _lease: float) -> Mapping[UUID, Pulse]:
        if Progress(2, "row 2") in progress.values():
            assert may_write.wait(patient(60))
        return dict.fromkeys(progress, Pulse.HELD)

    group, token = LeaseGroup(beat, lambda _token, _reason: None), uuid4()
    group.add(token, 300.0, time.monotonic(), lambda _reason: None)
    assert group.ending(token) is None
    group.report(token, Progress(1, "row 1"))
    eventually(lambda: group.ending(token) is None, "it is written")
    group.report(token, Progress(2, "row 2"))
    assert group.ending(token) == Progress(2, "row 2")
    may_write.set()
    eventually(lambda: group.ending(token) is None, "it is written")
    group.remove(token)
    assert group.ending(token) is None


def test_an_answer_that_is_not_noted_before_the_lease_ends_is_the_databases_delay() -> None:
    """As on a machine so busy that the heartbeats' thread has the answer and does not go on."""
    stopped, reasons = threading.Event(), []

    class Busy:
        def recovered(self) -> None:
            stopped.wait(patient(30))

    group = LeaseGroup(lambda progress, _lease: dict.fromkeys(progress, Pulse.HELD), lambda _token, _reason: None)
    group._outage = Busy()  # type: ignore[assignment]

    def on_stop(reason: StopReason) -> None:
        reasons.append(reason)
        stopped.set()

    group.add(uuid4(), 0.5, time.monotonic(), on_stop)
    assert stopped.wait(patient(30))
    assert reasons == [StopReason.DATABASE_AWAY]
