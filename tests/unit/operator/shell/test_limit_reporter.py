"""The status of SpokeLimits is written when it changes, and not too often."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, cast

import pytest
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.custom_resources.spokelimit import SpokeLimitStatus
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs_operator.core.admission.admit import Candidate
from spoke_jobs_operator.core.limits.limits import Limits, compiled
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.actions import Standing
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.api.operator_client import Client
from spoke_jobs_operator.shell.reporting.limit_reporter import COUNTS_SECONDS, MOST_AT_ONCE, LimitReporter
from spoke_jobs_operator.shell.store.store import Store


class Scene:
    def __init__(self) -> None:
        self.now = NOW
        self.store = Store()
        self.pacer = Pacer(Limits(running=1), lambda _: None, clock=lambda: self.now)
        self.bodies: dict[Key, dict[str, Any]] = {}
        self.written: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.version = 0
        self.reporter = LimitReporter(cast(Client, self), self.store, self.pacer, lambda: self.now)

    def put(self, name: str, **spec: Any) -> None:
        self.version += 1
        body = {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "uid": f"uid-{name}",
                "resourceVersion": str(self.version),
                "generation": self.version,
            },
            "spec": {"scope": "all"} | spec,
        }
        self.bodies[Key("ns", name)] = body
        self.store.spokelimit_seen(body)

    async def apply_limit_status(self, key: Key, uid: str, status: SpokeLimitStatus) -> dict[str, Any]:
        """The client's."""
        if self.error:
            raise self.error
        self.version += 1
        body = self.bodies[key]
        status_ = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.written.append(status_)
        self.bodies[key] = body | {
            "metadata": body["metadata"] | {"resourceVersion": str(self.version)},
            "status": status_,
        }
        return self.bodies[key]

    async def after(self, seconds: float) -> int:
        """How many writes a look after so many seconds causes."""
        self.now += timedelta(seconds=seconds)
        before = len(self.written)
        await self.reporter.report()
        return len(self.written) - before


def candidate(name: str) -> Candidate:
    return Candidate(Key("ns", name), 0, NOW, Subject())


async def test_changes_are_written_and_counts_only_every_few_seconds() -> None:
    s = Scene()
    assert await s.after(1) == 0
    s.put("a", maxRunning=3)
    assert await s.after(1) == 1
    assert (s.written[0]["running"], s.written[0]["waiting"]) == (0, 0)
    assert await s.after(60) == 0, "nothing has changed"
    for name in ("x", "y", "z"):
        s.pacer.settle(candidate(name), Standing.WAITS)
    assert await s.after(1) == 1
    assert (s.written[1]["running"], s.written[1]["waiting"]) == (1, 2)
    s.pacer.settle(candidate("x"), Standing.FINISHED)
    assert await s.after(1) == 0
    assert await s.after(COUNTS_SECONDS) == 1
    s.put("a", maxRunning=3, paused={"reason": "r"})
    assert await s.after(0.1) == 1, "more than counts has changed"


async def test_one_that_can_t_be_written_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    s = Scene()
    s.put("a")
    s.error = api_error(403, "Forbidden", "no")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await s.after(COUNTS_SECONDS)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    s.error = api_error(409, "Conflict", "replaced")
    await s.after(COUNTS_SECONDS)
    s.error = None
    assert await s.after(COUNTS_SECONDS) == 1


async def test_hundreds_are_written_bit_by_bit() -> None:
    s = Scene()
    for n in range(2 * MOST_AT_ONCE + 1):
        s.put(f"a-{n}")
    assert [await s.after(1) for _ in range(4)] == [MOST_AT_ONCE, MOST_AT_ONCE, 1, 0]


async def test_the_bucket_of_a_rate_is_written_when_attempts_start_and_not_when_it_fills() -> None:
    s = Scene()
    s.put("a", rate="1/h", burst=3)
    s.pacer.begin_rates(s.store.spokelimits)
    s.pacer.set_limits(compiled(Limits(), s.store.spokelimits, [], s.now))
    await s.after(0)
    assert s.written[0]["fullAt"] == "2026-01-01T15:00:00Z", "a new leader begins without tokens"
    assert await s.after(4 * 3600) == 0
    s.pacer.settle(candidate("x"), Standing.WAITS)
    await s.after(0)
    assert s.written[-1]["fullAt"] == "2026-01-01T17:00:00Z"
    s.pacer.settle(candidate("x"), Standing.FINISHED)
    await s.after(3600)
    s.pacer.tick(s.now)
    assert await s.after(3600) == 0
