from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.custom_resources.spokejob import Retry
from spoke_jobs.contract.quantities import in_bytes, in_mebibytes
from spoke_jobs_operator.core.templates.build_job import grown


def retry(**fields: Any) -> Retry:
    return Retry.model_validate(fields)


def memory(limit: str, times: int, **fields: Any) -> str:
    amount = grown({"limits": {"memory": limit}}, retry(**fields), times)["limits"]["memory"]
    assert isinstance(amount, str)
    return amount


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        ("128974848", 128974848),
        ("129M", 129_000_000),
        ("123Mi", 123 * 2**20),
        ("1.5Gi", 3 * 2**29),
        ("128974848000m", 128974848),
        ("1k", 1000),
        ("2Ti", 2**41),
    ],
)
def test_quantities(quantity: str, amount: int) -> None:
    assert in_bytes(quantity) == amount


@pytest.mark.parametrize("quantity", ["", "much", "1e9", "1GB", "-1Gi"])
def test_what_is_no_quantity_is_left_alone(quantity: str) -> None:
    assert in_bytes(quantity) is None
    assert memory(quantity, 1, memoryFactor=2) == quantity


def test_each_time_by_the_factor_up_to_the_bound() -> None:
    sizes = [memory("100Mi", times, memoryFactor=1.5, memoryMax="300Mi") for times in range(5)]
    assert sizes == ["100Mi", "150Mi", "225Mi", "300Mi", "300Mi"]


def test_four_times_the_first_where_no_bound_is_named() -> None:
    assert memory("100Mi", 9, memoryFactor=2) == "400Mi"


def test_one_that_is_above_the_bound_is_not_made_smaller() -> None:
    assert memory("2Gi", 3, memoryFactor=2, memoryMax="1Gi") == "2Gi"


def test_requests_grow_alike_and_nothing_else_changes() -> None:
    before = {
        "requests": {"memory": "64Mi", "cpu": "1"},
        "limits": {"memory": "128Mi", "ephemeral-storage": "1Gi"},
        "claims": [{"name": "gpu"}],
    }
    assert grown(before, retry(memoryFactor=2), 1) == {
        "requests": {"memory": "128Mi", "cpu": "1"},
        "limits": {"memory": "256Mi", "ephemeral-storage": "1Gi"},
        "claims": [{"name": "gpu"}],
    }
    assert before["limits"] == {"memory": "128Mi", "ephemeral-storage": "1Gi"}, "the template's own is left as it is"


def test_what_a_worker_measured_counts_like_a_first_attempt() -> None:
    before = {"requests": {"memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    measured = 300 * 2**20
    sizes = [grown(before, retry(memoryFactor=2), times, None, measured) for times in range(3)]
    assert [size["requests"]["memory"] for size in sizes] == ["300Mi", "600Mi", "1200Mi"]
    assert [size["limits"]["memory"] for size in sizes] == ["600Mi", "1200Mi", "1200Mi"]


@pytest.mark.parametrize(
    ("fields", "cap", "limit"),
    [
        ({"memoryFactor": 2, "memoryMax": "400Mi"}, None, "400Mi"),
        ({"memoryFactor": 2}, "500Mi", "500Mi"),
        ({"memoryFactor": 1}, None, "128Mi"),
    ],
    ids=["the job's maximum", "the template's maximum", "no growth"],
)
def test_what_was_measured_passes_no_maximum(fields: dict[str, Any], cap: str | None, limit: str) -> None:
    most = in_bytes(cap) if cap else None
    after = grown({"limits": {"memory": "128Mi"}}, retry(**fields), 0, most, 300 * 2**20)
    assert after["limits"]["memory"] == limit


def test_what_needed_less_than_the_template_gives_gets_the_templates_memory() -> None:
    before = {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    assert grown(before, retry(), 0, None, 300 * 2**20) == before


@given(st.integers(1, 2**45), st.integers(1, 2**45), st.integers(1, 2**45), st.integers(0, 5))
def test_a_request_never_passes_its_limit(request: int, more: int, measured: int, times: int) -> None:
    before = {"requests": {"memory": str(request)}, "limits": {"memory": str(request + more)}}
    after = grown(before, retry(), times, None, measured)
    small, large = (in_bytes(after[kind]["memory"]) for kind in ("requests", "limits"))
    assert small is not None
    assert large is not None
    assert small <= large


@given(
    st.integers(1, 2**45),
    st.sampled_from([1, 1.1, 1.5, 2, 3.7]),
    st.integers(0, 30),
    st.none() | st.sampled_from(["1Gi", "1", "5G"]),
)
def test_it_never_shrinks_and_never_passes_the_bound(first: int, factor: float, times: int, bound: str | None) -> None:
    after = in_bytes(memory(str(first), times, memoryFactor=factor, memoryMax=bound))
    most = in_bytes(bound) if bound else Decimal(first * 4)
    assert after is not None
    assert most is not None
    assert after <= max(most, first)
    assert after >= first


def test_mebibytes() -> None:
    assert (in_mebibytes(Decimal(2**20 * 7.9)), in_mebibytes(Decimal(5000))) == ("7Mi", "5000")
