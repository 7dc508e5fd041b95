"""Decisions that raised an error: what may be repeated, and when a job is given up.

A decision is a pure function, so the same objects raise the same error again. Without a bound, a job that no code can
decide about would keep its place under the limits and its queue's lock forever.
"""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from spoke_jobs.contract.causes import Cause

K = TypeVar("K", bound=Hashable)

TRIES = 5
"""After so many failed decisions in a row, the job ends with the cause `Undiagnosable`."""
REFUSED_TRIES = 12
"""The bound for writes that the API server refuses. It is higher, because the cluster may change and accept them."""
_REMEMBERED = 10_000


class FailedDecisions(Generic[K]):
    """The consecutive failed decisions by job."""

    def __init__(self) -> None:
        self._failed: OrderedDict[K, int] = OrderedDict()

    def failed(self, key: K, tries: int = TRIES) -> bool:
        """Record a failed decision. Return whether the job is to be given up, after so many tries."""
        count = self._failed.pop(key, 0) + 1
        self._failed[key] = count
        while len(self._failed) > _REMEMBERED:
            self._failed.popitem(last=False)
        return count >= tries

    def succeeded(self, key: K) -> None:
        """Record a decision that raised no error, or that the job is gone."""
        self._failed.pop(key, None)

    def is_given_up(self, key: K) -> bool:
        """Whether as many decisions have failed in a row as are tried."""
        return self._failed.get(key, 0) >= TRIES

    def __len__(self) -> int:
        """Return how many jobs' last decision failed."""
        return len(self._failed)


def message_of(error: BaseException) -> str:
    """Return the message for a job that is given up: the error's class and place, without values.

    The error's own text may quote the text that caused it.
    """
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = f" in {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{Cause.UNDIAGNOSABLE.meaning} The last one: {type(error).__name__}{place}."
