"""Read quantities of Kubernetes, such as `512Mi`.

A quantity is a number with a suffix: a power of 1000 (`M`), a power of 1024 (`Mi`), or a thousandth (`m`).
"""

from __future__ import annotations

from decimal import Decimal

from spoke_jobs.contract.retry import is_quantity

_MEBI = 2**20
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


def in_mebibytes(amount: Decimal) -> str:
    """Return a quantity in whole mebibytes, rounded down, or in bytes below one mebibyte."""
    return f"{int(amount // _MEBI)}Mi" if amount >= _MEBI else str(int(amount))
