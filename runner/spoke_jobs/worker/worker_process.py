"""``spoke-jobs worker`` as a process: the supervisor with its database, its bell, its endpoint, its reloads."""

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
from spoke_jobs.registry import Registry
from spoke_jobs.worker.supervisor import Supervisor
from spoke_jobs.worker.worker_endpoint import serve
from spoke_jobs.worker.worker_metrics import WorkerMetrics
from spoke_jobs.worker.worker_options import WorkerOptions

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_IMPORT = (
    "from spoke_jobs.registry import load_app; from spoke_jobs.settings import load_settings; "
    "load_app(load_settings().app)"
)


def types_of(registry: Registry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the ``def`` jobs, and of the ``async def`` ones."""
    names = list(registry.jobs)
    loops = tuple(name for name in names if registry.jobs.get(name).is_async)
    return tuple(name for name in names if name not in loops), loops


def run(ledger: SqlLedger, options: WorkerOptions, *, health_port: int | None = None, reload: bool = False) -> None:
    """Work until told to stop.

    :param health_port: answer ``/healthz`` and ``/metrics`` there.
    :param reload: start anew when a file of the application's code has changed, as SIGHUP does.
    """
    metrics = WorkerMetrics(poll_seconds=options.poll_seconds)
    if health_port is not None:
        serve(metrics, lambda: ledger.backlog(options.runner), health_port)
    changed = _changes() if reload else (lambda: False)
    supervisor = Supervisor(ledger, options, listen(ledger.engine), metrics, changed)
    if supervisor.run():
        logger.info("starting anew")
        os.execv(sys.executable, [sys.executable, "-m", "spoke_jobs", *sys.argv[1:]])  # noqa: S606  (ourselves)


def _changes() -> Callable[[], bool]:
    """Tells whether a module that is loaded from beneath the working folder has another time than at the start."""
    folder = str(Path.cwd()) + os.sep

    def times() -> dict[str, float]:
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        return {
            file: Path(file).stat().st_mtime
            for file in files
            if file and file.startswith(folder) and "site-packages" not in file and Path(file).exists()
        }

    before, due = times(), time.monotonic() + _LOOK_SECONDS

    def changed() -> bool:
        nonlocal before, due
        if time.monotonic() < due:
            return False
        due = time.monotonic() + _LOOK_SECONDS
        now = times()
        if all(before.get(file, when) == when for file, when in now.items()):
            return False
        before = now
        if subprocess.run([sys.executable, "-c", _IMPORT], check=False).returncode == 0:
            return True
        logger.error("the application can't be imported as it is now: the worker goes on with what it has")
        return False

    return changed
