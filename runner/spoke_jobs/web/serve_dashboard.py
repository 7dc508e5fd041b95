"""The process of ``spoke-jobs web``: uvicorn with the dashboard."""

from __future__ import annotations

import logging
import socket

import uvicorn
from starlette.types import ASGIApp

from spoke_jobs.errors import ConfigurationError

_CONNECTIONS = 200
_HEADERS_LIMIT_BYTES = 32_768
_IDLE_SECONDS = 5
_GRACE_SECONDS = 10

logger = logging.getLogger(__name__)


def serve(app: ASGIApp, host: str, port: int) -> None:
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
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigurationError(
            f"the dashboard can't listen on {host} port {port} ({error.strerror}): choose --host and --port"
        ) from None
