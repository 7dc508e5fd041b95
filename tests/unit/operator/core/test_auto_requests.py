"""Requests that suit what earlier jobs used apply within the PodTemplate's bounds only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.core.test_build_job import spokejob, template

from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs_operator.core.objects.template_annotations import read_caps
from spoke_jobs_operator.core.templates.build_job import build_job, with_requests

PREFIX = "jobs.spoke.dev"
GIVEN = {"requests": {"memory": "128Mi", "cpu": "1"}, "limits": {"memory": "512Mi"}}


def applied(requests: dict[str, str], **annotations: str) -> dict[str, Any]:
    names = {f"{PREFIX}/{name.replace('_', '-')}": text for name, text in annotations.items()}
    return with_requests(GIVEN, requests, read_caps(names))


@pytest.mark.parametrize(
    ("asked", "annotations", "memory", "limit"),
    [
        ("224Mi", {"max_resources": "memory=1Gi"}, "224Mi", "512Mi"),
        ("700Mi", {"max_resources": "memory=1Gi"}, "700Mi", "700Mi"),
        ("4Gi", {"max_resources": "memory=1Gi"}, "1024Mi", "1024Mi"),
        ("20Mi", {"max_resources": "memory=1Gi", "min_resources": "memory=64Mi"}, "64Mi", "512Mi"),
        ("224Mi", {}, "128Mi", "512Mi"),
        ("224Mi", {"max_resources": "cpu=4"}, "128Mi", "512Mi"),
        ("224Mi", {"max_resources": "memory=1Gi", "allowed_resources": "cpu"}, "128Mi", "512Mi"),
        ("much", {"max_resources": "memory=1Gi"}, "128Mi", "512Mi"),
    ],
    ids=["within", "above the limit", "above the maximum", "below the minimum", "no maximum", "of another resource",
         "not allowed", "unreadable"],
)  # fmt: skip
def test_memory(asked: str, annotations: dict[str, str], memory: str, limit: str) -> None:
    after = applied({"memory": asked}, **annotations)
    assert (after["requests"]["memory"], after["limits"]["memory"]) == (memory, limit)


def test_cpu_in_thousandths() -> None:
    assert applied({"cpu": "7"}, max_resources="cpu=2500m")["requests"]["cpu"] == "2500m"
    assert applied({"cpu": "310m"}, max_resources="cpu=2")["requests"] == {"memory": "128Mi", "cpu": "310m"}


def test_the_template_itself_is_left_as_it_is() -> None:
    applied({"memory": "700Mi"}, max_resources="memory=1Gi")
    assert GIVEN == {"requests": {"memory": "128Mi", "cpu": "1"}, "limits": {"memory": "512Mi"}}


@given(st.integers(1, 2**45), st.integers(0, 2**45), st.integers(1, 2**45))
def test_a_request_is_within_the_bounds_and_no_limit_is_below_it(asked: int, smallest: int, more: int) -> None:
    after = applied(
        {"memory": str(asked)}, min_resources=f"memory={smallest}", max_resources=f"memory={smallest + more}"
    )
    requested, limit = in_bytes(after["requests"]["memory"]), in_bytes(after["limits"]["memory"])
    assert requested is not None
    assert limit is not None
    assert smallest <= requested <= smallest + more
    assert limit >= requested


def test_a_pod_gets_them_unless_its_job_names_resources() -> None:
    container = {"name": "job", "image": "app:1", "resources": GIVEN}
    bounded = template({"containers": [container]}, annotations={f"{PREFIX}/max-resources": "memory=1Gi"})
    auto = {"autoRequests": {"memory": "224Mi"}}
    for spec, memory in (
        (auto, "224Mi"),
        (auto | {"resources": {"requests": {"memory": "99Mi"}}}, "99Mi"),
        ({}, "128Mi"),
    ):
        (job,) = build_job(spokejob(**spec), bounded, 1)["spec"]["template"]["spec"]["containers"]
        assert job["resources"]["requests"]["memory"] == memory
