from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import cast

import pytest
from tests.unit.operator.world import NAMESPACE, START, World

from spoke_jobs.contract.names import STATE_CONFIGMAP
from spoke_jobs.contract.operator_state import PublishedPool
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.actions import Standing
from spoke_jobs_operator.core.reconciling.observed import candidate_of
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.api.operator_client import Client, Kind, NotLeading
from spoke_jobs_operator.shell.reporting.publishing import SETTLES_SECONDS, SIGN_OF_LIFE_SECONDS, Publisher
from spoke_jobs_operator.shell.store.store import Store


class Scene:
    def __init__(self) -> None:
        self.world, self.store = World(), Store()
        self.store.spokejob_seen(self.world.spokejob)
        self.now = START
        self.error: Exception | None = None
        self.written: list[tuple[Key, Mapping[str, str]]] = []
        self.tries = 0
        self.pacer = Pacer(Limits(running=1), lambda _: None)
        self.pools: list[PublishedPool] = []
        self.publisher = Publisher(
            cast(Client, self),
            self.store,
            self.pacer,
            "me",
            lambda: self.now,
            standby_pods=lambda namespace: self.pools if namespace == NAMESPACE else [],
        )

    async def publish(self, key: Key, data: Mapping[str, str]) -> None:
        """The client's."""
        self.tries += 1
        if self.error:
            raise self.error
        self.written.append((key, data))

    async def after(self, seconds: float) -> int:
        """How many writes a look after so many seconds causes."""
        self.now += timedelta(seconds=seconds)
        before = len(self.written)
        await self.publisher.publish()
        return len(self.written) - before


async def test_what_has_changed_is_written_and_what_has_not_only_as_a_sign_of_life() -> None:
    s = Scene()
    assert await s.after(0) == 1
    key, data = s.written[0]
    assert key == Key(NAMESPACE, STATE_CONFIGMAP)
    assert (data["operator"], data["time"]) == ("me", START.isoformat())
    assert json.loads(data["state"])["reasons"] == {"New": 1}
    assert await s.after(10) == 0
    assert await s.after(SIGN_OF_LIFE_SECONDS - 10) == 1
    (spokejob,) = s.store.unfinished()
    s.pacer.settle(candidate_of(spokejob), Standing.HOLDS)
    assert await s.after(10) == 1
    assert json.loads(s.written[-1][1]["state"])["running"] == {"all": 1, "namespace": 1}


async def test_a_namespace_that_has_emptied_is_told_so() -> None:
    s = Scene()
    await s.after(0)
    s.world.change(Kind.SPOKEJOB, s.world.spokejob["metadata"]["name"], {"outcome": "Succeeded"}, under="status")
    s.store.spokejob_seen(s.world.spokejob)
    assert await s.after(10) == 1
    assert json.loads(s.written[-1][1]["state"])["waiting"] == 0


async def test_after_the_last_job_the_counts_of_standby_pods_are_published_until_they_settle() -> None:
    s = Scene()
    s.pools = [PublishedPool(template="t", assigned=1)]
    await s.after(0)
    s.world.change(Kind.SPOKEJOB, s.world.spokejob["metadata"]["name"], {"outcome": "Succeeded"}, under="status")
    s.store.spokejob_seen(s.world.spokejob)
    s.pools = [PublishedPool(template="t", starting=1)]
    assert await s.after(10) == 1
    assert await s.after(10) == 0
    s.pools = [PublishedPool(template="t", free=1)]
    assert await s.after(10) == 1
    assert json.loads(s.written[-1][1]["state"])["standbyPods"] == [
        {"template": "t", "free": 1, "starting": 0, "assigned": 0}
    ]
    s.pools = []
    assert await s.after(1000) == 0, "it is not looked at any more"


async def test_standby_pods_that_never_start_are_not_published_for_ever() -> None:
    s = Scene()
    s.pools = [PublishedPool(template="t", starting=1)]
    await s.after(0)
    s.world.change(Kind.SPOKEJOB, s.world.spokejob["metadata"]["name"], {"outcome": "Succeeded"}, under="status")
    s.store.spokejob_seen(s.world.spokejob)
    writes = [await s.after(10) for _ in range(100)]
    assert sum(writes) <= 1 + SETTLES_SECONDS / SIGN_OF_LIFE_SECONDS
    assert not any(writes[int(SETTLES_SECONDS / 10) + 1 :])


async def test_it_says_since_when_it_leads() -> None:
    s = Scene()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(s.publisher.run(every_seconds=60), 0.1)
    assert s.written[0][1]["since"] == START.isoformat()


@pytest.mark.parametrize("error", [api_error(403, "Forbidden", "no"), NotLeading("PATCH")])
async def test_what_fails_is_tried_again_and_said_once(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    s = Scene()
    s.error = error
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await s.after(10)
        s.error = None
        assert await s.after(10) == 1
    assert (s.tries, len(caplog.messages)) == (4, 1)
    assert caplog.records[0].__dict__["namespace"] == NAMESPACE


async def test_a_namespace_that_is_gone_is_forgotten() -> None:
    s = Scene()
    await s.after(0)
    (spokejob,) = s.store.unfinished()
    s.store.spokejobs.remove(Key(NAMESPACE, spokejob.name), spokejob.uid)
    s.error = api_error(404, "NotFound", "no namespace")
    await s.after(100)
    await s.after(100)
    assert s.tries == 2
