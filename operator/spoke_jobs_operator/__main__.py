"""``python -m spoke_jobs_operator``: run the operator, configured by ``SPOKE_OPERATOR_*``, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from spoke_jobs.shared import garbage_collection

with garbage_collection.paused():
    import uvloop
    from pydantic import ValidationError

    from spoke_jobs.shared import validation_text
    from spoke_jobs.shared.clean_text import visible

    from .operator_settings import Settings, old_names_warnings
    from .shell.process import operator_logs, operator_process
    from .shell.standby.standby_pods import UnusableKey

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

logger = logging.getLogger("spoke_jobs_operator")


def main() -> None:
    """Run the operator. Exit codes: 0 after SIGTERM or SIGINT, 1 after lost leadership or an error, 2: bad settings."""
    try:
        settings = Settings()
    except ValidationError as error:
        for line in (*map(_described, error.errors()), *old_names_warnings(os.environ)):
            sys.stderr.write(f"{visible(line)}\n")  # noqa: TID251 (no command line)
        raise SystemExit(2) from None
    operator_logs.configure(settings.log_level, settings.log_format)
    for warning in old_names_warnings(os.environ):
        logger.warning("%s", warning)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_run_until_signal(settings))
    # Don't wait for kopf's thread, which may still be closing its connections.
    logging.shutdown()
    os._exit(code)


def _described(item: ErrorDetails) -> str:
    """Name the setting, its value and what is expected. The message of an error about several settings names them."""
    if not item["loc"]:
        return item["msg"].removeprefix("Value error, ")
    name = str(item["loc"][0])
    return f"SPOKE_OPERATOR_{name.upper()}{validation_text.setting(item, Settings.model_fields[name])}"


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
    except (UnusableKey, operator_process.TracesUnavailable) as error:
        logger.error("%s", error)  # noqa: TRY400  (it says what to do)
        return 2
    except Exception:
        logger.exception("unexpected error; exiting")
        return 1
    return 0


if __name__ == "__main__":
    main()
