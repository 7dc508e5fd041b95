from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.diagnosis.refusals import foreign_job, read_refusal


@pytest.mark.parametrize(
    ("status", "cause"),
    [(422, "TemplateInvalid"), (400, "TemplateInvalid"), (403, "PodRejected"), (413, "TemplateInvalid")],
)
def test_verdicts(status: int, cause: str) -> None:
    refusal = read_refusal(status, "why", NOW)
    assert refusal
    assert (refusal.wait.code, refusal.wait.detail, refusal.at) == (cause, "why", NOW)


@pytest.mark.parametrize("status", [0, 401, 404, 409, 429, 500, 503, 504])
def test_troubles_are_no_verdict(status: int) -> None:
    assert read_refusal(status, "why", NOW) is None


def test_a_foreign_job() -> None:
    assert foreign_job("x-1", NOW).wait == Wait(Cause.NAME_TAKEN, object="x-1")


def test_a_webhook_that_cannot_be_asked_is_waited_for_and_named() -> None:
    message = 'Internal error occurred: failed calling webhook "mjob.kb.io": connection refused'
    refusal = read_refusal(500, message, NOW)
    assert refusal
    assert (refusal.wait.code, refusal.wait.detail) == ("WebhookAway", message)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            422,
            "jobs.batch \"x-1\" is forbidden: ValidatingAdmissionPolicy 'a' with binding 'a' denied request: set team",
        ),
        (400, 'admission webhook "validate.kyverno.svc-fail" denied the request: resource Job/shop/x-1 was blocked'),
        (403, 'admission webhook "validation.gatekeeper.sh" denied the request: [team] you must provide labels'),
    ],
)
def test_a_policy_s_refusal_is_not_a_fault_of_the_template(status: int, message: str) -> None:
    refusal = read_refusal(status, message, NOW)
    assert refusal
    assert (refusal.wait.code, refusal.wait.detail) == ("PodRejected", message)


def test_the_next_try_is_made_later_and_later() -> None:
    refusal = foreign_job("x-1", NOW)
    waits = [(replace(refusal, times=times).retry_at - NOW).total_seconds() for times in (1, 2, 3, 4, 50)]
    assert waits == [10, 20, 40, 60, 60]
