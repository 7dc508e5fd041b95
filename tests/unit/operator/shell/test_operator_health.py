from __future__ import annotations

import socket

import pytest
from aiohttp import ClientSession
from tests.ports import loopbacks

from spoke_jobs_operator.operator_settings import Settings
from spoke_jobs_operator.shell.operator_health import OperatorHealth, application, serve
from spoke_jobs_operator.shell.operator_metrics import OperatorMetrics


async def test_silence_is_deafness() -> None:
    clock = [0.0]
    health = OperatorHealth(deaf_after_seconds=120, clock=lambda: clock[0])
    metrics = OperatorMetrics()
    metrics.errors.labels("compare").inc()
    runner, port = await serve(application(health, metrics), "127.0.0.1", 0)

    async def get(path: str) -> tuple[int, str]:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()

    try:
        assert await get("/healthz") == (200, "heard of the cluster 0 s ago\n")
        assert (await get("/readyz"))[0] == 503
        health.ready = True
        assert (await get("/readyz"))[0] == 200
        clock[0] = 121
        assert await get("/healthz") == (503, "heard of the cluster 121 s ago\n")
        assert (await get("/readyz"))[0] == 503
        health.beat()
        assert (await get("/healthz"))[0] == 200
        assert 'spoke_operator_errors_total{where="compare"} 1.0' in (await get("/metrics"))[1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("dual", [True, False])
async def test_it_is_served_at_all_addresses_that_there_are(monkeypatch: pytest.MonkeyPatch, dual: bool) -> None:
    """In a cluster of IPv6 alone a pod has no other; where there is none it has to do without."""
    assert Settings().health_host == ""
    dual = dual and socket.has_dualstack_ipv6()
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dual)
    health = OperatorHealth(deaf_after_seconds=120)
    runner, port = await serve(application(health, OperatorMetrics()), Settings().health_host, 0)
    try:
        async with ClientSession() as session:
            for host in loopbacks() if dual else ["127.0.0.1"]:
                async with session.get(f"http://{host}:{port}/healthz") as answer:
                    assert answer.status == 200, host
    finally:
        await runner.cleanup()
