"""The stacks that an attempt that timed out leaves."""

from __future__ import annotations

import subprocess
import sys
import threading

from tests.waiting import patient

from spoke_jobs.shared.thread_stacks import stacks_of_others


def hangs_here(started: threading.Event, over: threading.Event) -> None:
    started.set()
    over.wait(patient(60))


def test_the_job_s_thread_comes_last_and_the_asking_thread_not_at_all() -> None:
    over = threading.Event()
    threads = []
    for name in ("first", "second"):
        started = threading.Event()
        threads.append(threading.Thread(target=hangs_here, args=(started, over), name=name))
        threads[-1].start()
        assert started.wait(patient(60))
    try:
        for last in threads:
            assert last.ident is not None
            text = stacks_of_others(last.ident)
            assert text.count("in hangs_here") == 2
            assert text.rindex(f"Thread {last.name}:") == text.rindex("Thread ")
            assert "test_the_job_s_thread_comes_last" not in text
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_process_whose_threads_come_and_go_does_not_hang() -> None:
    """Although there is garbage each time, with a finalizer during which another thread runs."""
    program = """
import faulthandler, gc, sys, threading, time
from spoke_jobs.shared.thread_stacks import stack_of

class Garbage:
    def __init__(self):
        self.itself = self
    def __del__(self):
        time.sleep(0.001)

def come_and_go():
    while True:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True)
threading.Thread(target=come_and_go, daemon=True).start()
gc.set_threshold(1)
for _ in range(100):
    gc.disable()
    Garbage()
    gc.enable()
    assert 'in <module>' in stack_of(threading.current_thread())
    assert gc.isenabled()
"""
    command = [sys.executable, "-c", program, str(patient(60))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
