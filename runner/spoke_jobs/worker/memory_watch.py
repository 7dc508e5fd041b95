"""Bound the memory of a worker's children: end an attempt whose process has taken more than it may.

The kernel ends all processes of a container that runs out of memory. So a job that takes too much is ended before, and
the worker's other jobs run on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.quantities import in_bytes, in_mebibytes
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.process_memory import ProcessMemory
from spoke_jobs.model import AttemptUsage, JobOptions
from spoke_jobs.worker.child_pool import Child, ChildKind, ChildPool, KillReason

Measure = Callable[[int, int], int]
"""Returns how many bytes of memory a process and its descendants have. Above a bound, it counts exactly."""

_SECONDS = 0.1
"""The interval between two measurements of a child that runs a job."""


def bound_of(options: JobOptions, most: int | None) -> int | None:
    """Return how many bytes of memory an attempt may take in a worker; None: any.

    :param most: the worker's bound for each job. A job's own limit (option ``resources``) may only be lower.
    """
    limits = options.resources.get("limits") if isinstance(options.resources, Mapping) else None
    stated: Any = limits.get("memory") if isinstance(limits, Mapping) else None
    own = in_bytes(str(stated)) if stated is not None else None
    bounds = [bound for bound in (most, None if own is None else int(own)) if bound]
    return min(bounds, default=None)


def keeps_too_much(at_start: int, between: int, bound: int) -> bool:
    """Whether jobs have left so much memory in a child that the next one would soon pass its bound.

    :param at_start: what the child had before its first job.
    :param between: what it has now, between two jobs.
    """
    return between > at_start + (bound - at_start) / 2


def allowed_beside(left: int, own: int, most: int | None) -> int:
    """Return how many bytes a child may have while it runs a job with a limit of its own.

    What earlier jobs left does not count towards that limit, up to as much as the limit itself: the kernel would end
    all children if these kept ever more.

    :param left: how many bytes earlier jobs have left.
    :param own: the job's own limit.
    :param most: the worker's bound; None: any.
    """
    allowed = own + min(left, own)
    return allowed if most is None else min(allowed, most)


def text_of(used: int, bound: int, left: int = 0) -> str:
    """Say that an attempt has taken more memory than it may.

    :param left: how much of it earlier jobs had left.
    """
    earlier = f", {_amount(left)} of which earlier jobs had left" if left else ""
    return f"the job's process had {_amount(used)} of memory{earlier}; the limit in this worker is {_amount(bound)}"


def _amount(size: int) -> str:
    return in_mebibytes(Decimal(size))


@dataclass
class MemoryWatch:
    """Measures the children of a pool, on a background thread."""

    pool: ChildPool
    kill: Callable[[Child, KillReason], None]
    bound: int | None = None
    """How many bytes each child may have; None: any. A job's own limit may be lower."""
    measure: Measure = ProcessMemory().of

    def __post_init__(self) -> None:
        self._over = threading.Event()

    def start(self) -> None:
        """Start the background thread, until :meth:`stop`."""
        threading.Thread(target=self._watch, name="spoke-memory", daemon=True).start()

    def stop(self) -> None:
        """Stop the background thread."""
        self._over.set()

    def started(self, child: Child) -> None:
        """Measure a child before its first job.

        :raises ConfigurationError: if it has more memory than it may, so that each of its jobs would be ended at once.
        """
        if self.bound is None:
            return
        child.memory_at_start = self.measure(child.process.pid, self.bound)
        if child.memory_at_start > self.bound:
            raise ConfigurationError(
                f"a child process of the worker has {_amount(child.memory_at_start)} of memory before its first job, "
                f"and may have {_amount(self.bound)}: raise --job-memory"
            )

    def is_worn(self, child: Child) -> bool:
        """Whether to replace a child that has just ended an order, because jobs have left memory in it.

        It may hold orders ahead, which it runs before it ends. Under load it is never without, and the memory that is
        left would be charged to a job that needs little.
        """
        if self.bound is None or child.kind is not ChildKind.THREAD:
            return False
        return keeps_too_much(child.memory_at_start, self.measure(child.process.pid, self.bound), self.bound)

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS):
            self.pool.kill_exceeding(self.exceeded, self.kill)

    def exceeded(self, child: Child) -> KillReason | None:
        """The reason to kill a child that has taken more memory than it may; None if there is none.

        Nobody knows which of the jobs of an event loop has taken the memory, so it ends the attempts of all.
        """
        token = child.shared.at[0] if child.kind is ChildKind.THREAD else None
        item = child.orders.get(token) if token is not None else None
        if child.kind is ChildKind.THREAD and item is None:
            return None
        bound = self.bound if item is None else item.memory_bytes
        if bound is None:
            return None
        left = child.shared.memory_left if item is not None and bound != self.bound else 0
        allowed = allowed_beside(left, bound, self.bound)
        used = self.measure(child.process.pid, allowed)
        if used <= allowed or (item is not None and child.shared.at[0] != token):  # the attempt has ended meanwhile
            return None
        own = used - min(left, used)
        usage = AttemptUsage(own if item is not None else None)
        return KillReason(token, Cause.OUT_OF_MEMORY, text_of(used, bound if own > bound else allowed, left), usage)
