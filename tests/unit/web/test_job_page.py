"""What the page of one job says, from values."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.dashboard_scene import EVERYBODY
from tests.unit.explain.situations import NOW, a_job, an_attempt, before

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.explain.job_details import details
from spoke_jobs.explain.reasons import Explanation
from spoke_jobs.model import AttemptState, JobState
from spoke_jobs.web.page_views import JobView, job_view


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


def test_no_option_of_the_command_line_is_named_above_the_payload() -> None:
    assert dict(page().options)["payload"] == "19 bytes"


def test_after_a_crash_the_advice_is_to_look_at_native_code() -> None:
    (killed,) = page("Killed", state=JobState.FAILED, error_type="SIGSEGV").causes
    assert killed.advice.startswith("Native code of the job has crashed (SIGSEGV).")


def test_a_job_that_has_succeeded_needs_no_advice_on_its_attempts() -> None:
    (killed,) = page("Killed", state=JobState.SUCCEEDED).causes
    assert (killed.meaning, killed.advice) == (Cause.KILLED.meaning, "")
