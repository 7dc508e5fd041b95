"""``python -m spoke_jobs_operator``: run the operator, configured by ``SPOKE_OPERATOR_*``, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import uvloop
from pydantic import ValidationError

from .operator_settings import Settings
from .shell import operator_logs, operator_process

logger = logging.getLogger("spoke_jobs_operator")


def main() -> None:
    """Run the operator. Exit codes: 0 after SIGTERM or SIGINT, 1 after lost leadership or an error, 2: bad settings."""
    try:
        settings = Settings()
    except ValidationError as error:
        for item in error.errors():
            sys.stderr.write(f"{_named(item['loc'])}{item['msg']}\n")
        raise SystemExit(2) from None
    operator_logs.configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_run_until_signal(settings))
    # Don't wait for kopf's thread, which may still be closing its connections.
    logging.shutdown()
    os._exit(code)


def _named(location: tuple[int | str, ...]) -> str:
    """Return the setting that an error concerns; empty if it concerns several: the message then names them."""
    return f"SPOKE_OPERATOR_{'_'.join(map(str, location)).upper()}: " if location else ""


async def _run_until_signal(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(operator_process.run(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        logger.info("stopped")
        return 0
    except operator_process.LostLeadership:  # already logged; Kubernetes restarts the process, as a standby
        return 1
    except Exception:
        logger.exception("unexpected error; exiting")
        return 1
    return 0


if __name__ == "__main__":
    main()
