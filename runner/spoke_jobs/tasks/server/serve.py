"""The process behind ``spoke-jobs tasks``: uvicorn around the application, and an orderly end on SIGTERM.

On SIGTERM readiness fails and new tasks are refused with 503, but the socket stays open: requests that were on their
way while the cluster takes this replica out of the service get an answer. What was accepted is finished within the
grace period, and acknowledged; the rest is returned to its senders, which deliver it elsewhere. The same happens when
slots are lost to tasks that hang; then the exit code is another, and Kubernetes starts the container anew.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from sqlalchemy.orm import Session

from spoke_jobs.errors import ConfigurationError, DatabaseUnreachable
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.task_outbox import Outbox
from spoke_jobs.registry import Registry
from spoke_jobs.tasks.server.auth import CallerCheck
from spoke_jobs.tasks.server.connection_limits import HEADERS_LIMIT_BYTES, BoundedProtocol
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.http_app import Intake, TaskApp
from spoke_jobs.tasks.server.outbox_worker import OutboxWorker, OutboxWorkerOptions
from spoke_jobs.tasks.server.task_metrics import TaskMetrics

_KEEP_ALIVE_SECONDS = 75
"""Longer than dispatchers keep an idle connection, so that it is never the server that closes one."""
LAST_WORDS_SECONDS = 3
"""For the last acknowledgements to be sent, after the grace period."""
RECORD_SECONDS = 5.0
"""For the last ends to be recorded in the outbox."""

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
    hung_seconds: float = 60.0
    """How long a task may hold its slot beyond its timeout, before the process ends to be started anew."""
    database_url: str = ""
    """The application's database, for ``ctx.session`` and the outbox; empty for neither."""
    runner: str = "kubernetes"
    """Whose outbox is served."""
    lease_seconds: float = 30.0
    poll_seconds: float = 0.5


def serve(
    registry: Registry, callers: CallerCheck, options: ServerOptions, on_begin: Callable[[], None] = lambda: None
) -> bool:
    """Run the registry's tasks for whoever may send them, until SIGTERM.

    :param on_begin: called once signals are handled here, and tasks are taken.
    :returns: whether it ended in order; if not, it is to be started anew.
    :raises ConfigurationError: if there is no task, or the port can't be had.
    :raises DatabaseError: if the database isn't migrated.
    """
    if not len(registry.tasks):
        raise ConfigurationError("SPOKE_APP declares no task: `spoke-jobs tasks` has nothing to run")
    gate = Intake()
    server: _Server | None = None

    def on_stuck(why: str) -> None:
        if server is not None:
            server.restart(why)

    database = _database(options)
    engine = TaskExecutor(
        registry,
        concurrency=options.concurrency,
        limit=options.queue_length,
        kept_for_claims=min(options.concurrency, options.queue_length // 4) if database is not None else 0,
        sessions=(lambda: Session(database)) if database is not None else None,
        hung_seconds=options.hung_seconds,
        on_stuck=on_stuck,
    )
    pump = None
    if database is not None:
        pace = OutboxWorkerOptions(options.concurrency, options.lease_seconds, options.poll_seconds)
        pump = OutboxWorker(Outbox(database, options.runner), list(registry.tasks), engine, pace)

    def on_start() -> None:
        on_begin()
        if pump is not None:
            pump.start()

    app = TaskApp(
        engine,
        callers,
        gate,
        TaskMetrics(engine, gate, options.concurrency, pump),
        on_start=on_start,
    )
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        http=BoundedProtocol,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LAST_WORDS_SECONDS,
        h11_max_incomplete_event_size=HEADERS_LIMIT_BYTES,
    )
    listening = _listen(options.host, options.port)
    logger.info(
        "task server on %s port %d: %d tasks declared, %d at once, %d in the queue; %s",
        *listening.getsockname()[:2],
        len(registry.tasks),
        options.concurrency,
        options.queue_length,
        "serving the outbox" if pump is not None else "no SPOKE_DATABASE_URL, no outbox",
    )
    server = _Server(config, engine, gate, pump, options.grace_seconds)
    server.run(sockets=[listening])
    return not server.restarting


class _Server(uvicorn.Server):
    """uvicorn, but a first SIGTERM or SIGINT drains before it stops; a second one stops at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        engine: TaskExecutor,
        gate: Intake,
        pump: OutboxWorker | None,
        grace_seconds: float,
    ) -> None:
        super().__init__(config)
        self.restarting = False
        self._told_to_stop = False
        self._engine = engine
        self._gate = gate
        self._pump = pump
        self._grace_seconds = grace_seconds
        self._serving: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._serving = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn; called as the signal's handler."""
        if self._serving is None or self._told_to_stop:
            super().handle_exit(sig, frame)
            return
        self._told_to_stop = True
        if self._gate.draining:  # to restart: what runs is being waited for already
            self.restarting = False
            return
        self._gate.draining = True
        self._serving.call_soon_threadsafe(self._drain, signal.Signals(sig).name)

    def restart(self, why: str) -> None:
        """Drain, hand back what has not begun, and end to be started anew."""
        if self._gate.draining:
            return
        logger.error("%s: this replica drains and restarts", why)
        self.restarting = True
        self._gate.draining = True
        self._drain("restart", hand_back=True)

    def _drain(self, why: str, *, hand_back: bool = False) -> None:
        self._draining = asyncio.ensure_future(self._finish_accepted(why, hand_back=hand_back))

    async def _finish_accepted(self, why: str, *, hand_back: bool) -> None:
        logger.info("%s: finishing %d accepted tasks, accepting no more", why, self._engine.unfinished)
        if self._pump is not None:
            self._pump.drain()
        left = await self._engine.finish(self._grace_seconds, hand_back=hand_back)
        if left:
            logger.error("%d tasks did not end within %.1f s: returned to their senders", left, self._grace_seconds)
        if self._pump is not None:
            await asyncio.to_thread(self._pump.stop, RECORD_SECONDS)
        logger.info("stopped: %s accepted, %s", self._engine.counts.accepted, _ended(self._engine))
        self.should_exit = True


def _ended(engine: TaskExecutor) -> str:
    return ", ".join(f"{count} {outcome.value}" for outcome, count in engine.counts.ended.items())


def _database(options: ServerOptions) -> Any:
    if not options.database_url:
        return None
    # A connection for each task that uses ctx.session, for the pump, for a scrape.
    pooled = {} if options.database_url.startswith("sqlite") else {"pool_size": 2 * options.concurrency + 4}
    database = create_engine(options.database_url, **pooled)
    try:
        check_schema(database)
    except DatabaseUnreachable as error:
        logger.error("%s; tasks that come over HTTP are run meanwhile", error)  # noqa: TRY400
    return database


def _listen(host: str, port: int) -> socket.socket:
    try:
        if not host and socket.has_dualstack_ipv6():  # a pod may have no other address
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2048)
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0] if host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"the task server can't listen on {host or 'any address,'} port {port} ({error.strerror}): "
            "set SPOKE_TASKS_HOST and SPOKE_TASKS_PORT"
        ) from None
