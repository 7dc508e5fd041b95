"""Give an attempt more memory after earlier attempts ran out of memory."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spoke_jobs.contract.spokejob import Retry
from spoke_jobs_operator.core.objects.quantities import in_bytes, in_mebibytes

DEFAULT_BOUND = 4
"""The maximum of a SpokeJob that declares none, as a multiple of the first attempt's memory."""


def grown(resources: Mapping[str, Any], retry: Retry, times: int, cap: Decimal | None = None) -> dict[str, Any]:
    """Return a container's resources with its memory request and limit multiplied by the factor, ``times`` times.

    An amount stays unchanged if its form is not supported, or if it already exceeds the maximum.

    :param cap: the PodTemplate's maximum, in bytes, whatever the job's own maximum.
    """
    result = {name: dict(amounts) for name, amounts in resources.items() if isinstance(amounts, Mapping)}
    for amounts in result.values():
        first = in_bytes(str(amounts.get("memory", "")))
        if first is None:
            continue
        most = in_bytes(retry.memory_max or "") or first * DEFAULT_BOUND
        most = most if cap is None else min(most, cap)
        wanted = first * Decimal(str(retry.memory_factor)) ** times
        amount = in_mebibytes(min(wanted, most))
        if (in_bytes(amount) or 0) > first:  # rounding down may make it smaller than the first amount
            amounts["memory"] = amount
    return {**resources, **result}
