"""The decisions about a lease, for any order of what can happen to it."""

from __future__ import annotations

import math
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as some

from spoke_jobs.execution.lease import Lease, StopReason, lease_margin
from spoke_jobs.model import Progress, Pulse

TOKEN = UUID(int=1)
SECONDS = some.floats(0.1, 3600)
EVENTS = some.lists(
    some.sampled_from(["held", "unwritten", "cancelled", "away", "report", "end", "go on"]), max_size=12
)
REPORT = Progress(50, "half")


def after(lease: Lease, event: str, now: float) -> Lease:
    """The lease after an event. A heartbeat is sent a second before its answer."""
    if event in ("held", "unwritten", "cancelled"):
        return lease.sent(now - 1).answered(Pulse(event), now - 1, lease.report, now)
    if event == "away":
        return lease.sent(now - 1).unanswered(now)
    if event == "report":
        return lease.reported(REPORT)
    if event == "end":
        return lease.begins_to_end()
    return lease.goes_on() if lease.ending else lease


@given(SECONDS, EVENTS)
def test_the_owner_stops_before_another_process_may_start(seconds: float, events: list[str]) -> None:
    """The database counts the lease from a moment after the renewal was sent."""
    now, lease, renewed_at = 100.0, Lease.of(TOKEN, seconds, 99.0, 100.0), 99.0
    for event in events:
        now += seconds / 10
        lease = after(lease, event, now)
        renewed_at = now - 1 if event in ("held", "unwritten", "cancelled") else renewed_at
        at, _ = lease.next_stop()
        assert math.isinf(at) == bool(lease.ending)
        assert at <= renewed_at + seconds - lease_margin(seconds) or lease.ending
        assert lease.lapses_at == pytest.approx(math.inf if lease.ending else renewed_at + seconds)


@given(SECONDS, EVENTS)
def test_the_last_report_belongs_to_the_end_until_the_ledger_has_it(seconds: float, events: list[str]) -> None:
    lease, recorded = Lease.of(TOKEN, seconds, 99.0, 100.0), True
    for number, event in enumerate(events):
        sent = lease.report is not None
        lease = after(lease, event, 100.0 + number)
        recorded = event != "report" and (recorded or (sent and event == "held"))
        assert (lease.unrecorded is None) == recorded


def test_a_cancelled_job_may_stop_by_itself_before_its_lease_or_its_timeout_stops_it() -> None:
    lease = Lease.of(TOKEN, 60, 100.0, 100.0, run_until=125.0, cancel_grace=10.0)
    assert lease.next_stop() == (125.0, StopReason.TIMEOUT)
    lease = lease.answered(Pulse.CANCELLED, 110.0, None, 110.0)
    assert lease.next_stop() == (120.0, StopReason.CANCELLED)
    again = lease.answered(Pulse.CANCELLED, 119.0, None, 119.0)
    assert again.next_stop() == (120.0, StopReason.CANCELLED), "the grace period does not begin anew"
    assert lease.begins_to_end().next_stop() == (math.inf, None)


def test_who_was_told_to_stop_has_half_of_the_margin() -> None:
    lease = Lease.of(TOKEN, 10, 100.0, 100.0)
    assert lease.next_stop() == (109.0, StopReason.LEASE_EXPIRED)
    told = lease.stopped(StopReason.LEASE_EXPIRED)
    assert told.next_stop() == (109.5, None)
    assert told.answered(Pulse.HELD, 109.2, None, 109.3).next_stop() == (pytest.approx(118.7), None)


def test_a_claim_of_unknown_age_is_renewed_at_once() -> None:
    lease = Lease.of(TOKEN, 60, None, 100.0)
    assert (lease.due_at, lease.next_stop()[0]) == (100.0, 158.0)
    assert Lease.of(TOKEN, 60, 97.0, 100.0).due_at == 117.0


def test_a_claim_that_is_gone_is_not_renewed_unless_recording_the_end_fails() -> None:
    gone = Lease.of(TOKEN, 60, 97.0, 100.0).begins_to_end().answered(Pulse.GONE, 100.0, None, 100.0)
    assert gone.due_at == math.inf
    assert gone.goes_on().due_at == 0.0


def test_many_reports_are_few_writes() -> None:
    lease = Lease.of(TOKEN, 60, 100.0, 100.0).reported(REPORT)
    assert lease.due_at <= 100.0
    lease = lease.sent(100.0).reported(REPORT)
    assert lease.due_at == 100.25
    assert not lease.has_lapsed(157.9)
    assert lease.has_lapsed(158.0)
    assert not replace(lease, ending=1).has_lapsed(158.0)
