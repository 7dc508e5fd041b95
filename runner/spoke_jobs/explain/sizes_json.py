"""The JSON of `sizes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from spoke_jobs.explain import sizes
from spoke_jobs.explain.shape import Shape


class UsageSpread(Shape):
    """The spread of what successful jobs used."""

    p50: float
    p95: float
    max: float


class SizeOfType(Shape):
    """What the newest successful jobs of a type used, and the requests that would do."""

    job_type: str
    successes: int
    """How many the filters select of the newest 100 of the type."""
    measured: int
    """How many of them have their memory or their CPU time measured."""
    memory_bytes: UsageSpread | None
    """The peak memory; null if it was not measured."""
    cores: UsageSpread | None
    """The CPU time divided by the wall time; null if it was not measured, or if no job ran for 100 ms."""
    asks: dict[str, str]
    """What the job's option `resources` requests: `memory`, `cpu`."""
    needs: dict[str, str]
    """The requests that would do, of what was measured: `memory`, `cpu`."""


class Sizes(Shape):
    """The output of `sizes`."""

    types: tuple[SizeOfType, ...]
    """By name."""

    @classmethod
    def of(cls, found: Sequence[sizes.TypeSize]) -> Self:
        """Convert sizes."""
        return cls(types=tuple(SizeOfType.model_validate(one) for one in found))
