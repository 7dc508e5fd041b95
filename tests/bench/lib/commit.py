"""Which state of this repository is measured."""

from __future__ import annotations

import subprocess

from tests.bench.lib.settings import REPOSITORY


def commit() -> str:
    """Its commit, `-dirty` if something was changed since."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"
