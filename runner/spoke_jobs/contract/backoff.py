"""Exponential backoff: one rule for every retry in the product. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_LARGEST_EXPONENT = 64
"""Keeps the power finite; every cap in use is reached long before."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each retry, in seconds."""

    base: float
    """The wait after the first failure."""
    maximum: float
    """The longest wait."""
    factor: float = 2.0
    """What each further failure multiplies the wait by."""
    jitter: float = 0.0
    """The share of itself by which a wait is lengthened at most, never beyond the maximum; shortened if negative."""

    def after(self, failures: int, spread: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row.

        :param failures: from 1; a lower number counts as 1.
        :param spread: where in the jitter this wait falls, from 0 to 1.
        """
        exponent = min(max(failures - 1, 0), _LARGEST_EXPONENT)
        wait = min(self.maximum, self.base * self.factor**exponent)
        return min(self.maximum, wait * (1 + self.jitter * spread))
