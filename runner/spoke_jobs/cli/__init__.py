"""``spoke-jobs``: the command line. ``run``, a pod's entrypoint, starts without the rest of it."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """The console script's entry."""
    if sys.argv[1:] == ["run"]:
        gc.disable()  # what is imported stays: looking through it for garbage is a tenth of a pod's start
        from spoke_jobs import dispatch
        from spoke_jobs.execution.pod import leave, run
        from spoke_jobs.process.log_setup import configure_logging

        configure_logging()
        leave(run(), dispatch.close)
    from spoke_jobs.cli.command_line import app

    app(prog_name="spoke-jobs")
