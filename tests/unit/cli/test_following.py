"""Which attempt `logs` prints, when it takes the ledger's tail instead, and when it is over."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from tests.unit.explain.situations import a_job, an_attempt, before

from spoke_jobs.cli.commands.log_steps import (
    Printed,
    Read,
    Step,
    begin,
    chosen,
    go_on,
    next_try,
    over,
    why_a_tail,
)
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, SpokeJob
from spoke_jobs.explain.kept_output import tail
from spoke_jobs.explain.tries import Try, tries
from spoke_jobs.model import AttemptState, JobState

POD = "report-12-00000000-1-abcde"


def in_cluster(state: JobState = JobState.RUNNING, **changes: Any) -> Any:
    return a_job(runner="kubernetes", state=state, **changes)


def claimed(number: int = 1, run: int = 1, *, ended: bool = False, output: str = "") -> Try:
    end = {"state": AttemptState.FAILED, "finished_at": before(seconds=1), "cause": "JobError"} if ended else {}
    return Try(run, number, an_attempt(worker=POD, run=run, number=number, output_tail=output, **end))


def starting(number: int = 1, pod: str = POD) -> Try:
    return Try(1, number, None, AttemptStatus(number=number, job="j", pod=pod))


def a_spokejob(**spec: Any) -> SpokeJob:
    metadata = {"name": "n", "namespace": "jobs", "uid": "u", "resourceVersion": "1"}
    metadata["creationTimestamp"] = before(minutes=1).isoformat()
    attempts = [
        {"number": 1, "job": "j-1", "pod": POD, "node": "w1", "cause": "OutOfMemory", "exitCode": 137},
        {"number": 2, "job": "j-2", "pod": "second", "node": "w2"},
    ]
    values = {"uid": str(UUID(int=7)), "requestId": 12, "jobType": "report"} | spec
    return SpokeJob.from_object({"metadata": metadata, "spec": values, "status": {"attempts": attempts}})


def test_ledger_and_spokejob_are_put_together() -> None:
    first, second = tries(in_cluster(), [an_attempt(worker=POD)], a_spokejob())
    assert (first.row is not None, first.node, first.cause) == (True, "w1", "OutOfMemory")
    assert (second.row, second.worker, second.state) == (None, "second", "starting")


@pytest.mark.parametrize("spec", [{"run": 2}, {"uid": str(UUID(int=8))}])
def test_a_spokejob_of_another_run_or_job_tells_nothing(spec: dict[str, Any]) -> None:
    assert [item.seen for item in tries(in_cluster(), [an_attempt()], a_spokejob(**spec))] == [None]


def test_the_newest_attempt_of_the_run_is_meant_or_the_one_that_is_named() -> None:
    found = [claimed(1, run=1), claimed(2, run=1), claimed(1, run=2), claimed(2, run=2)]
    job = in_cluster(run=2)
    assert chosen(found, job, None) is found[3]
    assert chosen(found, job, 1) is found[2]
    assert chosen(found, job, 3) is None
    assert chosen(found[:2], job, None) is None, "a run that has not begun has no output yet"


def test_from_attempt_to_attempt_until_the_job_ends() -> None:
    printed = Printed(first=(1, 2))
    found = [claimed(1, ended=True), claimed(2, ended=True)]
    assert next_try(found, printed) is found[1]
    printed.done.add((1, 2))
    assert next_try(found, printed) is None
    assert not over(in_cluster(JobState.WAITING), found, printed)
    third = [*found, claimed(3, ended=True)]
    assert next_try(third, printed) is third[2]
    assert not over(in_cluster(JobState.FAILED), third, printed), "what was not read yet is read first"
    printed.done.add((1, 3))
    assert over(in_cluster(JobState.FAILED), third, printed)


def test_of_one_attempt_no_other_is_followed() -> None:
    printed = Printed(first=(1, 1), last=(1, 1))
    found = [claimed(1), claimed(2)]
    assert next_try(found, printed) is found[0]
    printed.done.add((1, 1))
    assert over(in_cluster(), found, printed)


def test_what_to_do_first() -> None:
    assert begin(in_cluster(), claimed(), Printed()) is Step.READ
    assert begin(in_cluster(JobState.WAITING), starting(), Printed()) is Step.READ
    assert begin(in_cluster(JobState.WAITING), starting(pod=""), Printed()) is Step.WAIT
    assert begin(in_cluster(), claimed(), Printed(blind=True)) is Step.WAIT
    assert begin(in_cluster(), claimed(ended=True), Printed(blind=True)) is Step.TAIL
    assert begin(a_job(state=JobState.RUNNING), claimed(), Printed()) is Step.WAIT
    assert begin(a_job(state=JobState.FAILED), claimed(ended=True), Printed()) is Step.TAIL


@pytest.mark.parametrize(
    ("read", "ended", "then"),
    [
        (Read.ALL, False, Step.DONE),
        (Read.SOME, False, Step.READ),
        (Read.NOT_STARTED, False, Step.WAIT),
        (Read.GONE, False, Step.WAIT),
        (Read.GONE, True, Step.TAIL),
        (Read.AWAY, False, Step.WAIT),
        (Read.AWAY, True, Step.TAIL),
        (Read.REFUSED, True, Step.TAIL),
    ],
)
def test_what_to_do_then(read: Read, ended: bool, then: Step) -> None:
    assert go_on(in_cluster(), claimed(ended=ended), Printed(), read) is then


def test_what_was_printed_until_its_pod_was_deleted_is_not_followed_by_the_tail() -> None:
    printed = Printed(after={(1, 1): "2026-03-01T12:00:00.000000001Z"})
    assert go_on(in_cluster(), claimed(ended=True), printed, Read.GONE) is Step.DONE


@pytest.mark.parametrize(
    ("item", "read", "words"),
    [
        (claimed(ended=True, output="ValueError: no"), Read.GONE, f"its pod, {POD}, is gone; the last lines"),
        (claimed(ended=True), Read.GONE, "is gone; the ledger has none of its output"),
        (claimed(ended=True), Read.REFUSED, "can't be read from here"),
        (starting(pod=""), None, "it had no pod"),
    ],
)
def test_why_it_is_the_tail(item: Try, read: Read, words: str) -> None:
    assert words in why_a_tail(in_cluster(), item, read, tail(item))


def test_of_a_job_that_moved_to_a_pod_only_attempts_in_pods_are_read_there() -> None:
    job = in_cluster(run=2)
    in_worker = Try(
        1, 1, an_attempt(runner="kubernetes-worker", state=AttemptState.FAILED, finished_at=before(seconds=1))
    )
    in_pod = Try(2, 1, an_attempt(run=2, worker=POD, runner="kubernetes"))
    assert begin(job, in_worker, Printed()) is Step.TAIL
    assert begin(job, in_pod, Printed()) is Step.READ
    assert "all that it printed is in the log of its worker" in why_a_tail(job, in_worker, None, ["a line"])
