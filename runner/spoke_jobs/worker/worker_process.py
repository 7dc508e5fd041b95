"""The process of ``spoke-jobs worker``: the supervisor with its ledger, notifications, HTTP endpoint and reloads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from spoke_jobs.ledger.notify import listen
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import undeclared_types
from spoke_jobs.registry import Registry
from spoke_jobs.runners.ticker import ticker_of
from spoke_jobs.worker.supervisor import Supervisor
from spoke_jobs.worker.worker_metrics import WorkerMetrics
from spoke_jobs.worker.worker_options import WorkerOptions

logger = logging.getLogger(__name__)

_CHANGES_SECONDS = 1.0
"""The interval between two checks for changed files."""
_IMPORT = (
    "from spoke_jobs.registry import load_app; from spoke_jobs.settings import load_settings; "
    "load_app(load_settings().app)"
)


def types_of(registry: Registry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the ``def`` jobs, and those of the ``async def`` jobs."""
    names = list(registry.jobs)
    loops = tuple(name for name in names if registry.jobs.get(name).is_async)
    return tuple(name for name in names if name not in loops), loops


def declare_limits(ledger: SqlLedger, registry: Registry, app: str) -> None:
    """Store the limits that the application declares, and warn of those whose type it does not declare."""
    for warning in undeclared_types(registry.limits, registry.jobs):
        logger.warning("%s", warning)
    ledger.limits.declare(registry.limits, app)


def run(
    ledger: SqlLedger,
    options: WorkerOptions,
    registry: Registry,
    *,
    health_port: int | None = None,
    reload: bool = False,
    schedules: bool = True,
    organizations: int = 0,
) -> None:
    """Run until told to stop.

    :param health_port: serve ``/healthz`` and ``/metrics`` on this port.
    :param reload: restart when a file of the application's code has changed, as after SIGHUP.
    :param schedules: dispatch the jobs of schedules.
    :param organizations: how many organizations have metrics of their own.
    """
    metrics = WorkerMetrics(poll_seconds=options.poll_seconds, organizations=organizations)
    if health_port is not None:
        from spoke_jobs.worker.worker_endpoint import (
            LedgerReads,
            serve,  # its library is slow to import
        )

        serve(metrics, LedgerReads(ledger, options.runner), health_port)
    changed = _changes() if reload else (lambda: False)
    ticker = ticker_of(ledger, registry, options.runner, metrics.schedule_lag) if schedules else None
    supervisor = Supervisor(ledger, options, listen(ledger.engine), metrics, changed, registry, ticker)
    reloading = supervisor.run()
    ledger.close_notifier()
    if reloading:
        logger.info("restarting")
        os.execv(sys.executable, [sys.executable, "-m", "spoke_jobs", *sys.argv[1:]])  # noqa: S606  (our own command)


def _changes() -> Callable[[], bool]:
    """Return a function that checks whether a loaded module in the working directory has changed on disk.

    It returns True only if the changed application can be imported.
    """
    folder = str(Path.cwd()) + os.sep

    def times() -> dict[str, float]:
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        return {
            file: Path(file).stat().st_mtime
            for file in files
            if file and file.startswith(folder) and "site-packages" not in file and Path(file).exists()
        }

    before, due = times(), time.monotonic() + _CHANGES_SECONDS

    def changed() -> bool:
        nonlocal before, due
        if time.monotonic() < due:
            return False
        due = time.monotonic() + _CHANGES_SECONDS
        now = times()
        if all(before.get(file, when) == when for file, when in now.items()):
            return False
        before = now
        if subprocess.run([sys.executable, "-c", _IMPORT], check=False).returncode == 0:
            return True
        logger.error("could not import the changed application; the worker keeps running the previous code")
        return False

    return changed
