"""The list of situations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .play import Play

Run = Callable[[Play], None]


@dataclass(frozen=True)
class Situation:
    """What the key says of one, and how it is made."""

    title: str
    cause: str
    """The cause or reason that a reader has to find."""
    remedy: str
    final: str
    """The job's state after the remedy."""
    bound: float
    """Seconds within which the cause has to be named."""
    alone: bool
    """Whether no other situation may be under way meanwhile, since the whole namespace is concerned."""
    run: Run


SITUATIONS: list[Situation] = []


def situation(
    title: str, *, cause: str, remedy: str, final: str = "succeeded", bound: float = 60, alone: bool = False
) -> Callable[[Run], Run]:
    """Declare one."""

    def declare(run: Run) -> Run:
        SITUATIONS.append(Situation(title, cause, remedy, final, bound, alone, run))
        return run

    return declare
