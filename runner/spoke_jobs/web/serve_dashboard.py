"""The process of ``spoke-jobs web``: uvicorn with the dashboard."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.web.guard import Guard

_CONNECTIONS = 200
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


def serve(app: Guard, host: str, port: int) -> None:
    """Serve the application until SIGTERM.

    :raises ConfigurationError: if the port cannot be opened.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the peer is who connects: uvicorn would believe X-Forwarded-For
        ws="none",
        http="h11",
        limit_concurrency=_CONNECTIONS,
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
