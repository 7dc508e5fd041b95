"""The next step of an attempt that was assigned to a standby pod, from each state that a leader may find."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from tests.unit.operator.core.objects import NOW
from tests.unit.operator.core.standby_objects import standby_job, standby_pod

from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus
from spoke_jobs_operator.core.objects.api_objects import Terminated
from spoke_jobs_operator.core.standby.assignment import Handover, Step, Told, next_steps, ran_seconds

UID = "sj-uid"
RECORD = AttemptStatus(number=2, job="default-standby-1", lane="standby")
FREE = Handover(standby_job(), standby_pod())
TAKEN = Handover(standby_job(spokejob="sj", owner=UID, attempt=2), standby_pod())
LABELED = replace(TAKEN, pod=standby_pod(spokejob="sj"))
EXITED: dict[str, Any] = {"terminated": {"exitCode": 0}}


def steps(seen: Handover, record: AttemptStatus = RECORD, *, live: bool = True) -> tuple[Step, ...]:
    return next_steps(record, UID, seen, live=live)


def test_each_recorded_state_leads_on() -> None:
    assert steps(FREE) == (Step.TAKE, Step.LABEL, Step.TELL)
    assert steps(TAKEN) == (Step.LABEL, Step.TELL)
    assert steps(replace(TAKEN, told=Told.DONE)) == (Step.LABEL,)
    assert steps(LABELED) == (Step.TELL,), "an earlier leader may have told it: it is told again"
    assert steps(replace(LABELED, told=Told.DONE)) == ()


def test_an_attempt_that_was_seen_to_run_is_not_told_again() -> None:
    runs = RECORD.model_copy(update={"pod": "default-standby-1-x"})
    assert steps(LABELED, runs) == ()
    assert steps(Handover(None, None), runs) == (), "that its Job is gone is the end of any attempt"
    assert steps(replace(LABELED, told=Told.FAILED), runs) == ()


ANOTHER_S = Handover(standby_job(spokejob="another", owner="another", attempt=1), standby_pod(spokejob="another"))
STALE = Handover(standby_job(), None)
"""The Job as it was before the attempt was handed over: its pod has the attempt's labels since."""


@pytest.mark.parametrize("seen", [Handover(None, None), ANOTHER_S, STALE])
def test_the_job_is_read_before_the_attempt_is_lost(seen: Handover) -> None:
    assert steps(seen, live=False) == (Step.READ,)
    assert steps(seen) == (Step.LOSE,)


@pytest.mark.parametrize(
    "seen",
    [
        Handover(standby_job(spokejob="sj", owner=UID, attempt=1), standby_pod(spokejob="sj")),
        Handover(standby_job(deleted=True), standby_pod()),
        Handover(standby_job(), standby_pod(deleted=True)),
        Handover(standby_job(conditions=(("Failed", "X"),)), standby_pod()),
        Handover(standby_job(), standby_pod(phase="Failed", state=EXITED)),
        replace(TAKEN, told=Told.FAILED),
    ],
)
def test_an_attempt_that_no_pod_takes_is_lost(seen: Handover) -> None:
    assert steps(seen) == (Step.LOSE,)


@pytest.mark.parametrize("told", [Told.NOT_YET, Told.FAILED])
def test_a_pod_that_has_ended_says_more_than_whether_it_was_told(told: Told) -> None:
    """The leader before may have told it, and the job may have succeeded since."""
    ended = Handover(TAKEN.job, standby_pod(spokejob="sj", phase="Succeeded", state=EXITED), told)
    assert steps(ended) == ()
    unlabeled = replace(ended, pod=standby_pod(phase="Succeeded", state=EXITED))
    assert steps(unlabeled) == (() if told is Told.FAILED else (Step.LABEL,)), "a label that is refused stays refused"


def test_a_pod_that_nobody_told_is_lost_however_it_ended() -> None:
    ended = Handover(TAKEN.job, standby_pod(phase="Failed", state={"terminated": {"exitCode": 137}}), untold=True)
    for told in (Told.NOT_YET, Told.FAILED):
        assert steps(replace(ended, told=told)) == (Step.LOSE,)
    assert steps(replace(ended, untold=False)) == (Step.LABEL,)


def test_nothing_is_told_before_job_and_pod_are_the_attempts_own() -> None:
    """Whatever is observed: TELL comes after TAKE and LABEL, or they are done."""
    jobs = [
        None,
        *(
            standby_job(spokejob=name, owner=owner, attempt=attempt, deleted=deleted)
            for name, owner, attempt, deleted in product(
                ("", "sj", "another"), ("", UID, "x"), (0, 1, 2), (True, False)
            )
        ),
    ]
    pods = [None, standby_pod(), standby_pod(spokejob="sj"), standby_pod(deleted=True)]
    records = [RECORD, RECORD.model_copy(update={"pod": "x"})]
    for job, pod, told, record, live in product(jobs, pods, Told, records, (True, False)):
        found = steps(Handover(job, pod, told), record, live=live)
        if Step.TELL in found:
            own = job is not None and (job.owner, job.attempt) == (UID, 2)
            assert own or found.index(Step.TAKE) < found.index(Step.TELL)
            labeled = own and (pod is None or pod.spokejob == job.spokejob)  # type: ignore[union-attr]
            assert labeled or found.index(Step.LABEL) < found.index(Step.TELL)
        if Step.TAKE in found:
            assert job is not None
            assert job.spokejob.name == ""
        if Step.LOSE in found or Step.READ in found:
            assert len(found) == 1
            assert not record.pod


@pytest.mark.parametrize(
    ("lane", "began", "ended", "seconds"),
    [
        ("standby", -300, 20, 20),
        ("standby", 5, 20, 15),
        ("standby", -300, -1, 0),
        ("", -300, 20, 320),
        ("", 20, 5, 0),
        ("standby", None, 20, None),
        ("", -5, None, None),
    ],
)
def test_an_attempt_runs_from_its_assignment_on(
    lane: str, began: float | None, ended: float | None, seconds: float | None
) -> None:
    """Seconds are from the time when the attempt started. The clocks of nodes differ."""
    record = RECORD.model_copy(update={"lane": lane, "started_at": NOW})
    times = [None if value is None else NOW + timedelta(seconds=value) for value in (began, ended)]
    assert ran_seconds(record, Terminated(0, "", "", *times)) == seconds
