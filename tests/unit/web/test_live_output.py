"""What is shown of the output of a job, and of whom it is read."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.explain.situations import a_job, an_attempt, before

from spoke_jobs.cluster.cluster_view import PodTail
from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus
from spoke_jobs.explain.tries import Try
from spoke_jobs.model import AttemptReport, AttemptState, ContainerOutput, JobRequest, JobState
from spoke_jobs.web.live_output import (
    LINE_LIMIT,
    OUTPUT_LIMIT,
    SHOWN_LINES,
    ShownOutput,
    last,
    running_pod,
    shown_output,
)

POD = "report-12-1-x"
ENDED = {"state": AttemptState.FAILED, "finished_at": before(seconds=1)}


def running(runner: str = "kubernetes", **changes: Any) -> JobRequest:
    return a_job(runner=runner, state=JobState.RUNNING, **changes)


def attempt(number: int = 1, output: str = "", worker: str = POD, pod: str | None = None, **changes: Any) -> Try:
    """An attempt of a worker or, with ``pod``, one whose SpokeJob names that pod."""
    run = changes.get("run", 1)
    row = an_attempt(number=number, worker=worker, output_tail=output, **changes)
    return Try(run, number, row, None if pod is None else AttemptStatus(number=number, job="j", pod=pod))


def from_pod(*lines: str, problem: str = "") -> ShownOutput:
    return shown_output(running(), [attempt(pod=POD)], PodTail(lines, problem))


@pytest.mark.parametrize(
    ("job", "found", "pod"),
    [
        (running(), [attempt(pod=POD)], POD),
        (running(), [attempt(1, pod=POD, **ENDED), attempt(2, pod="second")], "second"),
        (running(), [attempt(pod=POD, worker="pod-of-others")], POD),
        (running(), [attempt(worker="pod-of-others")], ""),
        (running(), [], ""),
        (running(), [attempt(pod="")], ""),
        (running(), [attempt(pod=POD, **ENDED)], ""),
        (running(run=2), [attempt(pod=POD)], ""),
        (a_job(runner="kubernetes"), [attempt(pod=POD)], ""),
        (running("legacy"), [attempt(pod=POD)], ""),
        (running(), [attempt(runner="kubernetes-worker", pod=POD)], ""),
        (running(), [attempt(pod="x/../../secrets/y")], ""),
        (running(), [attempt(pod="x?container=other")], ""),
    ],
    ids=[
        *("pod", "second", "another in the ledger", "in the ledger alone", "none", "not named yet", "ended"),
        *("earlier run", "waits", "legacy", "lane worker", "a path", "a query"),
    ],
)
def test_the_pod_that_runs_a_job(job: JobRequest, found: list[Try], pod: str) -> None:
    assert running_pod(job, found) == pod


def test_a_running_pod_s_last_lines() -> None:
    assert from_pod("one", "", "two") == ShownOutput(
        "Output of attempt 1 so far",
        ("one", "", "two"),
        f"These are the last lines of its pod, {POD}.",
        runs=True,
    )
    assert from_pod().note == "It has printed nothing yet."


def test_why_a_pod_could_not_be_read() -> None:
    shown = from_pod(problem="no\n\x1b[31m" + "x" * 1_000)
    assert shown.runs, "it may be read later"
    assert shown.note.startswith(f"The output of its pod, {POD}, could not be read: no \\x1b[31mxxx")
    assert len(shown.note) < 400
    assert shown.again_seconds == 15, "the cluster may be away for long"
    soon = shown_output(running(), [attempt()])
    assert soon.note.endswith("could not be read: its SpokeJob does not name it yet")
    assert soon.again_seconds == from_pod("one").again_seconds == 3


def test_what_a_worker_has_stored_so_far() -> None:
    job, host = running("legacy"), {"worker": "host:1"}
    shown = shown_output(job, [attempt(1, "earlier", **ENDED, **host), attempt(2, "a\nb\n", **host)])
    assert (shown.title, shown.lines, shown.runs) == ("Output of attempt 2 so far", ("a", "b"), True)
    assert "in the log of its worker, host:1" in shown.note
    none = shown_output(job, [attempt(1, "earlier", **ENDED, **host), attempt(2, **host)])
    assert (none.lines, none.runs) == ((), True), "that of an earlier attempt is not taken for it"
    assert "none of it yet" in none.note


def test_after_its_end_what_the_ledger_keeps() -> None:
    job = a_job(state=JobState.FAILED, attempt=2, runner="kubernetes")
    first, second = attempt(1, "one", **ENDED), attempt(2, **ENDED)
    assert shown_output(job, [first, second]) == ShownOutput("Last output, of attempt 1, an earlier one", ("one",))
    report = AttemptReport(1, 2, "JobError", outputs=(ContainerOutput("job", "two"), ContainerOutput("proxy", "three")))
    shown = shown_output(job, [first, Try(1, 2, second.row, report=report)], PodTail(("of the pod",)))
    assert shown.title == "Last output, of attempt 2"
    assert shown.lines == ("[container job]", "two", "[container proxy]", "three")
    assert not shown.runs
    nothing = shown_output(job, [second])
    assert (nothing.lines, nothing.runs, nothing.note) == ((), False, "The ledger has none of its output.")


def test_control_characters_are_escapes() -> None:
    shown = from_pod("\x1b[31mred\u202e", "10 %\r20 %\r30 %", "<b>")
    assert shown.lines == ("\\x1b[31mred\\u202e", "10 %", "20 %", "30 %", "<b>")


def test_of_a_long_line_its_end_is_shown() -> None:
    """A progress bar writes all its states into one line."""
    (shown,) = from_pod("a" * 10_000_000 + "end").lines
    assert shown.startswith("…aaa")
    assert shown.endswith("aend")
    assert len(shown) == LINE_LIMIT + 1


def test_the_output_is_bounded() -> None:
    many = from_pod(*map(str, range(10_000))).lines
    assert len(many) == SHOWN_LINES
    assert many[-1] == "9999", "the last ones"
    hostile = from_pod(*["\x1b\u202e" * 5_000_000] * 3, *["\U000e0001" * LINE_LIMIT] * SHOWN_LINES).lines
    assert 0 < sum(map(len, hostile)) <= OUTPUT_LIMIT + 1
    assert last(["a" * (OUTPUT_LIMIT - 2), "bc"]) == ("a" * (OUTPUT_LIMIT - 2), "bc")
    assert last(["xyz", "a" * (OUTPUT_LIMIT - 2)]) == ("…yz", "a" * (OUTPUT_LIMIT - 2))
    assert last(["xyz", "a" * OUTPUT_LIMIT]) == ("a" * OUTPUT_LIMIT,)
