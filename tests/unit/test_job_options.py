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
class TestOneDeclarationOfThePolicy:
    """Each field of the retry policy is declared once."""

    def test_a_row_keeps_it(self, name: str) -> None:
        value = getattr(OTHER_POLICY, name)
        assert value != getattr(RetryPolicy(), name), "give OTHER_POLICY another value"
        stored = json.loads(json.dumps(JobOptions(retry=OTHER_POLICY).to_json()))
        assert getattr(JobOptions.from_json(stored).retry, name) == value

    @pytest.mark.parametrize("wrong", [object(), None, float("nan")])
    def test_a_value_of_another_kind_is_refused_by_name_and_read_as_the_default(self, name: str, wrong: Any) -> None:
        with pytest.raises(ValueError, match=f"^{name} is .*, where .* expected"):
            dataclasses.replace(RetryPolicy(), **{name: wrong}).check()
        key = to_camel(name)
        assert key in RetryPolicy().to_json()
        assert getattr(RetryPolicy.from_json({key: wrong}), name) == getattr(RetryPolicy(), name)

    def test_the_operator_gets_it_if_it_obeys_it(self, name: str) -> None:
        if name not in Retry.model_fields:
            assert name == "never", "the process that runs the job obeys it"
            return
        spec = spokejob(making.job(options=JobOptions(retry=OTHER_POLICY)), "texting")["spec"]
        policy = SpokeJobSpec.model_validate(spec).retry.policy()
        if name == "budget":
            assert policy.budget[CauseClass.OOM] == OTHER_POLICY.budget[CauseClass.OOM]
        else:
            assert getattr(policy, name) == getattr(OTHER_POLICY, name)

    def test_the_command_line_takes_it(self, name: str) -> None:
        value = OTHER_POLICY.to_json()[to_camel(name)]
        assert getattr(retry_policy(json.dumps({name: value})), name) == getattr(OTHER_POLICY, name)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
class TestOneDeclaration:
    """Each fails with what is missing, and where."""

    def test_it_has_a_field(self, option: Option) -> None:
        if option.name != "upgrade":
            assert option.name in {*DISPATCH_NAMES, *OPTION_NAMES}, "give it a field of JobData or JobOptions"
        assert (option.name in OPTION_NAMES) == (bool(option.json_key) or option.name == "retry"), (
            "an option with a json_key has a field of JobOptions, and the other way round"
        )

    def test_it_can_be_declared_and_the_declaration_counts(self, option: Option) -> None:
        if option.name in OF_A_DISPATCH | FILLED_IN:
            return
        keyword = option.keyword or option.name
        assert keyword in KEYWORDS, f"Registry.job lacks the keyword {keyword}"
        if option.name not in {"retry", "upgrade"}:
            assert KEYWORDS[keyword].default == default_of(option), "Registry.job has another default"
        registry = Registry()
        registry.job("told")(lambda _ctx, _payload: None)
        value = SAMPLES[option.name]
        registry.job("it", **{keyword: value})(lambda _ctx, _payload: None)
        definition = registry.jobs.get("it")
        kept = definition.options if option.name in OPTION_NAMES else definition
        assert getattr(kept, option.name) == value, "Registry.job doesn't pass it on"

    def test_a_dispatch_s_own_value_counts(self, option: Option) -> None:
        if option.name in DISPATCH_NAMES:
            registry = Registry()
            value = SAMPLES[option.name]
            registry.job("queued", queue_name="q")(lambda _ctx, _payload: None)
            others = {"unique_key": "k", "after": []}  # without them, some options are refused
            new = prepare_job(JobData("queued", **(others | {option.name: value})), registry, runner="legacy")
            kept = new.options if option.name in OPTION_NAMES else new
            assert getattr(kept, option.name) == value, "prepare_job doesn't pass it on"

    def test_its_row_gives_it_back(self, option: Option) -> None:
        if option.json_key:
            options = dataclasses.replace(JobOptions(), **{option.name: SAMPLES[option.name]})
            assert option.json_key in options.to_json()
            assert JobOptions.from_json(options.to_json()) == options

    def test_the_cluster_knows_it(self, option: Option) -> None:
        if option.spec_field:
            assert option.spec_field in SpokeJobSpec.model_fields, "SpokeJobSpec lacks its field"
        assert option.spec_field or option.in_metadata or not option.placement
        if option.in_metadata:
            row = making.job(options=JobOptions(**{option.name: SAMPLES[option.name]}))
            metadata = spokejob(row, "ns")["metadata"]
            assert metadata[option.name].items() >= SAMPLES[option.name].items()

    def test_it_says_what_it_means(self, option: Option) -> None:
        assert option.doc.endswith(".")


def test_no_option_is_undeclared() -> None:
    names = {*DISPATCH_NAMES, *OPTION_NAMES, *KEYWORDS} - {"self", "name", "payload", "version", "schedule"}
    assert {item.name for item in dataclasses.fields(JobData)} - {"job_type", "payload"} == set(DISPATCH_NAMES)
    assert names <= set(OPTIONS), "declare it in OPTIONS"


def test_ids_of_batches_have_64_bits_and_other_numbers_32() -> None:
    assert OPTIONS["batch_id"].check(2**31) == OPTIONS["organization_id"].check(2**31 - 1) == ""
    assert OPTIONS["organization_id"].check(2**31).endswith("where a whole number from 0 to 2,147,483,647 is expected")
    assert OPTIONS["batch_id"].check(2**63).endswith("where the id of a batch is expected")
