"""`tasks`: run tasks, the process of the task deployment."""

from __future__ import annotations

import os
import signal
import threading

from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.cli.commands.exits import Exit, fail, logs_errors
from spoke_jobs.loader import check_runner, load_runner
from spoke_jobs.settings import load_settings
from spoke_jobs.shared import garbage_collection


@logs_errors
def tasks() -> None:
    """Run tasks that arrive over HTTP or in the outbox, until SIGTERM: the process of the task deployment."""
    # PID 1 of a container ignores a signal that it has no handler for. Until the server installs its own handler, this
    # one exits at once, which loses nothing. When the server has stopped, it raises a second signal again. This handler
    # then ignores the signal, because exiting at once would lose tasks.
    served = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: None if served.is_set() else os._exit(143))
    from spoke_jobs import dispatch
    from spoke_jobs.execution.pod import leave

    try:
        with garbage_collection.paused():
            from spoke_jobs.tasks.server.serve import serve
    except ModuleNotFoundError as error:
        fail(f"`spoke-jobs tasks` needs the Python package {error.name!r}: pip install 'spoke-jobs[tasks]'")
    settings = load_settings()
    check_runner(settings)
    registry = open_application(settings, with_traceback=True)
    if "job_runner" in settings.model_fields_set:  # without it, tasks that dispatch nothing need no database
        load_runner(settings, registry)
    in_order = serve(registry, settings, on_begin=served.set)
    signal.signal(signal.SIGTERM, before)
    leave(Exit.DONE if in_order else Exit.RESTART, dispatch.close)  # even if a task left threads running
