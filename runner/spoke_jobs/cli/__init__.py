"""The program ``spoke-jobs``.

`commands` reads and changes jobs, :mod:`spoke_jobs.explain` decides what to say, `rendering` formats it, and `printing`
prints it.
"""

from __future__ import annotations

import sys

from spoke_jobs.shared import garbage_collection


def main() -> None:
    """Run the command line: the entry point of the console script and of ``python -m spoke_jobs``."""
    garbage_collection.pause()
    if sys.argv[1:] == ["run"]:
        from spoke_jobs.cli.commands.run_command import run

        run()
    from spoke_jobs.cli.printing import print_traceback

    sys.excepthook = print_traceback  # before typer is imported, which calls the hook that it finds
    from spoke_jobs.cli.command_line import build_program

    program = build_program(sys.argv[1:])
    garbage_collection.resume()
    program(prog_name="spoke-jobs")
