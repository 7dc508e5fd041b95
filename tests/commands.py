"""Run a command of the command line in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.testing import CliRunner, Result

from spoke_jobs.cli.command_line import build_program


def run_command(arguments: Sequence[str], *, env: dict[str, str] | None = None, **options: Any) -> Result:
    """Run it as the program does: only the command that the arguments name is built.

    :param options: of typer's ``CliRunner.invoke``, such as ``input``.
    """
    return CliRunner().invoke(build_program(arguments), arguments, env=env, **options)
