"""`run`: run one attempt of a job in its pod. For a fast start it imports neither typer nor other commands."""

from __future__ import annotations

from typing import NoReturn


def run() -> NoReturn:
    """Run one attempt of a job: the entrypoint of its pod, started by the operator."""
    from spoke_jobs import dispatch
    from spoke_jobs.cli.commands.application import add_working_directory
    from spoke_jobs.execution.pod import leave
    from spoke_jobs.execution.pod import run as run_attempt
    from spoke_jobs.loader import check_runner
    from spoke_jobs.shared.log_setup import configure_logging

    configure_logging()
    add_working_directory()
    # Only the runner's name is checked: loading the runner would cost each pod its imports. A job that dispatches under
    # a runner that is not fully configured fails at its first dispatch.
    leave(run_attempt(check_runner), dispatch.close)
