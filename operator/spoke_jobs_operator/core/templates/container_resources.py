"""The resources of an attempt: memory that earlier ones lacked, and requests that suit earlier jobs of the type."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spoke_jobs.contract.custom_resources.spokejob import Retry
from spoke_jobs.contract.quantities import in_bytes, in_mebibytes
from spoke_jobs_operator.core.objects.template_annotations import ResourceCaps

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


_MEBI = 2**20


def with_requests(resources: Mapping[str, Any], requests: Mapping[str, str], caps: ResourceCaps) -> dict[str, Any]:
    """Return a container's resources with these requests. A limit that is below its request is raised to it.

    An amount applies only if the template has a maximum for it: then the template lets jobs choose.
    """
    result = {name: dict(amounts) for name, amounts in resources.items() if isinstance(amounts, Mapping)}
    for name, asked in requests.items():
        wanted, most = in_bytes(asked), caps.largest.get(name)
        if wanted is None or most is None or not caps.allows(name):
            continue
        bounded = min(max(wanted, caps.smallest.get(name, Decimal(0))), most)
        amount = asked if bounded == wanted else _quantity(name, bounded)
        result.setdefault("requests", {})[name] = amount
        limit = in_bytes(str(result.get("limits", {}).get(name, "")))
        if limit is not None and limit < bounded:
            result["limits"][name] = amount
    return {**resources, **result}


def _quantity(name: str, amount: Decimal) -> str:
    if name != "memory":
        return f"{int(amount * 1000)}m"
    return in_mebibytes(amount) if amount % _MEBI == 0 else str(int(amount))
