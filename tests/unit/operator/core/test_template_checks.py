from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.test_build_job import spokejob, template

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.custom_resources.spokejob import Resources
from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.objects import template_annotations
from spoke_jobs_operator.core.objects.template_annotations import ResourceCaps, read_caps, violation
from spoke_jobs_operator.core.templates.build_job import build_job
from spoke_jobs_operator.core.templates.template_checks import check_template

PREFIX = "jobs.spoke.dev"
AMOUNTS = st.builds("{}{}".format, st.integers(0, 10_000), st.sampled_from(["", "m", "k", "Ki", "Mi", "Gi"]))


def verdict(annotations: dict[str, str], **spec: Any) -> tuple[str, str]:
    """The cause and the sentence; empty if the job may use the template."""
    found = check_template(spokejob(**spec), template(annotations=annotations))
    return (str(found.code), wait_text.sentence(found)) if isinstance(found, Wait) else ("", "")


def test_a_template_may_be_for_some_types_only() -> None:
    assert verdict({f"{PREFIX}/allowed-types": "import*"}) == ("", "")
    assert verdict({f"{PREFIX}/allowed-types": "report"}) == (
        "TypeNotAllowed",
        "PodTemplate 'default' is not for jobs of this type",
    )


@pytest.mark.parametrize(
    ("annotation", "value", "resources", "wrong"),
    [
        ("max-resources", "cpu=2,memory=4Gi", {"limits": {"memory": "4Gi"}}, ""),
        ("max-resources", "cpu=2, memory=4Gi", {"limits": {"memory": "4097Mi"}}, "limits.memory 4097Mi is more than"),
        ("max-resources", "cpu=2", {"requests": {"cpu": "2001m"}}, "requests.cpu 2001m is more than the maximum"),
        ("max-resources", "cpu=2", {"requests": {"memory": "1Ti"}}, ""),
        ("min-resources", "memory=64Mi", {"requests": {"memory": "0"}}, "requests.memory 0 is less than the minimum"),
        ("min-resources", "memory=64Mi", {"requests": {"memory": "64Mi"}}, ""),
        ("min-resources", "memory=64Mi", None, ""),
        ("allowed-resources", "cpu, memory", {"limits": {"cpu": "64"}}, ""),
        (
            "allowed-resources",
            "cpu,memory",
            {"limits": {"nvidia.com/gpu": "1"}},
            "limits.nvidia.com/gpu is not allowed (allowed: cpu, memory)",
        ),
        ("allowed-resources", "", {"requests": {"cpu": "1"}}, "requests.cpu is not allowed (allowed: none)"),
    ],
)
def test_amounts_of_a_job_are_capped(annotation: str, value: str, resources: Any, wrong: str) -> None:
    code, said = verdict({f"{PREFIX}/{annotation}": value}, resources=resources)
    assert code == ("ResourcesNotAllowed" if wrong else "")
    assert said.startswith(f"PodTemplate 'default': {wrong}" if wrong else "")


@pytest.mark.parametrize("value", ["memory", "memory=", "=4Gi", "memory=much", "cpu=1,cpu=2"])
def test_caps_that_cannot_be_read_let_no_job_through(value: str) -> None:
    """One without any amounts of its own neither, so that the mistake is seen."""
    code, said = verdict({f"{PREFIX}/max-resources": value})
    assert code == "TemplateInvalid"
    assert "annotation jobs.spoke.dev/max-resources" in said


@pytest.mark.parametrize(
    "annotation", ["allowed-types", "allowed-resources", "min-resources", "max-resources", "copied-labels"]
)
def test_an_annotation_that_is_too_long_lets_no_job_through(annotation: str) -> None:
    """Reading it would take the operator's time from all namespaces."""
    entry = "memory=4Gi" if annotation in ("min-resources", "max-resources") else "import*"
    assert verdict({f"{PREFIX}/{annotation}": entry + " " * (4096 - len(entry))}) == ("", "")
    code, said = verdict({f"{PREFIX}/{annotation}": entry + " " * (4097 - len(entry))})
    assert code == "TemplateInvalid"
    assert said.endswith(f"its annotation jobs.spoke.dev/{annotation} has 4097 characters; the most is 4096")


def test_decisions_do_not_read_the_annotations_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr(template_annotations, "read_caps", lambda given: read.append(given) or ResourceCaps())
    found = template(annotations={f"{PREFIX}/max-resources": "memory=600Mi"})
    for _ in range(3):
        assert check_template(spokejob(), found) is found
        build_job(spokejob(), found, 1)
    assert len(read) == 1


def test_a_retry_with_more_memory_stays_below_the_cap() -> None:
    given = spokejob(resources={"limits": {"memory": "512Mi"}})
    given = given.model_copy(update={"status": given.status.model_copy(update={"charged": {"oom": 3}})})
    body = build_job(given, template(annotations={f"{PREFIX}/max-resources": "memory=600Mi"}), 4)
    (container,) = body["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "600Mi"


@settings(deadline=None)
@given(asked=AMOUNTS, smallest=AMOUNTS, largest=AMOUNTS, kind=st.sampled_from(["requests", "limits"]))
def test_no_amount_beyond_the_caps_passes(asked: str, smallest: str, largest: str, kind: str) -> None:
    caps = read_caps({f"{PREFIX}/min-resources": f"cpu={smallest}", f"{PREFIX}/max-resources": f"cpu={largest}"})
    low, amount, high = (in_bytes(text) for text in (smallest, asked, largest))
    assert low is not None
    assert amount is not None
    assert high is not None
    passes = not violation(caps, Resources.model_validate({kind: {"cpu": asked}}))
    assert passes is (low <= amount <= high)
