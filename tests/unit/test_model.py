"""A row's options are read whatever release wrote them."""

from __future__ import annotations

from typing import Any

import pytest

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import DEFAULT_BUDGET, RetryPolicy
from spoke_jobs.model import JobOptions


def test_options_come_back_as_they_were() -> None:
    options = JobOptions(retry=RetryPolicy({CauseClass.ERROR: 5}, 2.5, 60.0), pod_template="big")
    assert JobOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), 10**400, "soon", True, None, [1]])
def test_a_wait_that_is_none_takes_its_default(wait: Any) -> None:
    options = JobOptions.from_json({"backoffSeconds": wait, "backoffMaxSeconds": wait})
    assert options == JobOptions()


@pytest.mark.parametrize("count", [0, -1, 1.5, "many", True, None])
def test_a_count_that_is_none_is_left_out_of_the_budget(count: Any) -> None:
    retry = JobOptions.from_json({"budget": {"error": count, "oom": 7, "meteor": 2}}).retry
    assert retry.budget == {CauseClass.OOM: 7}
    assert retry.allowance(CauseClass.ERROR) == DEFAULT_BUDGET[CauseClass.ERROR]


@pytest.mark.parametrize("budget", [None, 3, ["error"], "error"])
def test_a_budget_that_is_none_takes_its_default(budget: Any) -> None:
    assert JobOptions.from_json({"budget": budget}).retry == RetryPolicy()
