"""The program ``spoke-jobs``.

`commands` reads and changes jobs, :mod:`spoke_jobs.explain` decides what to say, `rendering` formats it, and `printing`
prints it.

A command is a module of `commands/` and a word in `PANELS` of `command_line.py`; then `make generate`. Texts for people
go through `printing.py`, which escapes control characters. Generated pages: `reference/`.
"""

from __future__ import annotations

import os
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

    _replace_closed_streams()
    program = build_program(sys.argv[1:])
    garbage_collection.resume()
    program(prog_name="spoke-jobs")


def _replace_closed_streams() -> None:
    """Let what is written to a stream that the caller has closed (`>&-`) go nowhere. Python has None in its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  (until the end)
