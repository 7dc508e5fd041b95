"""The program ``spoke-jobs``: `commands` reads, `explaining` decides what to say, and `rendering` prints it."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line: the entry point of the console script and of ``python -m spoke_jobs``."""
    if sys.argv[1:] == ["run"]:
        gc.disable()  # imported modules are never freed: collecting among them takes a tenth of a pod's start
        from spoke_jobs.cli.commands.run_command import run

        run()
    from spoke_jobs.cli.command_line import app

    app(prog_name="spoke-jobs")
