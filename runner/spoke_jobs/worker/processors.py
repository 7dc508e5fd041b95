"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of the container, in its own namespace of control groups (version 2): microseconds, or "max", in a period."""


def usable_processors(quota: Path = _QUOTA) -> int:
    """Return the number of processors that this process may use: at least 1, and no more than its container's limit."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        microseconds, period = map(int, quota.read_text().split())
        return max(1, min(allowed, math.ceil(microseconds / period)))
    except (OSError, ValueError, ZeroDivisionError):  # no control groups of version 2, or "max"
        return allowed
