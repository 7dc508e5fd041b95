"""The stacks that an attempt that timed out leaves."""

from __future__ import annotations

import threading

from tests.waiting import patient

from spoke_jobs.execution.thread_stacks import thread_stacks


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
            text = thread_stacks(last.ident)
            assert text.count("in hangs_here") == 2
            assert text.rindex(f"Thread {last.name}:") == text.rindex("Thread ")
            assert "test_the_job_s_thread_comes_last" not in text
    finally:
        over.set()
        for thread in threads:
            thread.join()
