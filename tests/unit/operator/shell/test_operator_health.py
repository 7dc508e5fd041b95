from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import ClientSession

from spoke_jobs.shared import probe_server
from spoke_jobs_operator.operator_settings import Settings
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.process.operator_health import OperatorHealth, routes


async def test_silence_is_deafness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_server, "_LONGEST_REST_SECONDS", 0.0)  # each request sees what the test did before it
    clock = [0.0]
    health = OperatorHealth(unhealthy_after_seconds=120, clock=lambda: clock[0])
    metrics = OperatorMetrics()
    metrics.errors.labels("compare").inc()
    server = probe_server.serve(routes(health, metrics), 0, "127.0.0.1")

    async def get(path: str) -> tuple[int, str]:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{server.server_port}{path}") as answer:
            return answer.status, await answer.text()

    try:
        assert await get("/healthz") == (200, "last event or comparison 0 s ago\n")
        assert (await get("/readyz"))[0] == 503
        health.ready = True
        assert (await get("/readyz"))[0] == 200
        clock[0] = 121
        assert await get("/healthz") == (503, "last event or comparison 121 s ago\n")
        assert (await get("/readyz"))[0] == 503
        health.beat()
        assert (await get("/healthz"))[0] == 200
        assert 'spoke_operator_errors_total{where="compare"} 1.0' in (await get("/metrics"))[1]
    finally:
        await asyncio.to_thread(probe_server.close, server)


def test_by_default_it_is_served_at_all_addresses() -> None:
    assert Settings().health_host == "", "in a cluster of IPv6 alone a pod has no other; see test_probe_server"


@pytest.mark.alone
async def test_a_loop_that_hangs_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_server, "_LOOP_SECONDS", 0.05)
    answer = routes(OperatorHealth(unhealthy_after_seconds=120), OperatorMetrics())["/healthz"]
    assert (await asyncio.to_thread(answer)).status == 200
    waiting = asyncio.get_running_loop().run_in_executor(None, answer)
    while not waiting.done():
        time.sleep(0.2)  # noqa: ASYNC251 (the loop is held up, as by a call that hangs)
        await asyncio.sleep(0)
    assert (await waiting).status == 503
