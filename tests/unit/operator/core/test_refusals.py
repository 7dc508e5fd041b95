from __future__ import annotations

import pytest
from tests.unit.operator.core.objects import NOW

from spoke_jobs_operator.core.refusals import foreign_job, read_refusal


@pytest.mark.parametrize(
    ("status", "cause"), [(422, "TemplateInvalid"), (400, "TemplateInvalid"), (403, "PodRejected")]
)
def test_verdicts(status: int, cause: str) -> None:
    refusal = read_refusal(status, "why", NOW)
    assert refusal
    assert (refusal.cause, refusal.message, refusal.at) == (cause, "why", NOW)


@pytest.mark.parametrize("status", [0, 401, 404, 409, 429, 500, 503, 504])
def test_troubles_are_no_verdict(status: int) -> None:
    assert read_refusal(status, "why", NOW) is None


def test_a_foreign_job() -> None:
    assert foreign_job("x-1", NOW).cause == "NameTaken"
