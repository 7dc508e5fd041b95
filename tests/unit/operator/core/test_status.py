"""What a SpokeJob's status keeps: the counts of failed attempts, charged or not, and since when it waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW as POD_NOW
from tests.unit.operator.core.objects import exited, pod, running, stamp

from spoke_jobs.contract.causes import CAUSES, CauseClass, cause_class
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, SpokeJobStatus
from spoke_jobs.contract.retry import TryAgain, is_charged
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.diagnosis.attempt_state import Ended
from spoke_jobs_operator.core.objects.api_objects import Pod
from spoke_jobs_operator.core.reconciling import status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = st.dictionaries(st.sampled_from([*CauseClass, "newer"]), st.integers(1, 40))


def after(old: SpokeJobStatus, cause: str) -> SpokeJobStatus:
    started = status.attempt_started(old, old.attempt + 1, f"j-{old.attempt + 1}", "t/1", NOW, NOW)
    return status.attempt_failed(started, Ended(cause=cause), None, TryAgain(1.0), NOW, 7)


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(CAUSES)), max_size=12))
def test_each_class_is_counted_in_one_field(causes: list[str]) -> None:
    current = SpokeJobStatus()
    for cause in causes:
        current = after(current, cause)
    assert all(is_charged(CauseClass(name)) for name in current.charged)
    assert not any(is_charged(CauseClass(name)) for name in current.not_charged)
    counted = [kind for kind in map(cause_class, causes) if kind is not CauseClass.UNCHARGED]
    assert status.failures_by_class(current) == {kind: counted.count(kind) for kind in counted}


def test_an_older_operator_s_counts_are_kept_and_move_to_their_field() -> None:
    old = SpokeJobStatus.model_validate({"charged": {"error": 1, "disruption": 7, "newer": 2}})
    assert status.failures_by_class(old) == {CauseClass.ERROR: 1, CauseClass.DISRUPTION: 7}
    new = after(old, "Drained")
    assert (new.charged, new.not_charged) == ({"error": 1, "newer": 2}, {"disruption": 8})


@settings(deadline=None)
@given(COUNTS, COUNTS, st.sampled_from(sorted(CAUSES)))
def test_no_count_is_lost(charged: dict[str, int], not_charged: dict[str, int], cause: str) -> None:
    """Whatever release wrote the status, a budget counts what it counted before, and one more."""
    old = SpokeJobStatus(charged=charged, not_charged=not_charged)
    before, now = status.failures_by_class(old), status.failures_by_class(after(old, cause))
    kind = cause_class(cause)
    assert now == before | ({} if kind is CauseClass.UNCHARGED else {kind: before.get(kind, 0) + 1})
    assert sum(after(old, cause).not_charged.values()) >= not_charged.get("newer", 0)


def test_a_second_outage_of_the_database_has_its_own_time() -> None:
    def away(old: SpokeJobStatus, minutes: int) -> SpokeJobStatus:
        wait = Wait(WaitReason.DATABASE_AWAY, since=NOW + timedelta(minutes=minutes))
        return status.held(old, wait, NOW, blocked=False)

    first = away(SpokeJobStatus(), 0)
    assert away(first, 0) == first, "the same outage is written once"
    second = away(first, 30)
    assert second.waiting is not None
    assert second.waiting.since == NOW + timedelta(minutes=30)
    assert "since 00:30:00 UTC" in next(item.message for item in second.conditions if item.type == "Admitted")


RESOURCES = {"requests": {"memory": "256Mi"}, "limits": {"memory": "1Gi"}}


def a_pod(state: dict[str, Any], scheduled: float | None = -8, resources: dict[str, Any] = RESOURCES) -> Pod:
    found = pod(state=state, spec={"containers": [{"name": "job", "resources": resources}]})
    return replace(found, scheduled_at=None if scheduled is None else POD_NOW + timedelta(seconds=scheduled))


def begun(lane: str = "") -> SpokeJobStatus:
    return status.attempt_started(SpokeJobStatus(), 1, "sj-1", "t/1", POD_NOW, POD_NOW, lane=lane)


def noted(record: AttemptStatus) -> tuple[float | None, float | None, str, str]:
    """When the pod got its node and the container started, in seconds, and its memory."""
    scheduled, runs = (
        None if moment is None else (moment - POD_NOW).total_seconds()
        for moment in (record.scheduled_at, record.runs_since)
    )
    return scheduled, runs, record.memory_request, record.memory_limit


def test_an_attempt_keeps_what_its_pod_says_of_times_and_memory() -> None:
    runs = status.attempt_runs(begun(), a_pod(running(-5)), POD_NOW)
    assert noted(runs.attempts[-1]) == (-8, -5, "256Mi", "1Gi")
    over = status.attempt_succeeded(runs, Ended(cause=""), None, POD_NOW)
    assert noted(over.attempts[-1]) == (-8, -5, "256Mi", "1Gi"), "the pod is gone"


def test_an_attempt_that_was_not_seen_to_run_has_it_from_its_end() -> None:
    state = exited(1)
    state["terminated"] |= {"startedAt": stamp(-5), "finishedAt": stamp(-1)}
    over = status.attempt_closed(begun(), Ended(cause="JobError"), a_pod(state), POD_NOW)
    assert noted(over.attempts[-1]) == (-8, -5, "256Mi", "1Gi")


def test_an_upgrade_of_the_operator_writes_no_status_of_a_running_attempt() -> None:
    """The next write has what the release before did not note."""
    before = status.attempt_runs(begun(), a_pod(running(-5)), POD_NOW)
    old = before.attempts[-1].model_copy(
        update={"scheduled_at": None, "runs_since": None, "memory_request": "", "memory_limit": ""}
    )
    before = before.model_copy(update={"attempts": (old,)})
    assert status.attempt_runs(before, a_pod(running(-5)), POD_NOW) == before
    over = status.attempt_succeeded(before, Ended(cause=""), a_pod(running(-5)), POD_NOW)
    assert noted(over.attempts[-1]) == (-8, -5, "256Mi", "1Gi")


def test_an_attempt_in_a_standby_pod_runs_since_its_assignment() -> None:
    runs = status.attempt_runs(begun("standby"), a_pod(running(-5)), POD_NOW)
    assert noted(runs.attempts[-1]) == (None, 0, "256Mi", "1Gi")


def test_what_a_pod_does_not_say_stays_empty() -> None:
    waits = {"waiting": {"reason": "ErrImagePull"}}
    over = status.attempt_closed(begun(), Ended(cause="StartTimeout"), a_pod(waits, None, {}), POD_NOW)
    assert noted(over.attempts[-1]) == (None, None, "", "")
