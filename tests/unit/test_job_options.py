"""A job's options: one declaration of each, and rows that are read whatever release wrote them."""

from __future__ import annotations

import dataclasses
import inspect
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic.alias_generators import to_camel
from tests.unit.sync import making

from spoke_jobs.cli.commands.parsing import retry_policy
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.custom_resources.spokejob import Retry, SpokeJobSpec
from spoke_jobs.contract.retry import DEFAULT_BUDGET, RetryPolicy
from spoke_jobs.job_options import DISPATCH_NAMES, OPTION_NAMES, OPTIONS, JobData, JobOptions, Option, default_of
from spoke_jobs.registry import Registry
from spoke_jobs.runners.prepare import prepare_job

KEYWORDS = inspect.signature(Registry.job).parameters
OF_A_DISPATCH = {
    "organization_id",
    "campaign_id",
    "run_after",
    "unique_key",
    "unique_for",
    "on_conflict",
    "after",
    "after_failed",
    "batch_id",
    "limit_key",
    "traceparent",
}
"""What only a dispatch can know."""
FILLED_IN = {"on_failure_as"}
"""What nobody gives."""
SAMPLES: dict[str, Any] = {
    "queue_name": "q",
    "locks_queue": True,
    "organization_id": 4,
    "campaign_id": 5,
    "priority": 7,
    "run_after": datetime(2030, 1, 1, tzinfo=UTC),
    "unique_key": "k",
    "unique_for": 60.0,
    "on_conflict": "replace",
    "after": (3, UUID(int=7)),
    "after_failed": "run",
    "batch_id": 4,
    "limit_key": "carrier",
    "timeout_seconds": 5.5,
    "start_timeout_seconds": 60.0,
    "retention_seconds": 90.0,
    "retry": RetryPolicy(backoff_seconds=3, never=("ValueError",)),
    "lane": "worker",
    "worker_seconds": 5.0,
    "overflow_seconds": 30.0,
    "pod_template": "large",
    "resources": {"limits": {"memory": "1Gi"}},
    "labels": {"team": "payments"},
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "payload_version": 2,
    "upgrade": lambda payload, _version: payload,
    "on_failure": "told",
    "on_failure_as": {"queue": "hooks"},
}
"""A value of each option that it doesn't have by default."""


def test_options_come_back_as_they_were() -> None:
    options = JobOptions(retry=RetryPolicy({CauseClass.ERROR: 5}, 2.5, 60.0), pod_template="big")
    assert JobOptions.from_json(options.to_json()) == options


def test_what_can_be_no_wait_and_no_budget_takes_its_default() -> None:
    for wait in (-1, float("nan"), float("inf"), 10**400, "soon", True, None, [1]):
        assert JobOptions.from_json({"backoffSeconds": wait, "backoffMaxSeconds": wait}) == JobOptions(), wait
    for budget in (None, 3, ["error"], "error"):
        assert JobOptions.from_json({"budget": budget}).retry == RetryPolicy(), budget
    for count in (0, -1, 1.5, "many", True, None):
        retry = JobOptions.from_json({"budget": {"error": count, "oom": 7, "meteor": 2}}).retry
        assert retry.budget == {CauseClass.OOM: 7}, count
        assert retry.allowance(CauseClass.ERROR) == DEFAULT_BUDGET[CauseClass.ERROR]


OTHER_POLICY = RetryPolicy(
    budget={CauseClass.OOM: 7},
    backoff_seconds=3.0,
    backoff_max_seconds=60.0,
    jitter=0.5,
    never=("KeyError",),
    memory_factor=3.0,
    memory_max="8Gi",
)
"""Each field has another value than by default."""


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(RetryPolicy)])
def test_a_field_of_the_retry_policy_is_declared_once(name: str) -> None:
    """A row keeps it, and reads a value of another kind as the default; the operator and the command line take it."""
    value, default = getattr(OTHER_POLICY, name), getattr(RetryPolicy(), name)
    assert value != default, "give OTHER_POLICY another value"
    stored = json.loads(json.dumps(JobOptions(retry=OTHER_POLICY).to_json()))
    assert getattr(JobOptions.from_json(stored).retry, name) == value
    key = to_camel(name)
    assert key in RetryPolicy().to_json()
    for wrong in (object(), None, float("nan")):
        with pytest.raises(ValueError, match=f"^{name} is .*, where .* expected"):
            dataclasses.replace(RetryPolicy(), **{name: wrong}).check()
        assert getattr(RetryPolicy.from_json({key: wrong}), name) == default
    assert getattr(retry_policy(json.dumps({name: OTHER_POLICY.to_json()[key]})), name) == value
    if name in Retry.model_fields:
        spec = spokejob(making.job(options=JobOptions(retry=OTHER_POLICY)), "texting")["spec"]
        obeyed = getattr(SpokeJobSpec.model_validate(spec).retry.policy(), name)
        assert obeyed == ({**obeyed, **value} if name == "budget" else value)
    else:
        assert name == "never", "the process that runs the job obeys it"


def queued_registry() -> Registry:
    registry = Registry()
    registry.job("queued", queue_name="q")(lambda _ctx, _payload: None)
    registry.job("told")(lambda _ctx, _payload: None)
    return registry


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_an_option_is_declared_once(option: Option) -> None:
    """It fails with what is missing, and where."""
    name, value, registry = option.name, SAMPLES[option.name], queued_registry()
    assert name == "upgrade" or name in {*DISPATCH_NAMES, *OPTION_NAMES}, "give it a field of JobData or JobOptions"
    assert (name in OPTION_NAMES) == (bool(option.json_key) or name == "retry"), (
        "an option with a json_key has a field of JobOptions, and the other way round"
    )
    assert option.doc.endswith(".")
    if name not in OF_A_DISPATCH | FILLED_IN:
        keyword = option.keyword or name
        assert keyword in KEYWORDS, f"Registry.job lacks the keyword {keyword}"
        if name not in {"retry", "upgrade"}:
            assert KEYWORDS[keyword].default == default_of(option), "Registry.job has another default"
        registry.job("it", **{keyword: value})(lambda _ctx, _payload: None)
        definition = registry.jobs.get("it")
        kept = definition.options if name in OPTION_NAMES else definition
        assert getattr(kept, name) == value, "Registry.job doesn't pass it on"
    if name in DISPATCH_NAMES:
        others = {"unique_key": "k", "after": []}  # without them, some options are refused
        new = prepare_job(JobData("queued", **(others | {name: value})), registry, runner="legacy")
        assert getattr(new.options if name in OPTION_NAMES else new, name) == value, "prepare_job doesn't pass it on"
    if option.json_key:
        options = dataclasses.replace(JobOptions(), **{name: value})
        assert option.json_key in options.to_json()
        assert JobOptions.from_json(options.to_json()) == options
    assert not option.spec_field or option.spec_field in SpokeJobSpec.model_fields, "SpokeJobSpec lacks its field"
    assert option.spec_field or option.in_metadata or not option.placement
    if option.in_metadata:
        metadata = spokejob(making.job(options=JobOptions(**{name: value})), "ns")["metadata"]
        assert metadata[name].items() >= value.items()


def test_no_option_is_undeclared() -> None:
    names = {*DISPATCH_NAMES, *OPTION_NAMES, *KEYWORDS} - {"self", "name", "payload", "version", "schedule"}
    assert {item.name for item in dataclasses.fields(JobData)} - {"job_type", "payload"} == set(DISPATCH_NAMES)
    assert names <= set(OPTIONS), "declare it in OPTIONS"


def test_ids_of_batches_have_64_bits_and_other_numbers_32() -> None:
    assert OPTIONS["batch_id"].check(2**31) == OPTIONS["organization_id"].check(2**31 - 1) == ""
    assert OPTIONS["organization_id"].check(2**31).endswith("where a whole number from 0 to 2,147,483,647 is expected")
    assert OPTIONS["batch_id"].check(2**63).endswith("where the id of a batch is expected")
