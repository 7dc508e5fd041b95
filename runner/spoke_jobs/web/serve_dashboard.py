"""The process of ``spoke-jobs web``: uvicorn with the dashboard, and perhaps with the progress of single jobs."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.web.guard import HEALTH, Guard, refusal_response
from spoke_jobs.web.progress_app import ProgressApp

PROGRESS = "/progress"
"""Below this path is the progress of single jobs. It needs a token, and neither a sign-in nor a name of this host."""
PROGRESS_STREAMS = 60
"""The most streams of progress: with those of the dashboard, fewer than the requests that may be in progress."""

_REQUESTS = 200
"""The most requests in progress, the streams of browsers among them. Others are answered with 503, except the kubelet's
probes: it would restart the pod."""
_CONNECTIONS = 400
"""The most connections. It is above the limit on requests, so that one of them is always idle: it is closed for a new
one."""
_HEADERS_LIMIT_BYTES = 32_768
_IDLE_SECONDS = 5
_GRACE_SECONDS = 10

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Ends the streams of browsers as soon as it is to stop: it would wait for them."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self._end_streams()
        super().handle_exit(sig, frame)


class _BoundedApp:
    """Answers with 503 while too many requests are in progress."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] == HEALTH:
            await self._app(scope, receive, send)
        elif self._running >= _REQUESTS:
            await refusal_response(scope, 503, "Too many requests are in progress.")(scope, receive, send)
        else:
            self._running += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._running -= 1


class WithProgress:
    """The dashboard, and below :data:`PROGRESS` the progress of single jobs."""

    def __init__(self, dashboard: Guard, progress: ProgressApp) -> None:
        self._dashboard = dashboard
        self._progress = progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"].startswith(f"{PROGRESS}/"):
            below = {"root_path": scope.get("root_path", "") + PROGRESS}
            await self._progress({**scope, **below}, receive, send)
            return
        await self._dashboard(scope, receive, send)

    def end_streams(self) -> None:
        """End what browsers keep open. Safe in a signal handler."""
        self._dashboard.end_streams()
        self._progress.end_streams()

    def close(self) -> None:
        """Close connections, and end threads."""
        self._dashboard.close()
        self._progress.close()


class _Connection(H11Protocol):
    """Makes room for itself if there are too many connections: it closes the one that has been idle for longest.

    uvicorn would keep idle connections, and refuse the requests of all others, also the kubelet's.
    """

    idle_since: float  # by a clock that tells connections of one pass of uvloop apart: its own has milliseconds

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self.idle_since = time.monotonic()
        if len(self.connections) <= _CONNECTIONS:
            return
        others = (other for other in self.connections if isinstance(other, _Connection) and other is not self)
        oldest = min((other for other in others if other.is_idle), key=lambda other: other.idle_since, default=None)
        if oldest is not None:
            self.connections.discard(oldest)  # now: asyncio calls connection_lost() later
            oldest.transport.abort()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        self.idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        cycle: Any = self.cycle  # uvicorn has None here before the first request
        return cycle is None or cycle.response_complete


def serve(app: Guard | WithProgress, host: str, port: int) -> None:
    """Serve the application until SIGTERM.

    :raises ConfigurationError: if the port cannot be opened.
    """
    config = uvicorn.Config(
        _BoundedApp(app),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the peer is who connects: uvicorn would believe X-Forwarded-For
        ws="none",
        http=_Connection,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=_HEADERS_LIMIT_BYTES,
    )
    listening = _listen(host, port)
    logger.info("dashboard listening on http://%s:%d/", f"[{host}]" if ":" in host else host, port)
    _Server(config, app.end_streams).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigurationError(
            f"the dashboard can't listen on {host} port {port} ({error.strerror}): choose --host and --port"
        ) from None
