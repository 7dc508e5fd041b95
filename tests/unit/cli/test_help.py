"""`--help` on terminals of any width."""

from __future__ import annotations

import pytest
import typer
from tests.commands import run_command
from typer.testing import CliRunner

from spoke_jobs.cli.command_line import build_program


@pytest.mark.parametrize("width", [50, 80, 120])
def test_no_command_s_sentence_is_cut_off(width: int) -> None:
    result = run_command(["--help"], terminal_width=width)
    words = " ".join(result.stdout.split())
    for command in typer.main.get_command(build_program([])).commands.values():  # type: ignore[attr-defined]
        sentence = " ".join((command.help or "").split()).split(". ")[0]
        assert sentence
        assert sentence in words
    assert "..." not in result.stdout.replace("[ARGS]...", "")
    assert max(map(len, result.stdout.splitlines())) <= width


def test_built_alone_each_command_is_as_in_the_whole_program() -> None:
    program = build_program([])
    whole = typer.main.get_command(program).commands  # type: ignore[attr-defined]
    assert {"ls", "limits"} <= set(whole)
    for name in whole:
        narrowed = typer.main.get_command(build_program([name, "--help"])).commands  # type: ignore[attr-defined]
        assert list(narrowed) == [name]
        assert run_command([name, "--help"]).stdout == CliRunner().invoke(program, [name, "--help"]).stdout
    for arguments in (["lss"], ["--help"], ["run_now"]):
        assert list(typer.main.get_command(build_program(arguments)).commands) == list(whole)  # type: ignore[attr-defined]
