"""A dispatch is checked before anything is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from spoke_jobs.errors import InvalidJobData, InvalidPayload, RegistrationError
from spoke_jobs.model import JobData
from spoke_jobs.payloads import decode_payload
from spoke_jobs.registry import Registry
from spoke_jobs.runners.prepare import prepare_job
from spoke_jobs.runners.ticker import prepare_occurrence
from spoke_jobs.schedules.timing import Every


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.job("export")(lambda _ctx, _payload: None)
    return made


def test_text_is_stored_as_it_is(registry: Registry) -> None:
    registry.job("import_script", payload=str)(lambda _ctx, _payload: None)
    new = prepare_job(JobData("import_script", "H4sIAAAA=="), registry, runner="legacy")
    assert new.payload == "H4sIAAAA=="
    assert decode_payload("import_script", str, new.payload) == "H4sIAAAA=="
    for given in (None, {"a": 1}, b"bytes", "half \ud800", "a\x00b"):
        with pytest.raises(InvalidPayload, match="'import_script' is a str of UTF-8 without NUL"):
            prepare_job(JobData("import_script", given), registry, runner="legacy")


def test_a_task_s_payload_is_json(registry: Registry) -> None:
    with pytest.raises(RegistrationError, match="isn't a pydantic model class"):
        registry.task("import_script", payload=str)  # type: ignore[arg-type]


def test_a_job_without_a_payload_is_stored_as_the_reference_stores_it(registry: Registry) -> None:
    registry.job("bare")(lambda _ctx: None)
    assert prepare_job(JobData("bare"), registry, runner="legacy").payload == "{}"
    assert prepare_job(JobData("export"), registry, runner="legacy").payload == "null", "its function gets None"


@pytest.mark.parametrize("queue", ["half \ud800", "a\x00b", "x" * 201, 5])
def test_a_queue_that_no_database_takes_is_refused(registry: Registry, queue: Any) -> None:
    with pytest.raises(
        InvalidJobData, match="the dispatch of 'export': queue_name is .* a string of at most 200 characters"
    ):
        prepare_job(JobData("export", queue_name=queue), registry, runner="legacy")


@pytest.mark.parametrize("queue", ["", "12:edit_campaign", "übung \U0001f600"])
def test_any_other_queue_is_taken(registry: Registry, queue: str) -> None:
    assert prepare_job(JobData("export", queue_name=queue), registry, runner="legacy").queue_name == queue


@pytest.mark.parametrize(
    "when",
    [
        datetime(2030, 1, 1),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        "2030-01-01T00:00:00Z",
        1_900_000_000,
    ],
)
def test_a_time_that_is_none_is_refused(registry: Registry, when: Any) -> None:
    with pytest.raises(InvalidJobData, match="the dispatch of 'export': run_after is"):
        prepare_job(JobData("export", run_after=when), registry, runner="legacy")


def test_a_time_of_any_zone_is_kept_in_utc(registry: Registry) -> None:
    when = datetime(2030, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    kept = prepare_job(JobData("export", run_after=when), registry, runner="legacy").run_after
    assert kept is not None
    assert kept.isoformat() == "2029-12-31T20:00:00+00:00"
    assert kept.tzinfo is UTC


@pytest.mark.parametrize("key", ["", "x" * 201, "a\x00b", "half \ud800", 5])
def test_a_key_that_no_database_takes_is_refused(registry: Registry, key: Any) -> None:
    with pytest.raises(InvalidJobData, match="unique_key is .* a string of 1 to 200 characters"):
        prepare_job(JobData("export", unique_key=key), registry, runner="legacy")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout_seconds", -1),
        ("timeout_seconds", 0),
        ("timeout_seconds", float("nan")),
        ("timeout_seconds", float("inf")),
        ("start_timeout_seconds", -5),
        ("start_timeout_seconds", True),
        ("retention_seconds", -1),
        ("retention_seconds", "7"),
        ("priority", 1001),
        ("priority", 1.0),
        ("campaign_id", -1),
        ("organization_id", 2**31),
    ],
)
def test_an_option_that_says_nothing_is_refused_by_name(registry: Registry, option: str, value: Any) -> None:
    with pytest.raises(InvalidJobData, match=rf"the dispatch of 'export': {option} is "):
        prepare_job(JobData("export", **{option: value}), registry, runner="legacy")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"unique_for": 5.0}, "unique_for is given, and no unique_key"),
        ({"on_conflict": "replace"}, "on_conflict is given, and no unique_key"),
        ({"unique_key": "k", "unique_for": 0}, "unique_for is 0"),
        ({"unique_key": "k", "on_conflict": "drop"}, "'keep' or 'replace'"),
        ({"unique_key": "k", "unique_for": 90.0, "retention_seconds": 60.0}, "raise retention_seconds"),
        ({"after_failed": "run"}, "after_failed is given, and no after"),
    ],
)
def test_options_that_can_not_be_honored_together(registry: Registry, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidJobData, match=f"the dispatch of 'export': .*{problem}"):
        prepare_job(JobData("export", **given), registry, runner="legacy")


def test_a_job_may_run_after_none(registry: Registry) -> None:
    assert prepare_job(JobData("export", after=[], after_failed="run"), registry, runner="legacy").after == ()


# Lanes


@pytest.mark.parametrize(
    ("runner", "declared", "given", "row"),
    [
        ("kubernetes", "pod", None, "kubernetes"),
        ("kubernetes", "pod", "worker", "kubernetes-worker"),
        ("kubernetes", "worker", None, "kubernetes-worker"),
        ("kubernetes", "worker", "pod", "kubernetes"),
        ("kubernetes", "worker", "standby", "kubernetes"),
        ("kubernetes", "standby", None, "kubernetes"),
        ("legacy", "standby", None, "legacy"),
        ("legacy", "worker", None, "legacy"),
        ("legacy", "pod", "worker", "legacy"),
        ("memory", "worker", None, "memory"),
    ],
)
def test_the_lane_decides_who_runs_a_job_of_kubernetes(
    registry: Registry, runner: str, declared: str, given: str | None, row: str
) -> None:
    registry.job("thumbnail", lane=declared)(lambda _ctx, _payload: None)
    assert prepare_job(JobData("thumbnail", lane=given), registry, runner=runner).runner == row


@pytest.mark.parametrize("lane", ["spare", "", "Pod", 1, ["worker"]])
def test_an_unknown_lane_is_refused_by_name(registry: Registry, lane: Any) -> None:
    with pytest.raises(InvalidJobData, match=r"lane is .*, where 'pod' or 'standby' or 'worker' is expected"):
        prepare_job(JobData("export", lane=lane), registry, runner="kubernetes")
    with pytest.raises(RegistrationError, match=r"lane is .*, where 'pod' or 'standby' or 'worker' is expected"):
        registry.job("thumbnail", lane=lane)(lambda _ctx, _payload: None)


def test_the_jobs_of_a_schedule_run_in_the_lane_that_the_schedule_or_the_job_names(registry: Registry) -> None:
    registry.job("thumbnail", lane="worker")(lambda _ctx, _payload: None)
    registry.schedule("as declared", "thumbnail", Every(minutes=5))
    registry.schedule("in pods", "thumbnail", Every(minutes=5), lane="pod")
    due = datetime(2030, 1, 1, tzinfo=UTC)
    rows = {item.name: prepare_occurrence(item, due, registry, "kubernetes").runner for item in registry.schedules()}
    assert rows == {"as declared": "kubernetes-worker", "in pods": "kubernetes"}
