"""Memory that a child shares with its supervisor, which reads it when the child can no longer report.

A child sends nothing once it has died, or while its interpreter or event loop is blocked. The shared state still names
the attempt whose code was running, and the time at which the first of the child's leases expires.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import tempfile
import time
from uuid import UUID

_SIZE = 32
_NOBODY = bytes(16)
_DOUBLE = struct.Struct("=d")
_SINCE, _DEADLINE = 16, 24


class SharedState:
    """Memory that the child writes and the supervisor reads. Reads may be inexact: see :attr:`at`."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)

    @classmethod
    def make(cls) -> tuple[SharedState, int]:
        """Create shared memory. Returns it and a file descriptor, which a child opens."""
        with tempfile.TemporaryFile() as file:
            file.truncate(_SIZE)
            shared = cls(file.fileno())
            shared.lease_ends(math.inf)
            return shared, os.dup(file.fileno())

    @classmethod
    def open(cls, descriptor: int) -> SharedState:
        """Open the shared memory that the supervisor created."""
        shared = cls(descriptor)
        os.close(descriptor)  # processes that a job starts must not inherit it
        return shared

    def enter(self, token: UUID) -> None:
        """Note that this attempt's code runs from now on, in the process or in a step of its event loop."""
        _DOUBLE.pack_into(self._memory, _SINCE, time.monotonic())
        self._memory[:16] = token.bytes

    def leave(self) -> None:
        """Note that no attempt's code runs."""
        self._memory[:16] = _NOBODY

    def lease_ends(self, moment: float) -> None:
        """Note when the first lease of the running attempts expires, on the monotonic clock."""
        _DOUBLE.pack_into(self._memory, _DEADLINE, moment)

    @property
    def at(self) -> tuple[UUID | None, float]:
        """The attempt whose code runs, and for how many seconds it has run.

        The child does not write the two fields atomically. A read during a write may combine old and new values.
        """
        token = self._memory[:16]
        if token == _NOBODY:
            return None, 0.0
        return UUID(bytes=token), time.monotonic() - float(_DOUBLE.unpack_from(self._memory, _SINCE)[0])

    @property
    def deadline(self) -> float:
        """See :meth:`lease_ends`."""
        return float(_DOUBLE.unpack_from(self._memory, _DEADLINE)[0])
