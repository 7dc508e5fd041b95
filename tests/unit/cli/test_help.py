"""`--help` on terminals of any width."""

from __future__ import annotations

import pytest
from tests.commands import run_command

from spoke_jobs.cli.command_line import PANELS


@pytest.mark.parametrize("width", [50, 80, 120])
def test_no_command_s_sentence_is_cut_off(width: int) -> None:
    result = run_command(["--help"], terminal_width=width)
    words = " ".join(result.stdout.split())
    for command in (command for commands in PANELS.values() for command in commands):
        sentence = " ".join((command.__doc__ or "").split()).split(". ")[0]
        assert sentence in words
    assert "..." not in result.stdout.replace("[ARGS]...", "")
    assert max(map(len, result.stdout.splitlines())) <= width
