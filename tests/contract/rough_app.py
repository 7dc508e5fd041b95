"""An application whose jobs behave badly in every way that a worker must bear."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from sqlalchemy import MetaData

from spoke_jobs import JobContext, Registry, RetryPolicy

registry = Registry()
newer_registry = Registry()
"""What a later release declares."""
metadata = MetaData()
EAGER = RetryPolicy(backoff_seconds=0)


def say_pid(ctx: JobContext) -> None:
    ctx.progress(1, f"pid {os.getpid()}")


@registry.job("succeed")
def succeed(_ctx: JobContext, payload: Any) -> Any:
    return payload


@registry.job("raise", retry=EAGER)
def raise_(_ctx: JobContext, _payload: Any) -> None:
    raise ValueError("no")


@registry.job("sys_exit", retry=EAGER)
def sys_exit(_ctx: JobContext, _payload: Any) -> None:
    sys.exit(3)


@registry.job("os_exit", retry=EAGER)
def os_exit(_ctx: JobContext, _payload: Any) -> None:
    os._exit(3)


@registry.job("exit_zero", retry=EAGER)
def exit_zero(_ctx: JobContext, _payload: Any) -> None:
    os._exit(0)


@registry.job("kill_itself", retry=EAGER)
def kill_itself(_ctx: JobContext, _payload: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@registry.job("hang_once", retry=EAGER)
def hang_once(ctx: JobContext, _payload: Any) -> str:
    """Hang for good at the first attempt."""
    if ctx.attempt == 1:
        say_pid(ctx)
        while True:
            time.sleep(3600)
    return "at last"


@registry.job("until_cancelled", retry=EAGER)
def until_cancelled(ctx: JobContext, _payload: Any) -> str:
    """Clean up when asked to stop."""
    say_pid(ctx)
    while not ctx.cancelled:
        time.sleep(0.01)
    return "cleaned up"


@newer_registry.job("newer")
def newer(_ctx: JobContext, _payload: Any) -> None: ...
