"""Memory that a child shares with its supervisor, which reads it when the child can no longer report.

A child that died, or whose interpreter or event loop is blocked, sends nothing. The shared state still tells which
attempt's code was running there, and when the first of its leases expires.
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
    """Written by the child, read by the supervisor; a field is never half written where it matters (see ``at``)."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)

    @classmethod
    def make(cls) -> tuple[SharedState, int]:
        """A new one, and the descriptor by which a child opens the same."""
        with tempfile.TemporaryFile() as file:
            file.truncate(_SIZE)
            shared = cls(file.fileno())
            shared.lease_ends(math.inf)
            return shared, os.dup(file.fileno())

    @classmethod
    def open(cls, descriptor: int) -> SharedState:
        """The one that the supervisor made."""
        shared = cls(descriptor)
        os.close(descriptor)  # what a job starts or leaves behind has no use for it
        return shared

    def enter(self, token: UUID) -> None:
        """This attempt's code has the event loop (or the process, where that runs one at a time) from now on."""
        _DOUBLE.pack_into(self._memory, _SINCE, time.monotonic())
        self._memory[:16] = token.bytes

    def leave(self) -> None:
        """No attempt's code has it."""
        self._memory[:16] = _NOBODY

    def lease_ends(self, moment: float) -> None:
        """When the first lease ends of what still runs, on the monotonic clock."""
        _DOUBLE.pack_into(self._memory, _DEADLINE, moment)

    @property
    def at(self) -> tuple[UUID | None, float]:
        """Whose code has it, and for how long: exact once that lasts, or the child is dead."""
        token = self._memory[:16]
        if token == _NOBODY:
            return None, 0.0
        return UUID(bytes=token), time.monotonic() - float(_DOUBLE.unpack_from(self._memory, _SINCE)[0])

    @property
    def deadline(self) -> float:
        """See :meth:`lease_ends`."""
        return float(_DOUBLE.unpack_from(self._memory, _DEADLINE)[0])
