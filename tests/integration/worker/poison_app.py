"""Quick jobs, and a type whose jobs all take down the process that runs them."""

from __future__ import annotations

import os
import signal
import time

from spoke_jobs import JobContext, Registry, RetryPolicy
from spoke_jobs.contract.causes import CauseClass

QUICK_SECONDS = float(os.environ.get("POISON_QUICK_SECONDS", "0.05"))
"""How long a quick job takes. With 0.05 s, a worker holds no orders ahead."""
registry = Registry()
_ONCE = RetryPolicy(budget=dict.fromkeys(CauseClass, 1))
"""In one worker. In the lane `worker`, another attempt would run in a pod anyway."""


@registry.job("quick", lane="worker")
def quick(_ctx: JobContext) -> None:
    time.sleep(QUICK_SECONDS)


@registry.job("also_quick", lane="worker")
def also_quick(_ctx: JobContext) -> None:
    time.sleep(QUICK_SECONDS)


@registry.job("poisonous", lane="worker", retry=_ONCE)
def poisonous(_ctx: JobContext, payload: str) -> None:
    """End as the kernel ends a process, take more memory than a job may, or never end."""
    if payload == "Killed":
        os.kill(os.getpid(), signal.SIGKILL)
    taken = []
    while payload == "OutOfMemory":
        taken.append(b"x" * 2**24)
        time.sleep(0.01)
    time.sleep(600)
