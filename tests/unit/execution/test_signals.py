"""An event that a signal's handler sets."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from tests.waiting import patient

from spoke_jobs.execution.signals import SignalEvent


@pytest.fixture
def event() -> Iterator[SignalEvent]:
    event = SignalEvent()
    previous = signal.signal(signal.SIGUSR1, lambda *_: event.set())
    yield event
    signal.signal(signal.SIGUSR1, previous)


def test_a_signal_wakes_who_waits(event: SignalEvent) -> None:
    assert not event.is_set()
    assert not event.wait(0)
    signal.raise_signal(signal.SIGUSR1)
    assert event.is_set()
    assert event.wait(patient(60))


@pytest.mark.timeout(60)
def test_a_signal_that_comes_while_the_event_is_being_looked_at(event: SignalEvent) -> None:
    """Where the handler had to have the lock, this thread would wait for itself. (Of the standard library's event that
    lock is a private matter, and just what this is about.)"""
    with event._cond:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
    assert event.wait(patient(60))
