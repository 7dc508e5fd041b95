"""An application whose jobs behave badly in every way that a worker must bear."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData

from spoke_jobs import CauseClass, JobContext, Registry, RetryPolicy
from spoke_jobs.contract.termination import ExitCode

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


@registry.job("import_script", payload=str)
def import_script(_ctx: JobContext, payload: str) -> None:
    """Read the payload as docs/how-to/migrating.md does."""
    script = json.loads(gzip.decompress(base64.b64decode(payload)))
    Path(script["file"]).write_text(script["words"])


@registry.job("raise", retry=EAGER)
def raise_(_ctx: JobContext, _payload: Any) -> None:
    raise ValueError("no")


@registry.job("fails_once_for_all", retry=RetryPolicy(budget={CauseClass.ERROR: 1}))
def fails_once_for_all(_ctx: JobContext, _payload: Any) -> None:
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


@registry.job("save_and_hang_once", retry=EAGER)
def save_and_hang_once(ctx: JobContext, payload: str) -> list[Any]:
    """Hang for good at the first attempt, after a commit and with a further checkpoint that is not committed.

    Then its process is in a file: on SQLite, no other connection can write any more.
    """
    found = ctx.checkpoint
    done = ctx.step("charge", lambda: f"charged by attempt {ctx.attempt}")
    if ctx.attempt == 1:
        ctx.save({"row": 1})
        ctx.session.commit()
        ctx.save({"row": 2})
        ready = Path(payload)
        ready.with_suffix(".new").write_text(str(os.getpid()))
        ready.with_suffix(".new").rename(ready)
        time.sleep(600)
    return [found, done]


@registry.job("kill_itself_namelessly", retry=EAGER)
def kill_itself_namelessly(_ctx: JobContext, _payload: Any) -> None:
    """By a real-time signal: `signal.Signals` knows none of them."""
    os.kill(os.getpid(), 35)


@registry.job("close_descriptors_once", retry=EAGER)
def close_descriptors_once(ctx: JobContext, payload: str) -> None:
    """Close what isn't the job's own, and live on."""
    if ctx.attempt == 1:
        os.closerange(3, 200)
        Path(payload).touch()
        time.sleep(3600)


@registry.job("leave_process_behind_once", retry=EAGER)
def leave_process_behind_once(ctx: JobContext, how: str) -> None:
    """Be killed while another process lives on that has all the job's descriptors."""
    if ctx.attempt == 1:
        if how == "fork":
            if os.fork() == 0:
                time.sleep(3600)
                os._exit(0)
        else:
            os.system("sleep 3600 &")
        os.kill(os.getpid(), signal.SIGKILL)


@registry.job("inherited_sockets")
def inherited_sockets(_ctx: JobContext, _payload: Any) -> int:
    """How many sockets a process gets that the job starts."""
    done = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=False)
    return done.stdout.count("socket:")


@registry.job("lose_lease_once", retry=EAGER)
def lose_lease_once(ctx: JobContext, _payload: Any) -> None:
    """End as the watchdog does."""
    if ctx.attempt == 1:
        os._exit(ExitCode.SUPERSEDED)


@registry.job("tell")
def tell(ctx: JobContext, _payload: Any) -> list[Any]:
    """Where it runs, and whether it is asked to stop."""
    return [os.getpid(), ctx.cancelled]


@registry.job("until_file", retry=EAGER)
def until_file(ctx: JobContext, payload: str) -> int:
    """Run until a file appears."""
    say_pid(ctx)
    while not Path(payload).exists():
        time.sleep(0.01)
    return ctx.attempt


@registry.job("nothing.*")
def nothing_of_prefix(_ctx: JobContext, _payload: Any) -> None: ...


@newer_registry.job("newer")
def newer(_ctx: JobContext, _payload: Any) -> None: ...
