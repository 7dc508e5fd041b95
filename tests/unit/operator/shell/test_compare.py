from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import cast

import pytest
from tests.unit.operator.world import NAME, NAMESPACE, World
from tests.waiting import eventually_async, patient

from spoke_jobs.shared.api_errors import api_error
from spoke_jobs.shared.object_fields import Page
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Client, Kind, Listing
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.store.store import Store
from spoke_jobs_operator.shell.watching import compare as compare_module
from spoke_jobs_operator.shell.watching.compare import UNFINISHED, Compare


class Server:
    """An API server that refuses some namespaces."""

    def __init__(self, *refused: str) -> None:
        self.world = World()
        self.refused = set(refused)
        self.listed: list[str | None] = []

    def listing(self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "") -> Listing:
        async def pages() -> AsyncIterator[Page]:
            if kind is Kind.SPOKEJOB:
                self.listed.append(namespace)
            if namespace in self.refused:
                raise api_error(403, "Forbidden", f"not in {namespace}")
            objects = list(self.world.objects[kind].values()) if namespace == NAMESPACE else []
            if fields == UNFINISHED:
                objects = [item for item in objects if item.get("status", {}).get("outcome") != "Succeeded"]
            yield Page(objects, str(self.world.version))

        return Listing(namespace, pages())


class Scene:
    def __init__(self, *refused: str) -> None:
        self.server = Server(*refused)
        self.metrics = OperatorMetrics()
        self.store = Store()
        self.added: list[Key] = []
        self.beats = 0
        self.compare = Compare(
            cast(Client, self.server),
            self.store,
            self.metrics,
            ["gone", NAMESPACE],
            add=self.added.append,
            read_live_next=lambda _: None,
            done=self.beat,
            limits=self.no_limits,
        )

    async def no_limits(self, namespace: str | None) -> None:
        pass

    def beat(self, _namespace: str | None) -> None:
        self.beats += 1

    def failures(self, namespace: str) -> float | None:
        labels = {"namespace": namespace}
        return self.metrics.registry.get_sample_value("spoke_operator_compare_failures_total", labels)


async def test_a_namespace_that_is_gone_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_module, "RETRY_SECONDS", 0.001)
    s = Scene("gone")
    async with asyncio.timeout(patient(30)):
        await s.compare.first()
    assert Key(NAMESPACE, NAME) in s.added
    assert s.beats == 1, "health is about any of them"
    assert (s.compare.has_compared(NAMESPACE), s.compare.has_compared("gone")) == (True, False)
    task = asyncio.create_task(s.compare.run(3600, 3600))
    await eventually_async(lambda: (s.failures("gone") or 0) > 3)
    assert s.server.listed.count(NAMESPACE) == 1, "the others are not listed more often for its sake"
    s.server.refused.clear()
    await eventually_async(lambda: s.compare.has_compared("gone"))
    assert s.failures(NAMESPACE) is None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_one_that_fails_at_first_is_caught_up_with_in_full() -> None:
    s = Scene(NAMESPACE)
    assert not await s.compare.try_once(everything=True)
    s.store.spokejob_seen(s.server.world.spokejob)  # by a stream, and not to be worked on before the rest is known
    s.server.refused.clear()
    s.added.clear()
    assert await s.compare.try_once(everything=False)
    assert Key(NAMESPACE, NAME) in s.added
    assert len(s.store.templates) == 1, "only a comparison of everything lists them"


async def test_at_the_start_nobody_waits_for_the_finished() -> None:
    s = Scene("gone")
    s.server.world.put_spokejob("ended")
    s.server.world.change(Kind.SPOKEJOB, "ended", {"outcome": "Succeeded"}, under="status")
    for start in (s.compare.first, s.compare.repeat):
        await start()
        assert s.compare.has_compared(NAMESPACE)
        assert set(s.added) == {Key(NAMESPACE, NAME)}
        assert len(s.store.templates) == 1, "without its template nothing can start"
    s.store.spokejob_seen(s.server.world.objects[Kind.SPOKEJOB]["ended"])  # by the stream
    await s.compare.try_once(everything=False)
    assert len(s.store.spokejobs) == 2, "not to be among the unfinished is not to be gone"


async def test_a_line_for_each_change(caplog: pytest.LogCaptureFixture) -> None:
    s = Scene("gone")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await s.compare.try_once(everything=True)
        s.server.refused.clear()
        for _ in range(3):
            await s.compare.try_once(everything=True)
    said = [(item.levelname, item.__dict__["namespace"]) for item in caplog.records]
    assert said == [("WARNING", "gone"), ("INFO", "gone")]


async def test_compared_anew_no_namespace_counts_before_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_module, "RETRY_SECONDS", 0.001)
    s = Scene("gone")
    await s.compare.first()
    s.server.refused.add(NAMESPACE)
    repeated = asyncio.create_task(s.compare.repeat())
    await eventually_async(lambda: (s.failures(NAMESPACE) or 0) > 2)
    assert not s.compare.has_compared(NAMESPACE), "what was known of it may be out of date by now"
    s.added.clear()
    s.server.refused.remove(NAMESPACE)
    async with asyncio.timeout(patient(30)):
        await repeated
    assert s.compare.has_compared(NAMESPACE)
    assert Key(NAMESPACE, NAME) in s.added


async def test_what_is_gone_is_not_kept_by_one_that_only_watches() -> None:
    s = Scene()
    await s.compare.try_once(everything=True)
    s.server.world.delete(Kind.SPOKEJOB, NAME)
    s.server.world.put_template()  # time goes on
    await s.compare.try_once(everything=False)
    assert len(s.store.spokejobs) == 1, "it may be final, and so not among the unfinished"
    await s.compare.try_once(everything=True)
    assert len(s.store.spokejobs) == 0
