"""What jobs of each type use, what they ask for, and the requests that would do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from spoke_jobs.contract.option_checks import AUTO
from spoke_jobs.ledger.reading.statistics import percentile
from spoke_jobs.ledger.reading.usage_queries import TypeUsage
from spoke_jobs.model import AttemptUsage, JobOptions
from spoke_jobs.shared.object_fields import mapping, text

MARGIN_PERCENT = 10
"""What a request for memory adds to the largest peak. Rounding adds at most a sixteenth."""
LEAST_MEASURED = 5
"""How many jobs of a type must have succeeded with measured values before ``resources="auto"`` follows them."""
_STEPS = 16
_MEBI = 2**20
_LEAST_MILLICORES = 10
_LEAST_MILLISECONDS = 100
"""How long an attempt must have run for its cores to count. Both of its times are rounded to whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of what successful jobs used."""

    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the spread; None without a value."""
        if not values:
            return None
        ordered = sorted(values)
        return cls(percentile(ordered, 0.5), percentile(ordered, 0.95), ordered[-1])


@dataclass(frozen=True, slots=True)
class TypeSize:
    """What the newest successful jobs of a type used, and what would do."""

    job_type: str
    successes: int
    """How many were read."""
    measured: int
    """How many of them have their memory or their CPU time measured."""
    memory_bytes: Spread | None
    """The peak memory; None if it was not measured."""
    cores: Spread | None
    """The CPU time divided by the wall time; None if it was not measured, or if no job ran for long enough."""
    asks: Mapping[str, str]
    """The memory and the CPU that the job's own option `resources` requests. The PodTemplate decides on the rest."""
    needs: Mapping[str, str]
    """The requests that would do, of what was measured."""


def sizes(found: Iterable[TypeUsage], declared: Mapping[str, JobOptions]) -> list[TypeSize]:
    """Return the size of each type, by name.

    :param declared: the options of the types that the application declares. Those without successes are added.
    """
    by_type = {one.job_type: one for one in found}
    names = sorted({*by_type, *declared})
    return [_size(by_type.get(name, TypeUsage(name, None, ())), declared.get(name)) for name in names]


def _size(found: TypeUsage, declared: JobOptions | None) -> TypeSize:
    used = [usage for usage in found.usages if _memory(usage) is not None or _cores(usage) is not None]
    memory = Spread.of([peak for usage in used if (peak := _memory(usage)) is not None])
    cores = Spread.of([part for usage in used if (part := _cores(usage)) is not None])
    needs = {"memory": memory_request(memory.max)} if memory else {}
    needs |= {"cpu": cpu_request(cores.p95)} if cores else {}
    asks = _asks(declared or found.options)
    return TypeSize(found.job_type, len(found.usages), len(used), memory, cores, asks, needs)


def _memory(usage: AttemptUsage) -> int | None:
    """Return the peak memory, unless other code has written what can't be."""
    return usage.peak_memory_bytes if usage.peak_memory_bytes is not None and usage.peak_memory_bytes > 0 else None


def _cores(usage: AttemptUsage) -> float | None:
    """Return the CPU time divided by the wall time; None if an attempt was too short to tell."""
    cpu, wall = usage.cpu_milliseconds, usage.wall_milliseconds
    return cpu / wall if cpu is not None and wall is not None and cpu >= 0 and wall >= _LEAST_MILLISECONDS else None


def auto_requests(size: TypeSize) -> Mapping[str, str]:
    """Return the requests of a job with ``resources="auto"``: what its type needs, once enough jobs have told."""
    return size.needs if size.measured >= LEAST_MEASURED else {}


def _asks(options: JobOptions | None) -> dict[str, str]:
    """Return the requests for memory and CPU. A limit without a request is one, too.

    Other code may have written the options. What is no text is left out.
    """
    if options is None or not isinstance(options.resources, Mapping):
        return {"memory": AUTO, "cpu": AUTO} if options is not None and options.resources == AUTO else {}
    given: Mapping[str, Any] = options.resources
    amounts = {**mapping(given, "limits"), **mapping(given, "requests")}
    return {name: amount for name in ("memory", "cpu") if (amount := text(amounts, name))}


def memory_request(peak_bytes: float) -> str:
    """Return a request for memory with a margin above a peak, rounded up to a readable quantity."""
    wanted = max(-(-int(peak_bytes) * (100 + MARGIN_PERCENT) // (100 * _MEBI)), 1)
    step = 1 << max((wanted // _STEPS).bit_length() - 1, 0)
    mebibytes = _up(wanted, step)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def cpu_request(cores: float) -> str:
    """Return a request for CPU of so many cores, rounded up to two digits."""
    millicores = max(ceil(round(cores * 1000, 6)), _LEAST_MILLICORES)
    rounded = _up(millicores, 10 ** (len(str(millicores)) - 2))
    return f"{rounded // 1000}" if rounded % 1000 == 0 else f"{rounded}m"


def _up(amount: int, step: int) -> int:
    return -(-amount // step) * step
