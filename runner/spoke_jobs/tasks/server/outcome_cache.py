"""What a task server remembers of tasks that have ended, so that a redelivery is answered and not run again. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from spoke_jobs.tasks.protocol.messages import Acknowledgement, Task


@dataclass(frozen=True, slots=True)
class RememberedOutcome:
    """How one task ended here."""

    fingerprint: int
    attempt: int
    ack: Acknowledgement
    at: float


class OutcomeCache:
    """The newest endings by id, bounded in number and age."""

    def __init__(self, clock: Callable[[], float], *, limit: int = 100_000, seconds: float = 900.0) -> None:
        self._clock = clock
        self._limit = limit
        self._seconds = seconds
        self._ended: OrderedDict[str, RememberedOutcome] = OrderedDict()

    def recall(self, task_id: str) -> RememberedOutcome | None:
        """How the task ended, if that is still remembered."""
        found = self._ended.get(task_id)
        if found is not None and self._clock() - found.at > self._seconds:
            del self._ended[task_id]
            return None
        return found

    def remember(self, task: Task, ack: Acknowledgement) -> None:
        """Keep an ending; forgets what is too old, and the oldest beyond the limit."""
        now = self._clock()
        self._ended.pop(task.id, None)
        self._ended[task.id] = RememberedOutcome(fingerprint(task), task.attempt, ack, now)
        while len(self._ended) > self._limit or now - next(iter(self._ended.values())).at > self._seconds:
            self._ended.popitem(last=False)

    def __len__(self) -> int:
        return len(self._ended)


def fingerprint(task: Task) -> int:
    """Tells two tasks under one id apart, without keeping the payload. Holds within one process."""
    return hash((task.name, task.payload))
