from __future__ import annotations

from aiohttp import ClientSession

from spoke_jobs_operator.shell.health import Pulse, application, serve
from spoke_jobs_operator.shell.metrics import Metrics


async def test_silence_is_deafness() -> None:
    clock = [0.0]
    pulse = Pulse(deaf_after_seconds=120, clock=lambda: clock[0])
    metrics = Metrics()
    metrics.errors.labels("compare").inc()
    runner, port = await serve(application(pulse, metrics), "127.0.0.1", 0)

    async def get(path: str) -> tuple[int, str]:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()

    try:
        assert await get("/healthz") == (200, "heard of the cluster 0 s ago\n")
        assert (await get("/readyz"))[0] == 503
        pulse.ready = True
        assert (await get("/readyz"))[0] == 200
        clock[0] = 121
        assert await get("/healthz") == (503, "heard of the cluster 121 s ago\n")
        assert (await get("/readyz"))[0] == 503
        pulse.beat()
        assert (await get("/healthz"))[0] == 200
        assert 'spoke_operator_errors_total{where="compare"} 1.0' in (await get("/metrics"))[1]
    finally:
        await runner.cleanup()
