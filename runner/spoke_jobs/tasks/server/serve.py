"""The process of ``spoke-jobs tasks``: uvicorn with the application, and an orderly stop on SIGTERM.

On SIGTERM the readiness probe fails and new tasks are refused with 503. The socket stays open, so that requests get an
answer while the cluster removes this replica from the Service. Tasks that finish within the grace period are
acknowledged. The others are returned to their senders, which deliver them to other replicas.

The same happens if tasks hang in too many slots. The exit code is then 75, and Kubernetes restarts the container.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import uvicorn
from sqlalchemy.orm import Session

from spoke_jobs.contract.executors import CLUSTER_RUNNER
from spoke_jobs.errors import ConfigurationError, DatabaseUnreachable
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.outbox.task_outbox import Outbox
from spoke_jobs.ledger.pool_metrics import pool_use
from spoke_jobs.middleware.hook_calls import close_all
from spoke_jobs.registry import Registry
from spoke_jobs.settings import Settings
from spoke_jobs.shared.secret_file import value_of
from spoke_jobs.tasks.server.auth import callers_of
from spoke_jobs.tasks.server.bounded_protocol import HEADERS_LIMIT_BYTES, BoundedProtocol
from spoke_jobs.tasks.server.certificate import Certificate, certificate_of
from spoke_jobs.tasks.server.connection_phases import PHASE_SECONDS, Phase
from spoke_jobs.tasks.server.connection_table import ConnectionLimits, ConnectionTable
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.guarded_server import GuardedServer, connections_that_fit
from spoke_jobs.tasks.server.http_app import Intake, TaskApp
from spoke_jobs.tasks.server.loop_share import LoopShare
from spoke_jobs.tasks.server.outbox_worker import OutboxWorker, OutboxWorkerOptions
from spoke_jobs.tasks.server.task_metrics import TaskMetrics

ACKNOWLEDGE_SECONDS = 3
"""The time to send the last acknowledgements, after the grace period."""
RECORD_SECONDS = 5.0
"""The time to record the last ends in the outbox."""

logger = logging.getLogger(__name__)


def serve(registry: Registry, settings: Settings, on_begin: Callable[[], None] = lambda: None) -> bool:
    """Run the registry's tasks for callers that may send them, until SIGTERM.

    An application without tasks gets a server that is ready and refuses every task, so that its installation succeeds.

    :param on_begin: called once this process handles signals and accepts tasks.
    :returns: False if the process must restart because tasks hang.
    :raises ConfigurationError: if the port cannot be opened, or the callers or the certificate cannot be used.
    :raises DatabaseError: if the database is not migrated.
    """
    callers = callers_of(settings)
    certificate = certificate_of(settings.tasks_tls_cert_file, settings.tasks_tls_key_file)
    concurrency, queue_length = settings.tasks_concurrency, settings.tasks_queue
    intake = Intake()
    server: _Server | None = None

    def on_stuck(why: str) -> None:
        if server is not None:
            server.restart(why)

    database = _database(settings)
    executor = TaskExecutor(
        registry,
        concurrency=concurrency,
        limit=queue_length,
        reserved=min(concurrency, queue_length // 4) if database is not None else 0,
        sessions=(lambda: Session(database)) if database is not None else None,
        hung_seconds=settings.tasks_hung_seconds,
        on_stuck=on_stuck,
    )
    outbox = None
    if database is not None and len(registry.tasks):
        pace = OutboxWorkerOptions(concurrency, settings.lease_seconds, settings.poll_seconds)
        outbox = OutboxWorker(Outbox(database, CLUSTER_RUNNER), list(registry.tasks), executor, pace)

    def on_start() -> None:
        on_begin()
        if outbox is not None:
            outbox.start()

    table, share = ConnectionTable(_limits(settings.tasks_peer_connections)), LoopShare()
    app = TaskApp(
        executor,
        callers,
        intake,
        TaskMetrics(
            executor,
            intake,
            concurrency,
            outbox,
            table,
            pool=lambda: pool_use(database) if database is not None else None,
        ),
        on_start=on_start,
        share=share,
    )
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the peer is who connects: uvicorn would believe X-Forwarded-For
        ws="none",
        http=BoundedProtocol,
        timeout_keep_alive=int(PHASE_SECONDS[Phase.IDLE]),
        timeout_graceful_shutdown=ACKNOWLEDGE_SECONDS,
        h11_max_incomplete_event_size=HEADERS_LIMIT_BYTES,
    )
    listening = _listen(settings.tasks_host, settings.tasks_port)
    if not len(registry.tasks):
        logger.warning("the application of SPOKE_APP declares no task; this server is idle, and refuses every task")
    logger.info(
        "task server listening on %s port %d, %s: %d tasks declared, %d run at once, %d in the queue; %s",
        *listening.getsockname()[:2],
        "with TLS" if certificate is not None else "without TLS",
        len(registry.tasks),
        concurrency,
        queue_length,
        "serving the outbox" if outbox is not None else "no outbox",
    )
    server = _Server(config, table, share, certificate, executor, intake, outbox, settings.tasks_grace_seconds)
    server.run(sockets=[listening])
    close_all(registry.middleware)
    return not server.restarting


def _limits(peer: int) -> ConnectionLimits:
    limits = ConnectionLimits(peer=peer)
    fitting = connections_that_fit(limits.total + limits.probes)
    return replace(limits, total=max(1, fitting - limits.probes))


class _Server(GuardedServer):
    """A server that drains on the first SIGTERM or SIGINT before it stops. A second signal stops it at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        table: ConnectionTable,
        share: LoopShare,
        certificate: Certificate | None,
        executor: TaskExecutor,
        intake: Intake,
        outbox: OutboxWorker | None,
        grace_seconds: float,
    ) -> None:
        super().__init__(
            config,
            table,
            share,
            on_full=lambda: intake.readiness.turned_away("all connections are in use by senders"),
            tls=certificate.context if certificate is not None else None,
        )
        self.restarting = False
        self._stop_signalled = False
        self._executor = executor
        self._intake = intake
        self._outbox = outbox
        self._grace_seconds = grace_seconds
        self._serving: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._serving = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn; called as the signal's handler."""
        if self._serving is None or self._stop_signalled:
            super().handle_exit(sig, frame)
            return
        self._stop_signalled = True
        if self._intake.draining:  # it drains for a restart already
            self.restarting = False
            return
        self._intake.draining = True
        self._serving.call_soon_threadsafe(self._drain, signal.Signals(sig).name)

    def restart(self, why: str) -> None:
        """Return tasks that have not started, drain, and exit, so that Kubernetes restarts the container."""
        if self._intake.draining:
            return
        logger.error("%s; this replica drains and restarts", why)
        self.restarting = True
        self._intake.draining = True
        self._drain("restart", running_only=True)

    def _drain(self, why: str, *, running_only: bool = False) -> None:
        self._draining = asyncio.ensure_future(self._finish_accepted(why, running_only=running_only))

    async def _finish_accepted(self, why: str, *, running_only: bool) -> None:
        logger.info("%s: finishing %d accepted tasks, accepting no more", why, self._executor.unfinished)
        if self._outbox is not None:
            self._outbox.drain()
        left = await self._executor.finish(self._grace_seconds, running_only=running_only)
        if left:
            logger.error("%d tasks did not end within %.1f s; returned to their senders", left, self._grace_seconds)
        if self._outbox is not None:
            await asyncio.to_thread(self._outbox.stop, RECORD_SECONDS)
        logger.info("stopped: %s accepted, %s", self._executor.counts.accepted, _ended(self._executor))
        self.should_exit = True


def _ended(executor: TaskExecutor) -> str:
    return ", ".join(f"{count} {outcome.value}" for outcome, count in executor.counts.ended.items())


def _database(settings: Settings) -> Any:
    url = value_of(settings.database)
    if not url:
        return None
    # One connection for each task that uses ctx.session, one for the outbox, and some for scrapes.
    pooled: dict[str, Any] = {} if url.startswith("sqlite") else {"pool_size": 2 * settings.tasks_concurrency + 4}
    database = create_engine(settings.database, **pooled)
    try:
        check_schema(database)
    except DatabaseUnreachable as error:
        logger.error("%s; running tasks that come over HTTP meanwhile", error)  # noqa: TRY400
    return database


def _listen(host: str, port: int) -> socket.socket:
    try:
        if not host and socket.has_dualstack_ipv6():  # a pod may have an IPv6 address only
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0] if host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=4096)
    except OSError as error:
        raise ConfigurationError(
            f"the task server can't listen on {host or 'any address,'} port {port} ({error.strerror}): "
            "set SPOKE_TASKS_HOST and SPOKE_TASKS_PORT"
        ) from None
