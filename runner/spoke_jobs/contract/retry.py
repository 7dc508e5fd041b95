"""Whether a failed attempt is followed by another: pure, and the same under every runner.

The worker decides by it under ``legacy``, the operator under ``kubernetes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from spoke_jobs.contract.causes import CauseClass, cause_class

DEFAULT_BUDGET: Mapping[CauseClass, int] = MappingProxyType(
    {
        CauseClass.ERROR: 3,
        CauseClass.OOM: 3,
        CauseClass.INFRASTRUCTURE: 3,
        CauseClass.IMAGE: 3,
        CauseClass.TIMEOUT: 1,
        CauseClass.INVALID: 1,
    }
)
"""How many attempts of a class end the job: with 3, the third failure of that class is final."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how soon, a job is tried again."""

    budget: Mapping[CauseClass, int] = field(default_factory=lambda: DEFAULT_BUDGET)
    backoff_seconds: float = 1.0
    """The wait before the second attempt; it doubles with each charged attempt."""
    backoff_max_seconds: float = 300.0

    def allowance(self, cause_class: CauseClass) -> int:
        """How many attempts of this class end the job."""
        return self.budget.get(cause_class, DEFAULT_BUDGET.get(cause_class, 1))


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Another attempt follows, after ``delay_seconds``."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job is final, with the failed attempt's cause."""


HELD_DELAY_SECONDS = 2.0
"""The wait after an attempt that found its queue held."""


def after_failure(
    policy: RetryPolicy, charged: Mapping[CauseClass, int], cause: str, *, for_good: bool = False
) -> TryAgain | GiveUp:
    """What follows an attempt that failed with ``cause``.

    ``charged`` counts the job's earlier failed attempts by class, this one not among them. ``for_good`` is the
    attempt's own word that no repetition can mend it.
    """
    kind = cause_class(cause)
    if kind is CauseClass.UNCHARGED:
        return TryAgain(HELD_DELAY_SECONDS)
    if for_good or charged.get(kind, 0) + 1 >= policy.allowance(kind):
        return GiveUp()
    earlier = sum(charged.values())
    return TryAgain(min(policy.backoff_max_seconds, policy.backoff_seconds * 2.0 ** min(earlier, 32)))
