"""Liveness, readiness and metrics over HTTP.

Alive means that something was heard of the cluster lately. A watch that has gone silent must not pass for a quiet
cluster: the comparison lists every half minute, so silence beyond that is deafness.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from .operator_metrics import OperatorMetrics


class OperatorHealth:
    """When the cluster was last heard of."""

    def __init__(self, deaf_after_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._deaf_after = deaf_after_seconds
        self._clock = clock
        self._beat_at = clock()
        self.ready = False
        """Whether the first comparison is done, so that SpokeJobs are being worked on."""

    def beat(self) -> None:
        """An event came, or a comparison succeeded."""
        self._beat_at = self._clock()

    @property
    def silent_seconds(self) -> float:
        """How long nothing came."""
        return self._clock() - self._beat_at

    @property
    def alive(self) -> bool:
        """Whether that is short enough."""
        return self.silent_seconds <= self._deaf_after


def application(health: OperatorHealth, metrics: OperatorMetrics) -> web.Application:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    async def healthz(_: web.Request) -> web.Response:
        text = f"heard of the cluster {health.silent_seconds:.0f} s ago\n"
        return web.Response(text=text, status=200 if health.alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        ready = health.ready and health.alive
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def read_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", read_metrics)
    return app


async def serve(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Serve until the runner's ``cleanup()``; gives it, and the port.

    :param host: empty for all addresses, of IPv6 as well where there is any: a pod may have no other.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    if host:
        await web.TCPSite(runner, host, port).start()
    else:
        await web.SockSite(runner, _everywhere(port)).start()
    return runner, runner.addresses[0][1]


def _everywhere(port: int) -> socket.socket:
    """One socket for both families: two would have different ports where any will do."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
