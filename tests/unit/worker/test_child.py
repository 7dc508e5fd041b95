"""A child's loop, with jobs that would confuse it."""

from __future__ import annotations

import subprocess
import sys

FORKING = """
import os, socket, threading
from uuid import uuid4
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.worker.child import OrderLoop
from spoke_jobs.worker.child_messages import Order, encode

supervisor, connection = socket.socketpair()
supervisor.sendall(encode(Order(1, 1, uuid4(), 60.0)))
supervisor.shutdown(socket.SHUT_WR)

def run(order, cancel):
    copy = os.fork()
    if copy:
        print("the copy ended with", os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]), flush=True)
    return ExitCode.DONE

OrderLoop(connection, run, lambda order: None).run()
connection.close()
print("reports:", supervisor.recv(4096).count(b"exit_code"))
"""


def test_a_copy_that_a_job_forked_ends_where_the_job_returns() -> None:
    """Else it reports in the child's place, and takes orders beside it."""
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["the copy ended with 1", "reports: 2"]
