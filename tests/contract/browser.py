"""A browser for an ASGI application, without a network. It keeps cookies, and follows no redirect."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.types import ASGIApp

from spoke_jobs.web.guard import Guard
from spoke_jobs.web.serve_dashboard import WithProgress


class Browser:
    """Sends requests.

    :param peer: the address from which it connects.
    :param below: the application in which the dashboard is mounted.
    """

    def __init__(
        self,
        dashboard: Guard | WithProgress,
        host: str,
        *,
        scheme: str = "https",
        peer: str = "192.0.2.7",
        below: ASGIApp | None = None,
    ) -> None:
        self.app = dashboard
        self._runner = asyncio.Runner()
        site: Any = below or dashboard
        transport = httpx.ASGITransport(app=site, client=(peer, 4711), raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=f"{scheme}://{host}")
        self.cookies = self._client.cookies

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
        self.app.close()
