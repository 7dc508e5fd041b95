"""Give an attempt more memory after earlier attempts ran out of memory."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spoke_jobs.contract.custom_resources.spokejob import Retry
from spoke_jobs.contract.quantities import in_bytes, in_mebibytes

DEFAULT_BOUND = 4
"""The maximum of a SpokeJob that declares none, as a multiple of the first attempt's memory, or of what was measured
before that attempt."""


def grown(
    resources: Mapping[str, Any],
    retry: Retry,
    times: int,
    cap: Decimal | None = None,
    measured: int | None = None,
) -> dict[str, Any]:
    """Return a container's resources with its memory request and limit multiplied by the factor, ``times`` times.

    If an attempt outside of a pod ran out of memory, what it had counts like the amount of a first attempt: the limit
    is at least that much, multiplied once more than the request.

    An amount stays unchanged if its form is not supported, or if it already exceeds the maximum.

    :param cap: the PodTemplate's maximum, in bytes, whatever the job's own maximum.
    :param measured: how many bytes an attempt outside of a pod had. It does not count if the factor is 1.
    """
    factor = Decimal(str(retry.memory_factor))
    seen = Decimal(measured or 0) if factor > 1 else Decimal(0)
    result = {name: dict(amounts) for name, amounts in resources.items() if isinstance(amounts, Mapping)}
    for kind, amounts in result.items():
        first = in_bytes(str(amounts.get("memory", "")))
        if first is None:
            continue
        most = in_bytes(retry.memory_max or "") or max(first, seen) * DEFAULT_BOUND
        most = most if cap is None else min(most, cap)
        wanted = max(first, seen * factor if kind == "limits" else seen) * factor**times
        amount = in_mebibytes(min(wanted, most))
        if (in_bytes(amount) or 0) > first:  # rounding down may make it smaller than the first amount
            amounts["memory"] = amount
    return {**resources, **result}
