"""Waiting for files that can be read."""

from __future__ import annotations

import math
import os
import socket

import pytest
from tests.many_files import many_files, with_high_number
from tests.waiting import patient

from spoke_jobs.shared.readable_files import readable_of

__all__ = ["many_files"]


@pytest.mark.usefixtures("many_files")
def test_only_what_can_be_read_is_returned() -> None:
    (first, second), (third, low) = socket.socketpair(), socket.socketpair()
    high = with_high_number(low)
    with first, second, third, high:
        assert readable_of([second, high], 0.0) == []
        assert readable_of([second, high], 0.001) == []
        third.send(b".")
        assert readable_of([second, high]) == [high]
        first.send(b".")
        assert set(readable_of([second, high], patient(30))) == {second, high}
        high.recv(1)
        assert readable_of([second, high], -1.0) == [second], "a time that has passed is no wait without an end"
        assert readable_of([second, high], math.inf) == [second]
        third.close()
        assert high in readable_of([second, high], patient(30)), "its other end is closed"


def test_it_waits_for_pipes_too() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as reading, os.fdopen(write, "wb", buffering=0) as writing:
        assert readable_of([reading], 0.0) == []
        writing.write(b".")
        assert readable_of([reading], patient(30)) == [reading]
