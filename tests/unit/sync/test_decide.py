"""What is decided about one row and its SpokeJob."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from tests.unit.sync.making import LONG_AGO, NOW, row, running, seen, under_way

from spoke_jobs.contract.custom_resources.spokejob import LedgerState, Outcome
from spoke_jobs.model import JobOptions, JobState, Progress
from spoke_jobs.sync.decide import LONGEST_START_TIMEOUT_SECONDS, decide, type_not_allowed
from spoke_jobs.sync.sync_model import (
    Action,
    AttemptView,
    Cancel,
    ConfirmGone,
    EndAttempt,
    FailJob,
    Launch,
    Mirror,
    RecordSubmitted,
    Row,
)

PATIENCE = timedelta(seconds=1.5)


def only(actions: tuple[Action, ...]) -> Action:
    """The one action."""
    (action,) = actions
    return action


def test_a_row_without_spokejob_is_launched() -> None:
    fresh = row()
    assert decide(fresh, None, NOW) == (Launch(fresh),)


def test_a_young_row_is_left_to_the_runner_s_own_try() -> None:
    young = row(created_at=NOW - timedelta(seconds=1))
    assert decide(young, None, NOW, PATIENCE) == ()
    assert decide(young, None, NOW + timedelta(seconds=0.5), PATIENCE) == (Launch(young),)


def test_a_blocked_row_is_not_launched() -> None:
    assert decide(row(state=JobState.BLOCKED, open_dependencies=1), None, NOW) == ()


def test_a_row_that_is_not_due_is_not_launched() -> None:
    later = row(run_after=NOW + timedelta(seconds=5))
    assert decide(later, None, NOW) == ()
    assert decide(later, None, NOW + timedelta(seconds=5)) == (Launch(later),)


@pytest.mark.parametrize("begun", ["created_at", "updated_at", "run_after"])
def test_a_row_with_a_template_that_is_not_for_its_type_ends_at_its_start_timeout(begun: str) -> None:
    """Until then somebody may correct the PodTemplate."""
    times = dict.fromkeys(("created_at", "updated_at"), LONG_AGO) | {begun: NOW - timedelta(seconds=30)}
    options = JobOptions(start_timeout_seconds=30.0, pod_template="privileged")
    forged = row(**times, options=options)
    assert type_not_allowed(forged, NOW - timedelta(seconds=1)) == ()
    (end,) = type_not_allowed(forged, NOW)
    assert (end.failure.cause, end.row) == ("TypeNotAllowed", forged)
    assert "'privileged'" in end.failure.message
    assert "'import_contacts'" in end.failure.message


def test_a_row_that_is_forged_cannot_put_that_off() -> None:
    """By times in the future, or by a timeout that no SpokeJob may have."""
    far = NOW.replace(year=9000)
    forged = row(created_at=far, updated_at=far, options=JobOptions(start_timeout_seconds=1e300))
    assert type_not_allowed(forged, NOW)
    old = row(options=JobOptions(start_timeout_seconds=1e300))
    assert type_not_allowed(old, LONG_AGO + timedelta(seconds=LONGEST_START_TIMEOUT_SECONDS))


@pytest.mark.parametrize(
    "begun", [row(submitted_at=LONG_AGO), row(attempt=1), running(), running(submitted_at=None)], ids=str
)
def test_a_row_that_was_begun_is_never_launched_again(begun: Row) -> None:
    assert decide(begun, None, NOW) == (ConfirmGone(begun),)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_a_final_row_needs_no_spokejob(state: JobState) -> None:
    assert decide(row(state=state), None, NOW) == ()


def test_a_spokejob_that_is_there_is_recorded() -> None:
    fresh = row()
    assert decide(fresh, seen(fresh), NOW) == (RecordSubmitted(fresh),)
    recorded = row(submitted_at=LONG_AGO)
    assert decide(recorded, seen(recorded), NOW) == ()


@pytest.mark.parametrize("change", [{"job_uid": uuid.UUID(int=7)}, {"job_uid": None}, {"run": 2}], ids=str)
def test_a_name_that_another_job_has_fails_the_row_unless_it_was_begun(change: dict[str, object]) -> None:
    fresh, begun = row(), running()
    taken = only(decide(fresh, seen(fresh, **change), NOW))
    assert isinstance(taken, FailJob)
    assert taken.failure.cause == "NameTaken"
    assert decide(begun, seen(begun, **change), NOW) == (ConfirmGone(begun),)
    final = row(state=JobState.FAILED)
    assert decide(final, seen(final, **change), NOW) == ()


def test_a_failed_outcome_is_copied_with_its_cause() -> None:
    waiting = row(submitted_at=LONG_AGO, attempt=1)
    action = only(decide(waiting, seen(waiting, outcome=Outcome.FAILED, cause="ImageUnavailable"), NOW))
    assert isinstance(action, FailJob)
    assert action.failure.cause == "ImageUnavailable"
    assert action.failure.message


def test_a_failed_outcome_of_an_unrecorded_submission_does_both() -> None:
    fresh = row()
    actions = decide(fresh, seen(fresh, outcome=Outcome.FAILED, cause="TemplateMissing"), NOW)
    assert [type(action) for action in actions] == [RecordSubmitted, FailJob]


def test_success_never_comes_from_the_cluster() -> None:
    claimed = running()
    action = only(decide(claimed, under_way(claimed, outcome=Outcome.SUCCEEDED), NOW))
    assert isinstance(action, FailJob)
    assert (action.failure.cause, "os._exit" in action.failure.message) == ("JobExited", True)
    restored = only(decide(claimed, under_way(claimed, outcome=Outcome.SUCCEEDED, ledger=LedgerState.SUCCEEDED), NOW))
    assert isinstance(restored, FailJob)
    assert "backup" in restored.failure.message


def ended(number: int, cause: str = "PodDeleted", error_type: str = "") -> AttemptView:
    return AttemptView(number, True, cause, error_type)


def test_an_attempt_that_ended_on_the_cluster_is_ended_in_the_ledger() -> None:
    claimed = running(2)
    spokejob = seen(claimed, outcome=Outcome.WAITING, attempt=2, attempts=(ended(1), ended(2, "OutOfMemory", "X")))
    action = only(decide(claimed, spokejob, NOW))
    assert isinstance(action, EndAttempt)
    assert (action.number, action.failure.cause, action.failure.error_type) == (2, "OutOfMemory", "X")


def test_an_attempt_that_is_condemned_or_under_way_is_let_be() -> None:
    claimed = running(2, status=0)
    condemned = AttemptView(2, False, "Timeout", "")
    for attempts in ((ended(1), condemned), (ended(1), AttemptView(2, False, "", "")), (ended(1),)):
        number = attempts[-1].number
        assert decide(claimed, seen(claimed, outcome=Outcome.RUNNING, attempt=number, attempts=attempts), NOW) == ()


def test_an_attempt_that_ended_well_waits_for_the_outcome() -> None:
    claimed = running(1)
    assert decide(claimed, seen(claimed, outcome=Outcome.RUNNING, attempt=1, attempts=(ended(1, ""),)), NOW) == ()


def test_an_attempt_that_the_operator_has_gone_on_from_is_lost() -> None:
    claimed = running(1)
    spokejob = seen(claimed, outcome=Outcome.RUNNING, attempt=2, attempts=(AttemptView(2, False, "", ""),))
    action = only(decide(claimed, spokejob, NOW))
    assert isinstance(action, EndAttempt)
    assert (action.number, action.failure.cause) == (1, "WorkerLost")


def test_progress_is_mirrored_when_it_differs() -> None:
    claimed = running(status=40, result_message="row 400")
    stale = under_way(claimed, progress=Progress(30, "row 300"))
    assert decide(claimed, stale, NOW) == (Mirror(stale, Progress(40, "row 400"), None),)
    shown = under_way(claimed, progress=Progress(40, "row 400"))
    assert decide(claimed, shown, NOW) == ()


def test_progress_that_is_none_costs_no_write() -> None:
    claimed = running()
    assert decide(claimed, under_way(claimed), NOW) == ()
    again = under_way(claimed, progress=Progress(80, "of the attempt before"))
    assert decide(claimed, again, NOW) == (Mirror(again, Progress(0, ""), None),)


def test_progress_fits_the_spokejob() -> None:
    claimed = running(status=250, result_message="x" * 500)
    action = only(decide(claimed, under_way(claimed), NOW))
    assert isinstance(action, Mirror)
    assert action.progress == Progress(100, "x" * 200)


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.FAILED])
def test_why_an_attempt_failed_stays_in_the_ledger(state: JobState) -> None:
    failed = row(state=state, attempt=1, submitted_at=LONG_AGO, status=-1, result_message="ValueError: secret")
    spokejob = seen(failed, outcome=Outcome.WAITING, progress=Progress(30, "row 300"))
    for action in decide(failed, spokejob, NOW):
        assert isinstance(action, Mirror)
        assert (action.progress, action.ledger) == (Progress(30, "row 300"), LedgerState.FAILED)


def test_a_final_state_is_mirrored_once() -> None:
    failed = row(state=JobState.FAILED, attempt=1, submitted_at=LONG_AGO, status=-1)
    assert decide(failed, seen(failed), NOW) == (Mirror(seen(failed), None, LedgerState.FAILED),)
    assert decide(failed, seen(failed, ledger=LedgerState.FAILED), NOW) == ()


def test_a_stale_row_unsays_no_final_state() -> None:
    stale = running(status=10)
    spokejob = under_way(stale, ledger=LedgerState.SUCCEEDED, progress=Progress(100, ""))
    assert all(not isinstance(a, Mirror) or a.ledger is LedgerState.SUCCEEDED for a in decide(stale, spokejob, NOW))


@pytest.mark.parametrize(
    "asked", [running(cancel_requested_at=NOW), row(submitted_at=LONG_AGO, cancel_requested_at=NOW)]
)
def test_a_cancellation_is_passed_on_until_it_is_there(asked: Row) -> None:
    there = under_way(asked) if asked.live else seen(asked)
    assert only(decide(asked, there, NOW)) == Cancel(asked, there)
    told = under_way(asked, cancel=True) if asked.live else seen(asked, cancel=True)
    assert decide(asked, told, NOW) == ()
    assert not any(isinstance(item, Cancel) for item in decide(asked, under_way(asked, outcome=Outcome.FAILED), NOW))
