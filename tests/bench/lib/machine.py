"""Where and when something was measured."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from tests.bench.lib.commit import commit


def machine() -> str:
    """This one, in a few words."""
    return f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}"


def moment() -> str:
    """The date, and the state of this repository."""
    return f"{time.strftime('%Y-%m-%d')}, commit {commit()}"


def _processor() -> str:
    """By its maker's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
