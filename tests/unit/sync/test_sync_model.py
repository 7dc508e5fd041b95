"""Reading SpokeJobs from the API server's objects, and rows as SpokeJobs to create."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sync.making import job

from spoke_jobs.cluster.manifest import name_of, spokejob
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.custom_resources.spokejob import LedgerState, Outcome, SpokeJobSpec
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.model import JobOptions, Progress
from spoke_jobs.shared.clean_text import is_storable
from spoke_jobs.sync.sync_model import AttemptView, Row, read_view


@pytest.mark.parametrize("cause", ["Job\x00Error", "\ud800", "\x1b[2J", "x" * 41, "two words"])
def test_a_cause_that_is_none_reads_as_undiagnosable_never_as_a_success(cause: str) -> None:
    attempt = {"number": 1, "finishedAt": "2026-03-01T12:00:00Z", "cause": cause, "errorType": cause, "pod": "../x"}
    view = read_view({"status": {"cause": cause, "attempts": [attempt]}})
    assert view.cause == "Undiagnosable"
    (found,) = view.attempts
    assert (found.cause, found.error_type, found.pod) == (
        "Undiagnosable",
        "two words" if " " in cause else found.error_type,
        "",
    )
    assert is_storable(found.error_type)


def test_what_is_created_is_what_the_row_says() -> None:
    options = JobOptions(
        retry=RetryPolicy(budget={CauseClass.ERROR: 5, CauseClass.INVALID: 7}, backoff_seconds=2.5), pod_template="big"
    )
    row = job(queue_name="12:edit", locks_queue=True, organization_id=3, options=options, payload='{"secret": 1}')
    body = spokejob(row, "texting")
    assert body["metadata"].pop("labels").items() >= {"jobs.spoke.dev/organization": "3"}.items()
    assert body["metadata"] == {"name": "import-contacts-7-5e1f0a52", "namespace": "texting"}
    spec = SpokeJobSpec.model_validate(body["spec"])
    assert (spec.uid, spec.request_id, spec.run, spec.job_type) == (row.uid, 7, 1, "import_contacts")
    assert (spec.queue, spec.locks_queue, spec.organization, spec.pod_template) == ("12:edit", True, 3, "big")
    assert (spec.retry.budget.error, spec.retry.budget.oom, spec.retry.backoff_seconds) == (5, 3, 2.5)
    assert "secret" not in json.dumps(body)


def test_what_nobody_chose_is_left_to_the_crd() -> None:
    spec = spokejob(job(), "texting")["spec"]
    assert not {"organization", "timeoutSeconds", "priority", "suspend", "ttlSecondsAfterFinished"} & spec.keys()


@pytest.mark.parametrize(("lane", "field"), [("pod", None), ("standby", "standby"), ("worker", None)])
def test_the_operator_learns_only_of_the_lane_that_it_serves_in_another_way(lane: str, field: str | None) -> None:
    """A job of the lane worker has a SpokeJob once it has moved to a pod."""
    assert spokejob(job(options=JobOptions(lane=lane)), "texting")["spec"].get("lane") == field


def test_a_policy_beyond_the_crd_s_bounds_is_brought_within() -> None:
    policy = RetryPolicy(
        budget={CauseClass.ERROR: 0, CauseClass.OOM: 9999}, backoff_seconds=-1, backoff_max_seconds=1e9
    )
    retry = spokejob(job(options=JobOptions(retry=policy)), "texting")["spec"]["retry"]
    assert (retry["budget"]["error"], retry["budget"]["oom"]) == (1, 100)
    assert (retry["backoffSeconds"], retry["backoffMaxSeconds"]) == (0, 86400)


def test_a_row_that_no_spokejob_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="pod_?[tT]emplate"):
        spokejob(job(options=JobOptions(pod_template="")), "texting")


def test_the_name_is_the_run_s() -> None:
    assert name_of(job()) == name_of(job(status=50, attempt=3))
    assert len({name_of(job()), name_of(job(run=2)), name_of(job(uid=uuid.uuid4())), name_of(job(id=8))}) == 4


def test_a_spokejob_is_read_as_the_api_server_sends_it() -> None:
    body = yaml.safe_load(
        """
        metadata: {name: import-contacts-7-5e1f0a52, uid: object-1, resourceVersion: "42"}
        spec: {uid: 5e1f0a52-0000-4000-8000-000000000007, requestId: 7, jobType: import_contacts}
        status:
          outcome: Running
          cause: ""
          attempt: 2
          attempts:
          - {number: 1, job: a-1, finishedAt: "2026-03-01T12:00:00Z", cause: OutOfMemory, errorType: ""}
          - {number: 2, job: a-2, startedAt: "2026-03-01T12:01:00Z"}
          progress: {percent: 40, message: row 400}
          ledger: Failed
        """
    )
    seen = read_view(body)
    assert (seen.name, seen.object_uid, seen.resource_version) == ("import-contacts-7-5e1f0a52", "object-1", "42")
    assert seen.is_of(Row(job(), None))
    assert (seen.outcome, seen.attempt, seen.progress) == (Outcome.RUNNING, 2, Progress(40, "row 400"))
    assert seen.attempts == (AttemptView(1, True, "OutOfMemory", ""), AttemptView(2, False, "", ""))
    assert seen.ledger is LedgerState.FAILED
    assert not seen.settled


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from(
    ["metadata", "spec", "status", "name", "uid", "run", "outcome", "attempt", "attempts", "progress", "ledger"]
)


@given(st.recursive(json_values, lambda inner: st.dictionaries(fields, inner), max_leaves=15))
def test_an_odd_object_reads_as_one_with_less(body: Any) -> None:
    if isinstance(body, dict):
        assert not read_view(body).settled or body["status"]
