"""The sender of Events: best effort, within its rate, repetitions as one series."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from spoke_jobs.shared.api_errors import api_error
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reporting.job_events import EventType, JobEvent
from spoke_jobs_operator.shell.api.operator_client import Client, NotLeading
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.reporting.event_recorder import About, EventRecorder

NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
ABOUT = About(Key("shop", "import-7-0a1b2c3d"), "uid-1")
STARTED = JobEvent(EventType.NORMAL, "AttemptStarted", "Attempt", "Attempt 1 has started: Job import-7-0a1b2c3d-1")
FAILED = JobEvent(EventType.WARNING, "Failed", "Finish", "The job has failed")


class FakeApi:
    """An API server that keeps Events, or answers with the errors that it was told to."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.errors: list[Exception] = []
        self.calls = 0

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        self._begin()
        assert body["metadata"]["namespace"] == namespace == body["regarding"]["namespace"]
        self.kept[body["metadata"]["name"]] = dict(body)

    async def count_event(self, key: Key, series: Mapping[str, Any]) -> None:
        self._begin()
        if key.name not in self.kept:
            raise api_error(404, "NotFound", key.name)
        self.kept[key.name]["series"] = dict(series)

    def _begin(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


class Scene:
    def __init__(self, per_second: float = 1.0, at_once: float = 3.0) -> None:
        self.clock = 0.0
        self.api = FakeApi()
        self.metrics = OperatorMetrics()
        self.recorder = EventRecorder(
            cast(Client, self.api),
            self.metrics,
            "operator-1",
            per_second=per_second,
            at_once=at_once,
            now=lambda: NOW,
            clock=lambda: self.clock,
        )

    async def send(self, *events: JobEvent, about: About = ABOUT) -> None:
        self.recorder.record(about, events)
        await self.recorder.flushed()

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"spoke_operator_kubernetes_events{name}_total", labels)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    task = asyncio.create_task(made.recorder.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_an_event_has_all_that_kubectl_describe_looks_for(scene: Scene) -> None:
    await scene.send(STARTED)
    (body,) = scene.api.kept.values()
    name = body["metadata"].pop("name")
    assert name.startswith("import-7-0a1b2c3d.")
    assert body == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": "shop"},
        "eventTime": "2026-01-01T12:30:00.000000Z",
        "reportingController": "jobs.spoke.dev/operator",
        "reportingInstance": "operator-1",
        "type": "Normal",
        "reason": "AttemptStarted",
        "action": "Attempt",
        "note": STARTED.note,
        "regarding": {
            "apiVersion": "jobs.spoke.dev/v1",
            "kind": "SpokeJob",
            "namespace": "shop",
            "name": "import-7-0a1b2c3d",
            "uid": "uid-1",
        },
    }
    assert scene.count("", type="Normal") == 1


async def test_the_same_again_is_one_object_with_a_count(scene: Scene) -> None:
    await scene.send(STARTED)
    await scene.send(STARTED)
    (body,) = scene.api.kept.values()
    assert body["series"] == {"count": 2, "lastObservedTime": "2026-01-01T12:30:00.000000Z"}
    await scene.send(replace(STARTED, note="Attempt 2 has started"))
    await scene.send(STARTED, about=About(ABOUT.key, "uid-2"))
    assert len(scene.api.kept) == 2, "another SpokeJob of the same name is another object; the rest is beyond the rate"


async def test_repetitions_beyond_the_rate_are_counted_by_the_next_one(scene: Scene) -> None:
    for _ in range(10):
        await scene.send(STARTED)
    scene.clock += 60
    await scene.send(STARTED)
    (body,) = scene.api.kept.values()
    assert body["series"]["count"] == 11
    assert scene.api.calls == 4


async def test_a_series_whose_object_has_expired_begins_anew(scene: Scene) -> None:
    await scene.send(STARTED)
    scene.api.kept.clear()
    await scene.send(STARTED)
    (body,) = scene.api.kept.values()
    assert "series" not in body


async def test_events_beyond_the_rate_are_dropped_and_counted_and_warnings_are_not_displaced(scene: Scene) -> None:
    await scene.send(*(replace(STARTED, note=f"Attempt {number}") for number in range(10)))
    assert (scene.api.calls, scene.count("_dropped", reason="rate")) == (3, 7)
    await scene.send(FAILED)
    assert [body["reason"] for body in scene.api.kept.values()][-1] == "Failed"
    scene.clock += 2
    await scene.send(*(replace(STARTED, note=f"Attempt {number}") for number in range(10, 20)))
    assert scene.api.calls == 6


async def test_what_cannot_be_sent_costs_itself_alone(scene: Scene) -> None:
    scene.api.errors = [api_error(403, "Forbidden", "no"), NotLeading("POST"), ValueError("?")]
    for number in range(3):
        await scene.send(replace(STARTED, note=f"Attempt {number}"))
    assert scene.count("_dropped", reason="failure") == 3
    await scene.send(FAILED)
    assert len(scene.api.kept) == 1


async def test_an_overloaded_api_server_is_left_alone_for_as_long_as_it_says(scene: Scene) -> None:
    error = api_error(429, "TooManyRequests", "slow down")
    error.retry_after_seconds = 20.0
    scene.api.errors = [error]
    await scene.send(STARTED)
    scene.clock += 19
    await scene.send(FAILED)
    assert scene.api.calls == 1
    scene.clock += 2
    await scene.send(FAILED)
    assert len(scene.api.kept) == 1


async def test_an_api_server_that_hangs_fills_a_bounded_queue_and_delays_nobody() -> None:
    scene = Scene(per_second=1e6, at_once=1e6)
    for number in range(1500):
        scene.recorder.record(ABOUT, (replace(STARTED, note=f"Attempt {number}"),))
    assert scene.count("_dropped", reason="queue") == 500


async def test_a_rate_of_0_sends_none() -> None:
    scene = Scene(per_second=0)
    await scene.send(STARTED)
    assert scene.api.calls == 0


async def test_a_busy_namespace_silences_no_other(scene: Scene) -> None:
    for number in range(50):
        scene.recorder.record(ABOUT, (replace(FAILED, note=f"{number}"),))
    other = About(Key("quiet", "job"), "uid-9")
    await scene.send(FAILED, about=other)
    sent = [body["metadata"]["namespace"] for body in scene.api.kept.values()]
    assert (sent.count("shop"), sent.count("quiet")) == (3, 1)
    assert scene.count("_dropped", reason="rate") == 47


async def test_all_namespaces_together_have_a_bound_too(scene: Scene) -> None:
    for number in range(300):
        scene.recorder.record(About(Key(f"ns-{number}", "job"), f"uid-{number}"), (FAILED,))
    await scene.recorder.flushed()
    sent = len(scene.api.kept)
    assert sent == pytest.approx(30, abs=1), "ten times as many as for one namespace"
    scene.clock += 100
    await scene.send(FAILED, about=About(Key("ns-299", "job"), "uid-x"))
    assert len(scene.api.kept) == sent + 1, "an Event that was dropped for all took nothing from its namespace"


async def test_repetitions_that_are_queued_before_the_first_is_sent_count(scene: Scene) -> None:
    scene.recorder.record(ABOUT, (STARTED, STARTED))
    await scene.recorder.flushed()
    (body,) = scene.api.kept.values()
    assert body["series"]["count"] == 2, "the API server refuses a series of 1"
