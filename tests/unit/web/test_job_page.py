"""What the page of one job says, from values."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.dashboard_scene import EVERYBODY
from tests.unit.explain.situations import NOW, a_job, an_attempt, before

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.job_details import details
from spoke_jobs.explain.reasons import Explanation, Reason
from spoke_jobs.model import AttemptReport, AttemptState, AttemptUsage, JobState
from spoke_jobs.web.job_views import JobView, job_view


def page(*causes: str, error_type: str = "", **changes: Any) -> JobView:
    """The page of a job whose attempts have failed with the causes."""
    attempts = [
        an_attempt(
            number=number,
            state=AttemptState.FAILED,
            finished_at=before(seconds=9),
            cause=cause,
            error_type=error_type,
        )
        for number, cause in enumerate(causes, 1)
    ]
    return job_view(details(a_job(**changes), attempts, NOW), Explanation(()), NOW, EVERYBODY)


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.RUNNING, JobState.BLOCKED])
def test_the_advice_on_attempts_of_a_job_that_is_still_tried_is_not_that_for_an_ended_one(state: JobState) -> None:
    killed, image = page("Killed", "ImageUnavailable", state=state).causes
    assert killed.advice == "No action is needed. The job is tried again."
    assert image.advice == Cause.IMAGE_UNAVAILABLE.advice, "it waits until somebody does that"
    for each in page(*CAUSES, state=state).causes:
        assert "spoke-jobs retry" not in each.advice


def test_the_advice_on_attempts_of_a_job_that_has_failed_says_how_to_retry_it() -> None:
    (killed,) = page("Killed", state=JobState.FAILED).causes
    assert killed.advice.endswith("`spoke-jobs retry 12`.")


def test_the_cause_that_ended_the_job_is_explained_once() -> None:
    """Above, by why it failed."""
    (killed,) = page("Killed", "JobError", state=JobState.FAILED, cause="JobError").causes
    assert killed.name == "Killed"


def test_advice_that_stands_above_is_not_given_again() -> None:
    attempts = [an_attempt(state=AttemptState.FAILED, cause="ImageUnavailable")]
    advice = Cause.IMAGE_UNAVAILABLE.advice
    why = Explanation((Reason(Code.CLUSTER, "no image", advice),))
    (cause,) = job_view(details(a_job(), attempts, NOW), why, NOW, EVERYBODY).causes
    assert (cause.meaning, cause.advice) == (Cause.IMAGE_UNAVAILABLE.meaning, "")
    (cause,) = job_view(details(a_job(), attempts, NOW), Explanation(()), NOW, EVERYBODY).causes
    assert cause.advice == advice


def test_only_the_newest_of_many_attempts_are_not_folded() -> None:
    view = page(*(f"Cause{number}" for number in range(1, 9)))
    cause = view.headings.index("Cause")
    assert [row[cause] for row in view.attempts] == [f"Cause{number}" for number in range(4, 9)]
    assert [row[cause] for row in view.earlier] == ["Cause1", "Cause2", "Cause3"]
    assert page("Killed").earlier == ()


def test_columns_without_a_value_are_left_out() -> None:
    assert not {"Node", "Exit", "Peak memory", "CPU time"} & set(page("Killed").headings)


def test_what_kubernetes_said_is_said_once() -> None:
    texts = ["no image", "no image", "no node", "no image", "why it failed"]
    reports = [AttemptReport(1, number, "ImageUnavailable", text) for number, text in enumerate(texts, 1)]
    job = a_job(runner="kubernetes", state=JobState.FAILED, result_message="why it failed")
    view = job_view(details(job, [], NOW, reports=reports), Explanation(()), NOW, EVERYBODY)
    assert view.said == (("Attempts 1, 2, 4", "no image"), ("Attempt 3", "no node"))
    assert view.message == "why it failed"
    assert "message" not in dict(view.facts), "the page begins with it"
    like = job_view(details(job, [], NOW, reports=reports[:2]), Explanation(()), NOW, EVERYBODY)
    assert like.said == (("Attempts 1 to 2", "no image"),)


@pytest.mark.parametrize(("attempt", "of"), [(1, "attempt 1"), (2, "attempt 1, an earlier one")])
def test_the_output_of_an_attempt_that_failed_is_not_taken_for_that_of_the_newest(attempt: int, of: str) -> None:
    failed = an_attempt(state=AttemptState.FAILED, cause="JobError", output_tail="no")
    job = a_job(state=JobState.SUCCEEDED, attempt=attempt)
    view = job_view(details(job, [failed, an_attempt(number=2)], NOW), Explanation(()), NOW, EVERYBODY)
    assert view.output is not None
    assert (view.output.title, view.output.lines) == (f"Last output, of {of}", ("no",))


def test_how_the_memory_of_a_type_has_grown_is_one_sentence() -> None:
    def said(*mebibytes: int) -> str:
        usages = [AttemptUsage(each * 2**20) for each in mebibytes]
        return job_view(details(a_job(), [], NOW), Explanation(()), NOW, EVERYBODY, usages=usages).peaks

    of = "successes of its type:"
    assert said(1_011, 700, 661) == (
        f"Peak memory of the newest 3 {of} 661 MiB in the oldest of them, 1,011 MiB in the newest."
    )
    assert said(10, 30, 20).endswith("20 MiB in the oldest of them, 10 MiB in the newest, 30 MiB at most.")
    assert said(10) == ""


def test_no_option_of_the_command_line_is_named_above_the_payload() -> None:
    assert dict(page().options)["payload"] == "19 bytes"


def test_after_a_crash_the_advice_is_to_look_at_native_code() -> None:
    (killed,) = page("Killed", state=JobState.FAILED, error_type="SIGSEGV").causes
    assert killed.advice.startswith("Native code of the job has crashed (SIGSEGV).")


def test_a_job_that_has_succeeded_needs_no_advice_on_its_attempts() -> None:
    (killed,) = page("Killed", state=JobState.SUCCEEDED).causes
    assert (killed.meaning, killed.advice) == (Cause.KILLED.meaning, "")
