"""Apply requests that suit what earlier jobs of the type used, within the PodTemplate's bounds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spoke_jobs.contract.quantities import in_bytes, in_mebibytes
from spoke_jobs_operator.core.objects.resource_caps import ResourceCaps

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
