"""Decide who gets which contacts. Pure, so that a test can show that a killed and repeated run gives the same result.

Three rules ensure this:

- A texter's number of contacts depends on the request, on the number of contacts, and on how many were written to. It
  does not depend on who has the other contacts now.
- A texter keeps the contacts with the lowest ids, up to that number. The others are assigned by id, to one texter
  after another.
- After any number of the moves, dividing again yields exactly the remaining moves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Share:
    """A texter's share. All numbers count contacts, including those already written to."""

    texter: int
    wanted: int | None = None
    """None: an equal part of the rest."""
    maximum: int | None = None
    """None: no limit."""
    written: int = 0
    """Number of the texter's contacts that were written to. They stay, even beyond the maximum."""


class Unwritten(NamedTuple):
    """A contact that nobody has written to."""

    contact: int
    texter: int | None
    """The texter who has it, whether listed among the shares or not. None: nobody."""
    opted_out: bool = False
    """Nobody may write to it, and its texter loses it."""


class Move(NamedTuple):
    """A contact's change of texter."""

    contact: int
    texter: int | None


@dataclass(frozen=True, slots=True)
class Division:
    """The moves, and the numbers after them."""

    moves: Sequence[Move]
    """In order. After any number of them, dividing again yields the rest."""
    unwritten: Mapping[int, int]
    """By texter: the number of contacts still to be written to."""
    written: int
    """The number of contacts that those texters have written to."""
    left_over: int
    """The number of unwritten contacts without a texter."""

    def summary(self) -> dict[str, int]:
        """Return the job's result. It does not depend on which moves were made before."""
        return {
            "texters": len(self.unwritten),
            "assigned": self.written + sum(self.unwritten.values()),
            "written": self.written,
            "unassigned": self.left_over,
        }


def divide(shares: Sequence[Share], contacts: Sequence[Unwritten], *, dynamic: bool) -> Division:
    """Divide a campaign's unwritten contacts among texters.

    :param shares: of different texters. A texter without a share keeps nothing. If there are too few contacts, earlier
        shares have precedence.
    :param contacts: all of the campaign's, by id.
    :param dynamic: assign nothing, because texters take contacts when they send. Take back contacts beyond a texter's
        maximum.
    """
    writable = [contact for contact in contacts if not contact.opted_out]
    goals = _within_maximum(shares, writable) if dynamic else _goals(shares, len(writable))
    held = dict.fromkeys(goals, 0)
    pool = []
    for contact in writable:
        if contact.texter is not None and held.get(contact.texter, 0) < goals.get(contact.texter, 0):
            held[contact.texter] += 1
        else:
            pool.append(contact)
    takers = chain.from_iterable(repeat(texter, goal - held[texter]) for texter, goal in goals.items())
    granted = [Move(contact.contact, texter) for contact, texter in zip(pool, takers, strict=False)]
    withdrawn = [Move(each.contact, None) for each in contacts if each.opted_out and each.texter is not None]
    returned = [Move(each.contact, None) for each in pool[len(granted) :] if each.texter is not None]
    written = sum(share.written for share in shares)
    return Division([*withdrawn, *granted, *returned], goals, written, len(pool) - len(granted))


def _within_maximum(shares: Sequence[Share], writable: Sequence[Unwritten]) -> dict[int, int]:
    held = Counter(contact.texter for contact in writable)
    return {share.texter: min(held[share.texter], _room(share, len(writable) + share.written)) for share in shares}


def _goals(shares: Sequence[Share], available: int) -> dict[int, int]:
    """Compute each texter's number of unwritten contacts: first those who want a number, then the others equally."""
    goals = dict.fromkeys((share.texter for share in shares), 0)
    for share in shares:
        if share.wanted is not None:
            goals[share.texter] = min(available, _room(share, share.wanted))
            available -= goals[share.texter]
    return goals | _level([share for share in shares if share.wanted is None], available)


def _level(shares: Sequence[Share], available: int) -> dict[int, int]:
    """Distribute the rest as equally as the maximums and the contacts already written to allow."""

    def needed(level: int) -> int:
        return sum(_room(share, level) for share in shares)

    highest = available + max((share.written for share in shares), default=0)
    level = bisect_right(range(highest + 1), available, key=needed) - 1
    over = available - needed(level)
    goals = {}
    for share in shares:
        # The remainder goes to the first texters, one contact each.
        goals[share.texter] = _room(share, level)
        if over and _room(share, level + 1) > goals[share.texter]:
            goals[share.texter] += 1
            over -= 1
    return goals


def _room(share: Share, total: int) -> int:
    """Compute how many unwritten contacts bring the texter to a total, or to the maximum if that is less."""
    return max(0, (total if share.maximum is None else min(total, share.maximum)) - share.written)
