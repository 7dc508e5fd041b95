"""The verdict of tests/e2e/test_random_kills.py: it names each thing that goes wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from tests.e2e.random_kills import (
    JOBS,
    KILLS,
    EndedJob,
    Evidence,
    LedgerAttempt,
    Verdict,
    kills_due,
    shuffled,
)

from spoke_jobs.contract.executors import LANE_RUNNER, Lane

POD, STANDBY, WORKER, MOVED = 1, 2, 3, 4
"""Jobs: of each lane, and one that a worker ran before a pod did."""


def spokejob(job_id: int, *attempts: dict[str, Any], run: int = 1, **status: Any) -> dict[str, Any]:
    numbered = [{"number": number, **attempt} for number, attempt in enumerate(attempts, 1)]
    said = {"outcome": "Succeeded", "ledger": "Succeeded", "attempts": numbered} | status
    return {"spec": {"requestId": job_id, "run": run}, "status": said}


def evidence() -> Evidence:
    """Nothing is wrong. The first attempt of the lane `pod` claimed nothing; that of `standby` did, and was killed."""
    return Evidence(
        dispatched={POD: Lane.POD, STANDBY: Lane.STANDBY, WORKER: Lane.WORKER, MOVED: Lane.WORKER},
        jobs={
            job_id: EndedJob(job_id, "succeeded", "", LANE_RUNNER if job_id == WORKER else "kubernetes")
            for job_id in (POD, STANDBY, WORKER, MOVED)
        },
        attempts=[
            LedgerAttempt(POD, 1, 2, "succeeded", "", "kubernetes"),
            LedgerAttempt(STANDBY, 1, 1, "failed", "WorkerLost", "kubernetes"),
            LedgerAttempt(STANDBY, 1, 2, "succeeded", "", "kubernetes"),
            LedgerAttempt(WORKER, 1, 1, "succeeded", "", LANE_RUNNER),
            LedgerAttempt(MOVED, 1, 1, "failed", "Killed", LANE_RUNNER),
            LedgerAttempt(MOVED, 2, 1, "succeeded", "", "kubernetes"),
        ],
        spokejobs={
            "pod": spokejob(POD, {"cause": "PodDeleted"}, {"cause": ""}),
            "standby": spokejob(STANDBY, {"cause": "PodDeleted", "lane": "standby"}, {"cause": ""}),
            # Its success was in the ledger when its pod was killed.
            "moved": spokejob(MOVED, {"cause": "Killed"}, run=2),
        },
        effects={POD: 1, STANDBY: 1, WORKER: 1, MOVED: 1},
    )


def test_nothing_is_wrong() -> None:
    found = evidence()
    assert found.verdict() == Verdict()
    assert found.unfinished() == []
    assert (found.in_standby_pods(), found.moved()) == (1, 1)


def test_attempts_are_counted_once_by_lane_and_by_what_the_cluster_says() -> None:
    expected = {("pod", "PodDeleted"): 1, ("standby", "PodDeleted"): 1, ("worker", "Killed"): 1}
    assert evidence().failures() == expected


def change_attempt(found: Evidence, place: int, **fields: Any) -> None:
    found.attempts[place] = found.attempts[place]._replace(**fields)


def change_job(found: Evidence, job_id: int, **fields: Any) -> EndedJob:
    found.jobs[job_id] = found.jobs[job_id]._replace(**fields)
    return found.jobs[job_id]


def status_of(found: Evidence, name: str) -> dict[str, Any]:
    status: dict[str, Any] = found.spokejobs[name]["status"]
    return status


def ends(found: Evidence, job_id: int, **fields: Any) -> None:
    """The job has ended otherwise, and left no row."""
    change_job(found, job_id, **fields)
    found.effects.pop(job_id)


Change = Callable[[Evidence], Any]
LOST: list[tuple[Change, str]] = [
    (lambda found: (found.jobs.pop(WORKER), found.effects.pop(WORKER)), "job 3 (worker) has no end"),
    (lambda found: ends(found, WORKER, state="failed", cause="Killed"), "job 3 (worker) has failed: Killed"),
    (lambda found: found.effects.pop(POD), "job 1 (pod) has succeeded without its row"),
    (lambda found: found.attempts.pop(3), "job 3 (worker) has succeeded without an attempt that has"),
    (lambda found: found.spokejobs.pop("pod"), "job 1 (pod) had no SpokeJob"),
    (lambda found: status_of(found, "pod").update(ledger=None), "SpokeJob pod says ('Succeeded', None)"),
]
DOUBLED: list[tuple[Change, str]] = [
    (lambda found: found.effects.update({POD: 2}), "job 1 has left 2 rows, 1 expected"),
    (lambda found: change_job(found, POD, state="failed"), "job 1 has left 1 rows, 0 expected"),
    (lambda found: found.effects.update({9: 1}), "job 9 has left 1 rows, 0 expected"),
    (lambda found: change_attempt(found, 1, state="succeeded", cause=""), "2 attempts of job 2 have succeeded"),
    (lambda found: found.spokejobs.update(x=spokejob(POD, {"cause": ""})), "job 1 had 2 SpokeJobs, 1 expected"),
    (lambda found: found.spokejobs.update(x=spokejob(WORKER, {"cause": ""})), "job 3 had 1 SpokeJobs, 0 expected"),
]
WITHOUT_CAUSE: list[tuple[Change, str]] = [
    (lambda found: change_attempt(found, 1, state="running", cause=""), "attempt 1.1 of job 2 is running"),
    (lambda found: change_attempt(found, 1, cause=""), "attempt 1.1 of job 2 has failed: no cause"),
    (lambda found: change_attempt(found, 1, cause="Odd"), "attempt 1.1 of job 2 has failed: Odd"),
    (lambda found: status_of(found, "pod")["attempts"][0].update(cause=""), "attempt 1 of SpokeJob pod: no cause"),
    (lambda found: status_of(found, "pod").update(outcome="Failed"), "attempt 2 of SpokeJob pod: no cause"),
]
WRONG = {"lost": LOST, "doubled": DOUBLED, "without_cause": WITHOUT_CAUSE}
CASES = [pytest.param(kind, *case, id=case[1]) for kind, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize(("kind", "change", "text"), CASES)
def test_what_goes_wrong_is_named(kind: str, change: Change, text: str) -> None:
    found = evidence()
    change(found)
    verdict = found.verdict()
    assert text in getattr(verdict, kind)
    # A job that has failed, and what the cluster says, are losses as well.
    assert not verdict.doubled or kind == "doubled"
    assert not verdict.without_cause or kind == "without_cause"


def test_a_job_that_is_not_known_to_have_ended_is_unfinished() -> None:
    found = evidence()
    del found.jobs[STANDBY]
    assert found.unfinished() == [STANDBY]


def test_the_series_is_the_same_each_time() -> None:
    series = [shuffled(KILLS, random.Random(1)) for _ in range(2)]
    assert series[0] == series[1]
    assert series[0] != shuffled(KILLS, random.Random(2))
    assert Counter(series[0]) == KILLS
    assert (sum(KILLS.values()), sum(JOBS.values())) == (200, 2000)


def test_kills_are_due_evenly_and_the_last_one_while_jobs_are_left() -> None:
    due = [kills_due(dispatched, 2000, 200, 80) for dispatched in range(2001)]
    assert (due[0], due[960], due[1919], due[1920], due[2000]) == (0, 100, 199, 200, 200)
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(due))
