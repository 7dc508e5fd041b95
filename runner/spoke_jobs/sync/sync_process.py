"""The sync process: a loop that survives outages of database and API server, and ends within 2 s of SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

from sqlalchemy import text

from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.kube_environment import namespace
from spoke_jobs.contract.api_errors import ApiError, ApiUnavailable
from spoke_jobs.contract.backoff import Backoff
from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseUnreachable
from spoke_jobs.execution.signals import SignalEvent
from spoke_jobs.ledger import syncing
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.notify import listen
from spoke_jobs.settings import Settings
from spoke_jobs.sync.leader_loop import Intervals, LeaderLoop
from spoke_jobs.sync.sync_metrics import ACTIVE, STANDBY, STARTING, SyncHealth, serve_probes
from spoke_jobs.sync.watch import NotifyListener
from spoke_jobs.sync.writer import ConnectionLost, Writer

logger = logging.getLogger(__name__)

_STANDBY_SECONDS = 1.0
_BACKOFF = Backoff(base=0.5, maximum=10.0)
_SHUTDOWN_SECONDS = 1.5


class Sync:
    """Become the active sync when possible, and work until told to stop. Retry after each failure."""

    def __init__(
        self,
        writer: Writer,
        api: SpokeJobClient,
        intervals: Intervals,
        health: SyncHealth | None = None,
        listener: NotifyListener | None = None,
    ) -> None:
        self._writer = writer
        self._listener = listener
        self._api = api
        self._intervals = intervals
        self.health = health or SyncHealth()

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop`` is set; release the lock at the end."""
        failures = 0
        try:
            while not stop.is_set():
                self.health.turned()
                began = time.monotonic()
                try:
                    if self._lead():
                        LeaderLoop(
                            self._writer, self._api, self.health, self._intervals, listener=self._listener
                        ).serve(stop)
                        return
                    failures = 0
                    stop.wait(_STANDBY_SECONDS)
                    continue
                except ApiUnavailable as error:
                    self._set_role("waiting for the API server", f"the API server is unavailable; retrying: {error}")
                except ApiError as error:  # only a listing raises other API errors: 403 (a missing right), 404 (no CRD)
                    self._set_role("waiting to list SpokeJobs", f"could not list SpokeJobs ({error}); retrying")
                except (ConnectionLost, DatabaseUnreachable, DatabaseNotMigrated) as error:
                    self._set_role("waiting for the database", f"the database is unavailable; retrying: {error}")
                except Exception:
                    logger.exception("unexpected error; restarting")
                    self.health.role = "restarting"
                    self._writer.close()
                if time.monotonic() - began > _BACKOFF.maximum:
                    failures = 0  # sync worked for a while: forget earlier failures
                failures += 1
                stop.wait(_BACKOFF.after(failures))
        finally:
            self._writer.close()

    def backlog(self) -> tuple[int, float]:
        """Count the due rows without a SpokeJob, and the seconds since the oldest became due. Thread-safe."""
        with self._writer.engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            connection.execute(text("SET statement_timeout = '5s'"))
            return syncing.backlog(connection)

    def _lead(self) -> bool:
        leads = self._writer.lead()
        if not leads:
            self._set_role(STANDBY, "another sync is active: standing by")
        elif self.health.role in (STARTING, STANDBY):
            self._set_role(ACTIVE, "this sync is the active one")
        # After an outage the role changes with the first comparison, not with the first retry. Otherwise an alert would
        # see an active sync now and then during the outage.
        return leads

    def _set_role(self, role: str, message: str) -> None:
        if self.health.role != role:
            logger.log(logging.INFO if role in (ACTIVE, STANDBY) else logging.WARNING, "%s", message)
        self.health.role = role


def connect(settings: Settings) -> Sync:
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
    every = max(settings.poll_seconds, Intervals().launch)
    intervals = Intervals(launch=every) if settings.submit == "runner" else Intervals(launch=every, patience=0.0)
    writer = Writer(url)
    notifications = listen(writer.engine)
    listener = NotifyListener(notifications) if notifications is not None else None
    return Sync(writer, SpokeJobClient.connect(where, Timeouts()), intervals, listener=listener)


def run(settings: Settings, health_port: int | None = None) -> None:
    """Run until SIGTERM or SIGINT, then exit with code 0 within two seconds, whatever hangs."""
    stop = SignalEvent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sync = connect(settings)
    if health_port is not None:
        serve_probes(sync.health, health_port, backlog=sync.backlog)
    loop = threading.Thread(target=sync.run, args=(stop,), name="spoke-sync", daemon=True)
    loop.start()
    while loop.is_alive() and not stop.wait(0.5):
        pass
    loop.join(_SHUTDOWN_SECONDS)
    if loop.is_alive():
        logger.warning("a call still hangs; exiting without waiting for it")
        sys.stderr.flush()
        os._exit(0)  # the connection closes, which releases the lock
