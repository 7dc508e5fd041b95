"""A worker's child process: takes one order at a time and runs it. Started by the supervisor, with a socket's number.

It ends when the supervisor closes the socket. A job that is running then is run to its end: its claim is still valid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading

from sqlalchemy.orm import Session

from spoke_jobs.contract.exitcodes import ExitCode
from spoke_jobs.execution.attempt import Surroundings, run_attempt
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql import SqlLedger
from spoke_jobs.logs import configure_logging
from spoke_jobs.model import Claim
from spoke_jobs.registry import load_app
from spoke_jobs.settings import load_settings
from spoke_jobs.worker.wire import Order, Report, decode_order, encode


def serve(connection: socket.socket) -> None:
    """Take orders until there are no more."""
    settings = load_settings()
    engine = create_engine(settings.database_url.get_secret_value())
    ledger = SqlLedger(engine)
    around = Surroundings(
        ledger,
        load_app(settings.app),
        lambda: Session(engine),
        decide=True,
        # The one way to stop a thread that doesn't look: nothing else runs in this process.
        on_lost=lambda _reason: os._exit(ExitCode.SUPERSEDED),
    )
    cancel = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: cancel.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to us too; the supervisor decides
    with contextlib.suppress(OSError):  # the supervisor is gone; what ran here is in the ledger
        connection.sendall(encode(Report()))
        for line in connection.makefile("rb"):
            connection.sendall(encode(Report(_run(decode_order(line), around, cancel))))


def _run(order: Order, around: Surroundings, cancel: threading.Event) -> ExitCode:
    job = around.ledger.get(order.job_id)
    if job is None:
        return ExitCode.SUPERSEDED
    return run_attempt(Claim(job, order.number, order.token, order.lease_seconds), around, cancel).exit_code


if __name__ == "__main__":
    configure_logging()
    with socket.socket(fileno=int(sys.argv[1])) as connected:
        serve(connected)
