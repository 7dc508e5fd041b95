"""The process behind ``spoke-jobs tasks``: uvicorn around the application, and an orderly end on SIGTERM.

On SIGTERM readiness fails and new tasks are refused with 503, but the socket stays open: requests that were on their
way while the cluster takes this replica out of the service get an answer. What was accepted is finished within the
grace period, and acknowledged; the rest is returned to its senders, which deliver it elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass
from types import FrameType

import uvicorn

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.registry import Registry
from spoke_jobs.tasks.app import Gate, create_app
from spoke_jobs.tasks.callers import SharedKey
from spoke_jobs.tasks.engine import Engine

_HEADERS_LIMIT_BYTES = 16_384
_KEEP_ALIVE_SECONDS = 75
"""Longer than dispatchers keep an idle connection, so that it is never the server that closes one."""
_LAST_WORDS_SECONDS = 3
"""For the last acknowledgements to be sent, after the grace period."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a task server runs."""

    host: str
    port: int
    concurrency: int
    """``def`` tasks at once; and as many ``async def`` ones."""
    queue_length: int
    """Accepted tasks that have not ended."""
    grace_seconds: float
    """How long accepted tasks have after SIGTERM."""


def serve(registry: Registry, key: str, options: ServerOptions) -> None:
    """Run the registry's tasks for whoever shows the key, until SIGTERM.

    :raises ConfigurationError: if there is no key, no task, or the port can't be had.
    """
    callers = SharedKey(key)
    if not len(registry.tasks):
        raise ConfigurationError("SPOKE_APP declares no task: `spoke-jobs tasks` has nothing to run")
    engine = Engine(registry, concurrency=options.concurrency, limit=options.queue_length)
    gate = Gate()
    config = uvicorn.Config(
        create_app(engine, callers, gate),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
        h11_max_incomplete_event_size=_HEADERS_LIMIT_BYTES,
    )
    listening = _listen(options.host, options.port)
    logger.info(
        "task server on %s port %d: %d tasks declared, %d at once, %d in the queue",
        *listening.getsockname()[:2],
        len(registry.tasks),
        options.concurrency,
        options.queue_length,
    )
    _Server(config, engine, gate, options.grace_seconds).run(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn, but a first SIGTERM or SIGINT drains before it stops; a second one stops at once."""

    def __init__(self, config: uvicorn.Config, engine: Engine, gate: Gate, grace_seconds: float) -> None:
        super().__init__(config)
        self._engine = engine
        self._gate = gate
        self._grace_seconds = grace_seconds
        self._serving: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._serving = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn; called as the signal's handler."""
        if self._serving is None or self._gate.draining:
            super().handle_exit(sig, frame)
            return
        self._gate.draining = True
        self._serving.call_soon_threadsafe(self._drain, signal.Signals(sig).name)

    def _drain(self, why: str) -> None:
        self._draining = asyncio.ensure_future(self._finish_accepted(why))

    async def _finish_accepted(self, why: str) -> None:
        logger.info("%s: finishing %d accepted tasks, accepting no more", why, self._engine.unfinished)
        left = await self._engine.finish(self._grace_seconds)
        if left:
            logger.error("%d tasks did not end within %.1f s: returned to their senders", left, self._grace_seconds)
        logger.info("stopped: %s", self._engine.counts)
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"the task server can't listen on {host} port {port} ({error.strerror}): "
            "set SPOKE_TASKS_HOST and SPOKE_TASKS_PORT"
        ) from None
