"""What stands beside a reason of `why` on the page of a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.contract.dashboard_scene import EVERYBODY, ONE
from tests.unit.explain.situations import a_holder, a_job, a_situation, before

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.executors import REFERENCE
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.reasons import Reason, waits_for
from spoke_jobs.explain.why import explain
from spoke_jobs.ledger.reading.situations import Situation
from spoke_jobs.model import JobState
from spoke_jobs.web import JobAction
from spoke_jobs.web.reason_remedies import ExplainedReason, JobForm, explained_reasons
from spoke_jobs.web.viewer import Viewer

PAUSED = Wait(WaitReason.PAUSED, object="type:report", source="limit type:report")
LIMITED = Wait(WaitReason.QUEUE_LIMIT_REACHED, source="limit queue:imports", running=3, limit=3)


def remedies(situation: Situation, viewer: Viewer = EVERYBODY) -> list[ExplainedReason]:
    return list(explained_reasons(explain(situation).reasons, situation.job, viewer, list(JobForm)))


def first(viewer: Viewer = EVERYBODY, **changes: Any) -> ExplainedReason:
    return remedies(a_situation(**changes), viewer)[0]


@pytest.mark.parametrize("cause", CAUSES)
def test_the_retry_stands_beside_advice_that_names_it(cause: str) -> None:
    job = a_job(state=JobState.FAILED, cause=cause, attempt=1)
    (failed,) = remedies(a_situation(job))
    assert (failed.form is JobForm.RETRY) == (f"spoke-jobs retry {job.id}`" in failed.reason.advice)


def test_the_form_stands_beside_advice_that_names_it() -> None:
    suspended = first(job=a_job(suspended_at=before(minutes=3)))
    assert suspended.form is JobForm.RESUME
    assert "spoke-jobs resume 12" in suspended.reason.advice
    taken = first(job=a_job(runner=REFERENCE, assigned=True))
    assert taken.form is JobForm.CANCEL
    assert "spoke-jobs cancel 12" in taken.reason.advice


def test_a_job_that_holds_up_others_may_be_cancelled_there() -> None:
    held = Reason(Code.HOLDS_UP, "no progress", "`spoke-jobs cancel 12`")
    (found,) = explained_reasons([held], a_job(state=JobState.RUNNING), EVERYBODY, [JobForm.CANCEL])
    assert found.form is JobForm.CANCEL


def test_a_form_that_is_not_allowed_or_stands_above_is_left_out() -> None:
    reason = waits_for(WaitReason.SUSPENDED, "it was suspended")
    found = explained_reasons([reason, reason], a_job(), EVERYBODY, [JobForm.RESUME])
    assert [each.form for each in found] == [JobForm.RESUME, None]
    (refused,) = explained_reasons([reason], a_job(), EVERYBODY, [JobForm.CANCEL])
    assert refused.form is None


def test_who_may_change_limits_ends_the_pause_there() -> None:
    row = ("/queues#limit-", "type:report among the limits")
    paused = first(limit=PAUSED)
    assert (paused.paused, paused.scope) == ("type:report", "type%3Areport")
    assert [(path[:14], text) for path, text in paused.links] == [row]
    looking = first(replace(EVERYBODY, actions=frozenset({JobAction.CANCEL})), limit=PAUSED)
    assert (looking.paused, looking.scope) == ("", "")
    assert len(looking.links) == 1


def test_a_limit_leads_to_the_form_that_changes_it() -> None:
    texts = ["Change the limit queue:imports", "queue:imports among the limits"]
    limited = first(limit=LIMITED)
    assert limited.paused == ""
    assert [text for _, text in limited.links] == texts
    assert limited.links[0][0] == "/queues?scope=queue%3Aimports#limit"
    assert [text for _, text in first(EVERYBODY.read_only(), limit=LIMITED).links] == texts[1:]


def test_limits_are_not_shown_to_who_sees_some_organizations() -> None:
    for limit in (PAUSED, LIMITED):
        (reason,) = explain(a_situation(limit=limit)).reasons[:1]
        (found,) = explained_reasons([reason], a_job(), ONE, list(JobForm))
        assert (found.paused, found.links) == ("", ())


def test_jobs_of_a_batch_are_retried_first() -> None:
    failed = Reason(Code.FAILED, "it failed", "retry them", batch_id=2)
    job = a_job(state=JobState.FAILED, cause="DependencyFailed")
    (found,) = explained_reasons([failed], job, EVERYBODY, list(JobForm))
    assert found.form is None
    assert found.links == (("/bulk/retry?batch=2", "Retry the failed jobs of batch 2 (preview)"),)
    (found,) = explained_reasons([failed], job, EVERYBODY.read_only(), [])
    assert found.links == ()


def test_what_the_cluster_waits_for_leads_to_its_page() -> None:
    quota = Reason(Code.CLUSTER, "the quota is used up", "raise it", cause="QuotaExceeded")
    pod = Reason(Code.CLUSTER, "its pod is a", "its output: spoke-jobs logs 12 -f")
    silent = waits_for(WaitReason.NO_OPERATOR, "no operator has been seen", "check it")
    links = [each.links for each in explained_reasons([quota, pod, silent], a_job(), EVERYBODY, [])]
    assert links == [(("/cluster", "Cluster"),), (), (("/cluster", "Cluster"),)]
    (hidden,) = explained_reasons([quota], a_job(), ONE, [])
    assert hidden.links == ()


def test_a_lock_has_no_remedy_but_its_holder() -> None:
    job = a_job(queue_name="7:contacts", locks_queue=True)
    behind = first(job=job, holder=a_holder())
    assert (behind.reason.job_id, behind.form, behind.links) == (9, None, ())
