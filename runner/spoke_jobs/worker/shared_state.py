"""Memory that a child shares with its supervisor, which reads it when the child can no longer report.

A child sends nothing once it has died, or while its interpreter or event loop is blocked. The shared state still names
the attempt whose code was running, the time at which the first of the child's leases lapses, whether the child waits
for the database to renew them, how much memory earlier attempts have left, and how much of its jobs' output it has
copied to the log. An async child also lists the attempts that it has begun and not yet reported. Each attempt has a
phase: its payload is read first, then its function runs, then its end is recorded.

The supervisor writes one field: when it last learned that a limit or a pause has changed.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import tempfile
import time
from uuid import UUID

from spoke_jobs.execution.lease_keeper import LeaseObserver

_SIZE = 65
_NOBODY = bytes(16)
_PLACE = len(_NOBODY) + 1
"""The bytes of a listed attempt: its token, and its phase."""
_DOUBLE, _INTEGER = struct.Struct("=d"), struct.Struct("=q")
_SINCE, _DEADLINE, _UNANSWERED, _COPIED, _LIMITS_CHANGED, _LEFT, _PHASE = 16, 24, 32, 40, 48, 56, 64
_NOT_CALLED, _CALLED, _ENDED = range(3)
"""The phases of an attempt: its function is not called yet, runs, has returned or raised."""


class SharedState(LeaseObserver):
    """Memory that the child writes, but for one field, and the supervisor reads. Reads may be inexact: see `at`."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, 0)
        self._phases = _SIZE + (len(self._memory) - _SIZE) // _PLACE * len(_NOBODY)
        """Where the list of attempts ends, and that of their phases begins."""

    @classmethod
    def make(cls, attempts: int = 0) -> tuple[SharedState, int]:
        """Create shared memory. Returns it and a file descriptor, which a child opens.

        :param attempts: how many attempts it can list.
        """
        with tempfile.TemporaryFile() as file:
            file.truncate(_SIZE + attempts * _PLACE)
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
        self._memory[_PHASE] = _NOT_CALLED
        _DOUBLE.pack_into(self._memory, _SINCE, time.monotonic())
        self._memory[:16] = token.bytes

    def leave(self) -> None:
        """Note that no attempt's code runs."""
        self._memory[:16] = _NOBODY

    def add(self, token: UUID) -> None:
        """List an attempt."""
        for place in range(_SIZE, self._phases, len(_NOBODY)):
            if self._memory[place : place + len(_NOBODY)] == _NOBODY:
                self._memory[self._phase(place)] = _NOT_CALLED
                self._memory[place : place + len(_NOBODY)] = token.bytes
                return

    def remove(self, token: UUID) -> None:
        """List an attempt no longer."""
        if (place := self._place(token)) >= 0:
            self._memory[place : place + len(_NOBODY)] = _NOBODY

    def lists(self, token: UUID) -> bool:
        """Whether the attempt is listed."""
        return self._place(token) >= 0

    def function_begins(self, token: UUID) -> None:
        """Note that the attempt's function is called. In a child that runs one at a time, its time begins now."""
        if not self.lists(token):
            _DOUBLE.pack_into(self._memory, _SINCE, time.monotonic())
        self._memory[self._phase_of(token)] = _CALLED

    def function_ended(self, token: UUID) -> None:
        """Note that the attempt's function has returned or raised, and its end is being recorded."""
        self._memory[self._phase_of(token)] = _ENDED

    def is_called(self, token: UUID) -> bool:
        """Whether the function of this attempt, which is listed or runs, was called and has not ended."""
        return self._memory[self._phase_of(token)] == _CALLED

    def has_ended(self, token: UUID) -> bool:
        """Whether the function of this attempt, which is listed or runs, has returned or raised."""
        return self._memory[self._phase_of(token)] == _ENDED

    def _place(self, token: UUID) -> int:
        """Where the attempt is listed; -1 if it is not."""
        return self._memory.find(token.bytes, _SIZE, self._phases)

    def _phase(self, place: int) -> int:
        return self._phases + (place - _SIZE) // len(_NOBODY)

    def _phase_of(self, token: UUID) -> int:
        return _PHASE if (place := self._place(token)) < 0 else self._phase(place)

    def lease_ends(self, moment: float) -> None:
        """Note when the first lease of the running attempts lapses, on the monotonic clock."""
        _DOUBLE.pack_into(self._memory, _DEADLINE, moment)

    def heartbeat_unanswered(self, unanswered: bool) -> None:
        """Note whether the database has not answered the last heartbeat, or not yet."""
        self._memory[_UNANSWERED] = unanswered

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
    def running_seconds(self) -> float:
        """For how many seconds the attempt has run whose code runs; 0 if there is none.

        The supervisor asks this of each child for each job that it claims. It makes no UUID, as :attr:`at` does.
        """
        if self._memory[:16] == _NOBODY:
            return 0.0
        return time.monotonic() - float(_DOUBLE.unpack_from(self._memory, _SINCE)[0])

    @property
    def deadline(self) -> float:
        """See :meth:`lease_ends`."""
        return float(_DOUBLE.unpack_from(self._memory, _DEADLINE)[0])

    def limits_change(self) -> None:
        """Note that a limit or a pause has changed. The supervisor calls this."""
        _DOUBLE.pack_into(self._memory, _LIMITS_CHANGED, time.monotonic())

    def outdated(self, claimed: float | None) -> bool:
        """Whether a limit has changed since a claim. The child then asks whether the job is paused before it starts.

        :param claimed: the time of the claim, on the monotonic clock.
        """
        return claimed is None or claimed <= float(_DOUBLE.unpack_from(self._memory, _LIMITS_CHANGED)[0])

    @property
    def unanswered(self) -> bool:
        """See :meth:`heartbeat_unanswered`."""
        return bool(self._memory[_UNANSWERED])

    @property
    def memory_left(self) -> int:
        """How many bytes of memory the child had at the begin of its last attempt, beyond those before its first."""
        return int(_INTEGER.unpack_from(self._memory, _LEFT)[0])

    @memory_left.setter
    def memory_left(self, size: int) -> None:
        _INTEGER.pack_into(self._memory, _LEFT, size)

    @property
    def output_copied(self) -> int:
        """How many bytes of the file with its jobs' output the child has copied to the worker's log."""
        return int(_INTEGER.unpack_from(self._memory, _COPIED)[0])

    @output_copied.setter
    def output_copied(self, size: int) -> None:
        _INTEGER.pack_into(self._memory, _COPIED, size)
