"""`show` and its JSON name each option that a row keeps: a new option appears in both without an edit there."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.explain.situations import NOW, a_job
from tests.unit.test_job_options import OTHER_POLICY, SAMPLES

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.explain.job_details import details
from spoke_jobs.explain.json_output import Shown
from spoke_jobs.explain.option_facts import SHOWN
from spoke_jobs.job_options import OPTION_NAMES, OPTIONS, JobOptions, Option
from spoke_jobs.model import JobRequest

NOT_KEPT = {"unique_for", "on_conflict", "after", "after_failed", "upgrade"}
"""What the dispatch uses up. `show` names what a job runs after as a tree."""


def with_option(name: str, value: object) -> JobRequest:
    changes = {"options": JobOptions(**{name: value})} if name in OPTION_NAMES else {name: value}  # type: ignore[arg-type]
    return a_job(**({"runner": "kubernetes", "queue_name": "another"} | changes))


def texts(job: JobRequest) -> tuple[tuple[str, str], ...]:
    shown = details(job, [], NOW)
    return shown.facts + shown.options


def documents(job: JobRequest) -> dict[str, object]:
    shown = Shown.of(job, [], None, with_payload=False)
    return shown.job.model_dump() | shown.options.model_dump()


@pytest.mark.parametrize("option", SHOWN, ids=lambda option: option.name)
def test_each_option_is_in_both(option: Option) -> None:
    plain, given = with_option("labels", None), with_option(option.name, SAMPLES[option.name])
    assert texts(given) != texts(plain), "`show` does not name it"
    assert documents(given)[option.name] != documents(plain)[option.name], "the JSON does not name it"


@pytest.mark.parametrize("field", [item.name for item in dataclasses.fields(RetryPolicy) if item.name != "budget"])
def test_each_field_of_the_retry_policy_is_in_both(field: str) -> None:
    plain = with_option("retry", RetryPolicy())
    given = with_option("retry", dataclasses.replace(RetryPolicy(), **{field: getattr(OTHER_POLICY, field)}))
    assert texts(given) != texts(plain)
    assert documents(given)["retry"] != documents(plain)["retry"]


def test_only_what_no_row_keeps_is_left_out() -> None:
    left_out = {option.name for option in OPTIONS.values()} - {option.name for option in SHOWN}
    assert left_out == NOT_KEPT | {"on_failure_as"}


def test_a_trace_is_shown() -> None:
    trace = SAMPLES["traceparent"]
    assert ("traceparent", trace) in texts(with_option("traceparent", trace))


def test_what_is_about_pods_is_left_out_elsewhere() -> None:
    job = a_job(options=JobOptions(pod_template="large", labels={"team": "payments"}))
    assert not {"template", "labels"} & dict(texts(job)).keys()
