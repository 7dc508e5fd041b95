"""Exponential backoff, used by every retry in the product. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_LARGEST_EXPONENT = 64
"""Keeps the power finite. Every maximum in use is reached with a far smaller exponent."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each retry, in seconds."""

    base: float
    """The wait after the first failure."""
    maximum: float
    """The longest wait."""
    factor: float = 2.0
    """Each further failure multiplies the wait by this."""
    jitter: float = 0.0
    """The largest share by which a wait is lengthened, up to the maximum. A negative share shortens the wait."""

    def after(self, failures: int, spread: float = 0.0) -> float:
        """Return the seconds to wait after consecutive failures.

        :param failures: the number of failures, from 1; a lower number counts as 1.
        :param spread: the share of the jitter to apply, from 0 to 1.
        """
        exponent = min(max(failures - 1, 0), _LARGEST_EXPONENT)
        wait = min(self.maximum, self.base * self.factor**exponent)
        return min(self.maximum, wait * (1 + self.jitter * spread))
