"""Read quantities of Kubernetes, such as `512Mi`.

A quantity is a number with a suffix: a power of 1000 (`M`), a power of 1024 (`Mi`), or a thousandth (`m`).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from spoke_jobs.contract.retry import is_quantity

_MEBI = 2**20
_DECIMALS = 2
"""The most decimals of a quantity that is converted for people."""
_LARGEST = Decimal(10) ** 21
"""The largest quantity that is converted. Larger ones have more digits than are exact."""
_LETTERS = "EGKMPTikm"
_SUFFIXES = {
    "": Decimal(1), "m": Decimal("0.001"),
    **{name: Decimal(1000) ** power for power, name in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}  # fmt: skip


def in_bytes(quantity: str) -> Decimal | None:
    """Return a quantity in bytes; None if it is empty or in a form that is not supported (`is_quantity`)."""
    if not is_quantity(quantity):
        return None
    number = quantity.rstrip(_LETTERS)
    return Decimal(number) * _SUFFIXES[quantity.removeprefix(number)]


def in_one_unit(quantities: Sequence[str]) -> tuple[str, ...]:
    """Return quantities of one resource in one unit; as they are, if one is in a form that is not supported.

    It is the unit of the first one in which all have few decimals: ``31.5Gi``, ``32Gi``.
    """
    amounts = [in_bytes(quantity) for quantity in quantities]
    known = [amount for amount in amounts if amount is not None]
    if len(known) < len(amounts) or max(known, default=Decimal(0)) > _LARGEST:
        return tuple(quantities)
    for unit in (*(quantity.lstrip("0123456789.") for quantity in quantities), ""):
        scaled = [amount / _SUFFIXES[unit] for amount in known]
        if all(amount == round(amount, _DECIMALS) for amount in scaled):
            return tuple(f"{_plain(amount)}{unit if amount else ''}" for amount in scaled)
    return tuple(quantities)


def _plain(amount: Decimal) -> str:
    return f"{int(amount)}" if amount == int(amount) else f"{amount.normalize():f}"


def in_mebibytes(amount: Decimal) -> str:
    """Return a quantity in whole mebibytes, rounded down, or in bytes below one mebibyte."""
    return f"{int(amount // _MEBI)}Mi" if amount >= _MEBI else str(int(amount))
