"""Give an attempt more memory after earlier attempts ran out of memory."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spoke_jobs.contract.retry import is_quantity
from spoke_jobs.contract.spokejob import Retry

DEFAULT_BOUND = 4
"""The maximum of a SpokeJob that declares none, as a multiple of the first attempt's memory."""
_MEBI = 2**20
_LETTERS = "EGKMPTikm"
_SUFFIXES = {
    "": Decimal(1), "m": Decimal("0.001"),
    **{name: Decimal(1000) ** power for power, name in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}  # fmt: skip


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


def in_bytes(quantity: str) -> Decimal | None:
    """Return a quantity in bytes; None if it is empty or in a form that is not supported (`is_quantity`)."""
    if not is_quantity(quantity):
        return None
    number = quantity.rstrip(_LETTERS)
    return Decimal(number) * _SUFFIXES[quantity.removeprefix(number)]


def in_mebibytes(amount: Decimal) -> str:
    """Return a quantity in whole mebibytes, rounded down, or in bytes below one mebibyte."""
    return f"{int(amount // _MEBI)}Mi" if amount >= _MEBI else str(int(amount))
