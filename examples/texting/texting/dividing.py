"""Who gets which contacts: pure, so that a run which was killed and tried again can be shown to end as one that wasn't.

Three rules make it so, and the tests hold us to them:

- How many contacts a texter is to hold follows from the request and from how many contacts there are and are written
  to, never from who holds the others now.
- A texter keeps what they have as far as that goes, by the lowest ids; the others are handed out by id, to one texter
  after another.
- So whoever has made the first of the moves, and however many, finds exactly the rest when dividing again.
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
    """What a texter is to have. All numbers count contacts, those already written to among them."""

    texter: int
    wanted: int | None = None
    """None: an equal part of what the others leave."""
    maximum: int | None = None
    """None: any number."""
    written: int = 0
    """How many of the texter's contacts are written to. They stay, even beyond the maximum."""


class Unwritten(NamedTuple):
    """A contact that nobody has written to."""

    contact: int
    texter: int | None
    """Who holds it, on the list of shares or not; None: nobody."""
    opted_out: bool = False
    """It is nobody's to write to, and is taken from whoever holds it."""


class Move(NamedTuple):
    """A contact's change of hands."""

    contact: int
    texter: int | None


@dataclass(frozen=True, slots=True)
class Division:
    """What is to be done, and how it will stand then."""

    moves: Sequence[Move]
    """In this order: done up to any point, dividing again gives the rest."""
    unwritten: Mapping[int, int]
    """By texter: how many contacts they will hold that are still to be written to."""
    written: int
    """How many contacts those texters have written to."""
    left_over: int
    """Contacts to write to that will be nobody's."""

    def summary(self) -> dict[str, int]:
        """How it will stand, whatever of it had been done before: a job's result."""
        return {
            "texters": len(self.unwritten),
            "assigned": self.written + sum(self.unwritten.values()),
            "written": self.written,
            "unassigned": self.left_over,
        }


def divide(shares: Sequence[Share], contacts: Sequence[Unwritten], *, dynamic: bool) -> Division:
    """Divide a campaign's unwritten contacts among texters.

    :param shares: of different texters; who isn't among them keeps nothing. If contacts are short, the first ones come
        first.
    :param contacts: all of the campaign's, by id.
    :param dynamic: nothing is handed out, since texters take contacts when they ask; what is beyond a texter's maximum
        goes back.
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
    """How many unwritten contacts each is to hold: first those who want a number, then the others equally."""
    goals = dict.fromkeys((share.texter for share in shares), 0)
    for share in shares:
        if share.wanted is not None:
            goals[share.texter] = min(available, _room(share, share.wanted))
            available -= goals[share.texter]
    return goals | _level([share for share in shares if share.wanted is None], available)


def _level(shares: Sequence[Share], available: int) -> dict[int, int]:
    """Hand out as much as can be, so that all come to hold the same, as far as what they have and may have allows."""

    def needed(level: int) -> int:
        return sum(_room(share, level) for share in shares)

    highest = available + max((share.written for share in shares), default=0)
    level = bisect_right(range(highest + 1), available, key=needed) - 1
    over = available - needed(level)
    goals = {}
    for share in shares:
        # What can't be divided goes to the first ones, one each.
        goals[share.texter] = _room(share, level)
        if over and _room(share, level + 1) > goals[share.texter]:
            goals[share.texter] += 1
            over -= 1
    return goals


def _room(share: Share, total: int) -> int:
    """How many unwritten contacts it takes to come to a total, or to the maximum."""
    return max(0, (total if share.maximum is None else min(total, share.maximum)) - share.written)
