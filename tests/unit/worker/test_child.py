"""A child's loop, with jobs that would confuse it."""

from __future__ import annotations

import subprocess
import sys

from tests.waiting import patient

FORKING = """
import os, socket, threading
from uuid import uuid4
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.execution.attempt import AttemptEnd
from spoke_jobs.worker.child import OrderLoop
from spoke_jobs.worker.child_messages import Order, decode, encode

supervisor, connection = socket.socketpair()
supervisor.sendall(encode(Order(1, 1, uuid4(), 60.0)))
supervisor.shutdown(socket.SHUT_WR)

def run(order, cancel):
    copy = os.fork()
    if copy:
        print("the copy ended with", os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]), flush=True)
    return AttemptEnd(ExitCode.DONE, trace_id="a" * 32)

OrderLoop(connection, run).run()
connection.close()
reports = [decode(line) for line in supervisor.recv(4096).splitlines()]
print("reports:", *[(report.exit_code, report.trace_id[:1]) for report in reports])
"""


def test_a_copy_that_a_job_forked_ends_where_the_job_returns() -> None:
    """Else it reports in the child's place, and takes orders beside it."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=patient(60), check=True
    )
    assert done.stdout.splitlines() == ["the copy ended with 1", "reports: (None, '') (0, 'a')"]


LEAVING = """
import signal, socket, time
from uuid import uuid4
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.execution.attempt import AttemptEnd
from spoke_jobs.worker.child import OrderLoop
from spoke_jobs.worker.child_messages import Order, encode

supervisor, connection = socket.socketpair()
for number in (1, 2):
    supervisor.sendall(encode(Order(number, 1, uuid4(), 60.0)))
supervisor.shutdown(socket.SHUT_WR)
handler = signal.getsignal(signal.SIGTERM)

def run(order, cancel):
    if order.job_id == 1:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.setitimer(signal.ITIMER_PROF, 0.2)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        return AttemptEnd(ExitCode.DONE)
    print("timers", signal.getitimer(signal.ITIMER_REAL)[0], signal.getitimer(signal.ITIMER_PROF)[0])
    print("alarm", signal.getsignal(signal.SIGALRM) is signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
    print("asked to stop", cancel.is_set())
    return AttemptEnd(ExitCode.DONE)

OrderLoop(connection, run).run()
connection.close()
"""


def test_no_timer_handler_or_blocked_signal_of_a_job_is_left_for_the_next() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVING], capture_output=True, text=True, timeout=patient(60), check=True
    )
    assert done.stdout.splitlines() == ["timers 0.0 0.0", "alarm True", "asked to stop True"]


STEALING = """
import os, socket, sys
from spoke_jobs.worker import __main__, child
from spoke_jobs.worker.child_messages import Report, encode

supervisor, connection = socket.socketpair()
supervisor.sendall(b"an order")

def serve(connection, shared, output):
    copy = os.fork()
    if copy == 0:
        for descriptor in range(3, 64):
            try:
                socket.socket(fileno=os.dup(descriptor)).recv(100, socket.MSG_DONTWAIT)
            except OSError:
                continue
        os._exit(0)
    os.waitpid(copy, 0)
    print("left:", connection.recv(100, socket.MSG_DONTWAIT).decode())

child.serve = serve
shared = os.memfd_create("shared")
os.truncate(shared, 100)
__main__.main("thread", connection.detach(), shared, os.memfd_create("stacks"), os.memfd_create("output"), 1)
"""


def test_a_copy_that_a_job_forked_reads_no_order_of_its_child() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEALING], capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert done.stdout.splitlines() == ["left: an order"], done.stderr
