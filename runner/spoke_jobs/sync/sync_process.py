"""The sync process: a loop that survives outages of database and API server, and ends soon after SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection, text

from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.kube_environment import namespace
from spoke_jobs.contract.executors import CLUSTER_RUNNER
from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseUnreachable
from spoke_jobs.execution.signals import SignalEvent
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.cluster.lane_load import LaneLoad, lane_loads
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.notify import listen
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts, count_schedules
from spoke_jobs.model import ClaimFilter
from spoke_jobs.registry import Registry
from spoke_jobs.settings import Settings
from spoke_jobs.shared.api_errors import ApiError, ApiUnavailable
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.shared.outage_log import OutageLog
from spoke_jobs.sync.leader_loop import Intervals, LeaderLoop
from spoke_jobs.sync.limit_publisher import declare
from spoke_jobs.sync.output_keeper import READERS
from spoke_jobs.sync.sync_metrics import ACTIVE, STANDBY, STARTING, SyncHealth, serve_probes
from spoke_jobs.sync.watch import NotifyListener
from spoke_jobs.sync.worker_sets import read_worker_sets
from spoke_jobs.sync.writer import ConnectionLost, Writer

logger = logging.getLogger(__name__)

_LOCK = "the lock"
"""Of the active sync: somebody who is no sync holds it."""
Found = TypeVar("Found")

_STANDBY_SECONDS = 1.0
_BACKOFF = Backoff(base=0.5, maximum=10.0)
SHUTDOWN_SECONDS = 1.5
"""How long to wait for work after SIGTERM."""


class Sync:
    """Become the active sync when possible, and work until told to stop. Retry after each failure."""

    def __init__(
        self,
        writer: Writer,
        api: SpokeJobClient,
        intervals: Intervals,
        health: SyncHealth | None = None,
        listener: NotifyListener | None = None,
        registry: Registry | None = None,
        on_lead: Callable[[], None] = lambda: None,
        worker_sets: Mapping[str, ClaimFilter] | None = None,
    ) -> None:
        """Make a sync.

        :param registry: the application's jobs and schedules; None: this process dispatches no schedules.
        :param on_lead: called when this sync becomes the active one.
        :param worker_sets: the jobs that each set of workers of the lane `worker` takes.
        """
        self.worker_sets = worker_sets or {}
        self._counting = threading.Lock()
        self._on_lead = on_lead
        self._registry = registry
        self._writer = writer
        self._listener = listener
        self._api = api
        self._intervals = intervals
        self.health = health or SyncHealth()
        self._database = OutageLog(logger, "the database")
        self._api_server = OutageLog(logger, "the API server")
        self._lock = OutageLog(logger, "the lock of the active sync", began="can't become the active sync")
        self._listing = OutageLog(logger, "the list of SpokeJobs", began="could not list SpokeJobs")

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop`` is set; release the lock at the end."""
        failures = 0
        loop: LeaderLoop | None = None
        try:
            while not stop.is_set():
                self.health.turned()
                began, pause = time.monotonic(), 0.0
                try:
                    if self._lead():
                        loop = loop or LeaderLoop(
                            self._writer,
                            self._api,
                            self.health,
                            self._intervals,
                            listener=self._listener,
                            registry=self._registry,
                        )
                        loop.serve(stop)
                        return
                    failures = 0
                    stop.wait(_STANDBY_SECONDS)
                    continue
                except ApiUnavailable as error:
                    pause = error.pause_seconds
                    self._wait_for("the API server", self._api_server, error)
                except ApiError as error:  # only a listing raises other API errors: 403 (a missing right), 404 (no CRD)
                    self._wait_for("", self._listing, error)
                except (ConnectionLost, DatabaseUnreachable, DatabaseNotMigrated) as error:
                    self._wait_for("the database", self._database, error)
                    _close(loop, stores=False)  # the lock is lost
                    loop = None
                except Exception:
                    logger.exception("unexpected error; restarting")
                    self.health.role = "restarting"
                    _close(loop, stores=True)
                    loop = None
                    self._writer.close()
                if time.monotonic() - began > _BACKOFF.maximum:
                    failures = 0  # sync worked for a while: forget earlier failures
                failures += 1
                stop.wait(max(_BACKOFF.after(failures), pause))
        finally:
            _close(loop, stores=True)
            self._writer.close()

    def backlog(self) -> tuple[int, float]:
        """Count the due rows without a SpokeJob, and the seconds since the oldest became due. Thread-safe."""
        return self._read(syncing.backlog)

    def lane_loads(self, name: str | None = None) -> dict[str, LaneLoad]:
        """Return the work of a set of workers of the lane `worker`, or of each (None). Thread-safe."""
        sets = self.worker_sets if name is None else {name: self.worker_sets[name]}
        with self._counting:  # with one connection, however many sets are asked for at once
            return self._read(lambda connection: lane_loads(connection, sets))

    def count_schedules(self) -> ScheduleCounts:
        """Count the runner's schedules. Thread-safe."""
        return self._read(lambda connection: count_schedules(connection, CLUSTER_RUNNER))

    def _read(self, query: Callable[[Connection], Found]) -> Found:
        with self._writer.engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            connection.execute(text("SET statement_timeout = '5s'"))
            return query(connection)

    def _lead(self) -> bool:
        leads = self._writer.lead()
        if not leads and (reason := self._writer.foreign_holder()):
            self._wait_for(_LOCK, self._lock, reason)
        elif not leads:
            self._set_role(STANDBY, "another sync is active: standing by")
        elif self.health.role in (STARTING, STANDBY, _waiting_for(_LOCK)):
            self._set_role(ACTIVE, "this sync is the active one")
            self._on_lead()
        # After an outage the role changes with the first comparison, not with the first retry. Otherwise an alert would
        # see an active sync now and then during the outage.
        return leads

    def _set_role(self, role: str, message: str) -> None:
        if self.health.role != role:
            logger.info(message)
        self.health.role = role

    def _wait_for(self, what: str, outage: OutageLog, error: object) -> None:
        """Log each new reason once per outage, and reminders. An outage ends when this sync is active or a standby."""
        if self.health.role in (ACTIVE, STANDBY):
            for log in (self._database, self._api_server, self._listing, self._lock):
                log.reset()
        outage.failed(str(error))
        self.health.role = _waiting_for(what) if what else "waiting to list SpokeJobs"


def _close(loop: LeaderLoop | None, *, stores: bool) -> None:
    try:
        if loop is not None:
            loop.close(stores=stores)
    except Exception as error:
        logger.warning("the last output of pods could not be stored: %s", type(error).__name__)


def _waiting_for(what: str) -> str:
    """Return the role of a sync that waits for something."""
    return f"waiting for {what}"


def connect(settings: Settings, registry: Registry | None = None) -> Sync:
    """Make a sync from the settings. It listens for notifications at once, and connects to nothing else yet.

    :raises ConfigurationError: naming every setting that is missing.
    """
    url = settings.database_url.get_secret_value()
    where = namespace(settings.namespace)
    missing = []
    if not url:
        missing.append("SPOKE_DATABASE_URL (the PostgreSQL database with the ledger)")
    if not where:
        missing.append("SPOKE_NAMESPACE (the namespace of the SpokeJobs; this process isn't in a pod)")
    if missing:
        raise ConfigurationError(f"sync is not fully configured; set {'; '.join(missing)}")
    if url.startswith("sqlite"):
        raise ConfigurationError("sync serves the runner 'kubernetes', whose ledger is in PostgreSQL, not in SQLite")
    sets = read_worker_sets(settings.worker_sets)
    every = max(settings.poll_seconds, Intervals().launch)
    intervals = Intervals(launch=every) if settings.submit == "runner" else Intervals(launch=every, patience=0.0)
    if not settings.keeps_successes:
        intervals = replace(intervals, prune=1.0)
    writer = Writer(settings.database)
    notifications = listen(writer.engine)
    listener = NotifyListener(notifications) if notifications is not None else None
    return Sync(
        writer,
        SpokeJobClient.connect(where, Timeouts()),
        intervals,
        SyncHealth(organizations=settings.metrics_organizations, joined=settings.traces == "joined"),
        listener=listener,
        registry=registry,
        worker_sets=sets,
        # Without the application's code, what it declares is unknown: keep what is stored.
        on_lead=lambda: declare(writer.engine, registry, settings.app) if registry is not None else None,
    )


def run(settings: Settings, health_port: int | None = None, registry: Registry | None = None) -> None:
    """Run until SIGTERM or SIGINT, then exit with code 0. Wait for calls that hang for at most `SHUTDOWN_SECONDS`."""
    stop = SignalEvent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sync = connect(settings, registry)
    if health_port is not None:
        serve_probes(
            sync.health, health_port, "", sync.backlog, sync.count_schedules, sync.lane_loads, sync.worker_sets
        )
    loop = threading.Thread(target=sync.run, args=(stop,), name="spoke-sync", daemon=True)
    loop.start()
    while loop.is_alive() and not stop.wait(0.5):
        pass
    until = time.monotonic() + SHUTDOWN_SECONDS
    # The interpreter would wait without a limit for the threads that read the output of pods.
    waits_for = [loop, *(thread for thread in threading.enumerate() if thread.name.startswith(READERS))]
    for thread in waits_for:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in waits_for):
        logger.warning("a call still hangs; exiting without waiting for it")
        sys.stderr.flush()
        os._exit(0)  # the connection closes, which releases the lock
