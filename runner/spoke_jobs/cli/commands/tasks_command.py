"""`tasks`: run tasks, the process of the task deployment."""

from __future__ import annotations

import os
import signal
import threading

from spoke_jobs.cli.commands.application import load_application
from spoke_jobs.cli.commands.exits import Exit, fail, reports_errors
from spoke_jobs.contract.log_setup import configure_logging
from spoke_jobs.settings import load_settings


@reports_errors
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
        from spoke_jobs.tasks.server.auth import callers_of
        from spoke_jobs.tasks.server.serve import ServerOptions, serve
    except ModuleNotFoundError as error:
        fail(f"`spoke-jobs tasks` needs the Python package {error.name!r}: pip install 'spoke-jobs[tasks]'")
    configure_logging()
    settings = load_settings()
    in_order = serve(
        load_application(settings),
        callers_of(settings),
        ServerOptions(
            host=settings.tasks_host,
            port=settings.tasks_port,
            concurrency=settings.tasks_concurrency,
            queue_length=settings.tasks_queue,
            grace_seconds=settings.tasks_grace_seconds,
            hung_seconds=settings.tasks_hung_seconds,
            database_url=settings.database_url.get_secret_value(),
            lease_seconds=settings.lease_seconds,
            poll_seconds=settings.poll_seconds,
        ),
        on_begin=served.set,
    )
    signal.signal(signal.SIGTERM, before)
    leave(Exit.DONE if in_order else Exit.RESTART, dispatch.close)  # even if a task left threads running
