"""A child of a fork inherits no lock that a background thread held inside the gate."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.waiting import patient

from spoke_jobs.shared.fork_gate import ForkGate


def forked(succeeds: Callable[[], bool]) -> int:
    """Fork, and return the exit status of the child: 0 if the function returns True there, in time."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(patient(10)))
        os._exit(0 if succeeds() else 1)
    return os.waitpid(child, 0)[1]


class Library:
    """A lock as a library has it, which threads hold for a moment each."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held = threading.Event()

    def use(self, gate: ForkGate, seconds: float) -> None:
        with gate.inside(), self.lock:
            self.held.set()
            time.sleep(seconds)

    def is_free(self) -> bool:
        return self.lock.acquire(timeout=1)


def test_a_fork_waits_for_threads_that_are_inside() -> None:
    gate, library = ForkGate(patient(30)), Library()
    with ThreadPoolExecutor() as pool:
        using = pool.submit(library.use, gate, 0.3)
        assert library.held.wait(patient(30))
        assert forked(library.is_free) == 0
        using.result()


def test_a_fork_waits_no_longer_than_it_may_but_for_an_import() -> None:
    gate, library, endless = ForkGate(0.05), Library(), threading.Event()

    def stay() -> None:
        with gate.inside():
            endless.wait()

    def import_slowly() -> None:
        with gate.inside(), gate.importing:
            library.use(gate, 0.5)

    with ThreadPoolExecutor() as pool:
        staying, importing = pool.submit(stay), pool.submit(import_slowly)
        try:
            assert library.held.wait(patient(30))
            assert forked(library.is_free) == 0
        finally:
            endless.set()
        staying.result()
        importing.result()


def test_after_a_slow_import_a_fork_waits_for_the_first_use_of_the_library() -> None:
    gate, library = ForkGate(1.0), Library()

    def import_and_use() -> None:
        with gate.inside():
            with gate.importing:
                library.held.set()
                time.sleep(1.5)
                library.lock.acquire()
            time.sleep(0.3)
            library.lock.release()

    with ThreadPoolExecutor() as pool:
        using = pool.submit(import_and_use)
        assert library.held.wait(patient(30))
        assert forked(library.is_free) == 0
        using.result()


def test_after_a_fork_threads_enter_in_parent_and_child_also_if_it_was_made_inside() -> None:
    gate = ForkGate(patient(30))

    def enters() -> bool:
        entered = threading.Event()

        def enter() -> None:
            with gate.inside():
                entered.set()

        threading.Thread(target=enter).start()
        return entered.wait(5)

    assert forked(enters) == 0
    assert enters()
    began = time.monotonic()
    with gate.inside():
        assert forked(enters) == 0
    assert enters()
    assert time.monotonic() - began < patient(25), "it has not waited for itself"
