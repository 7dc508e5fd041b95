"""Put the jobs that lock the same queue in the order of their rows, whichever SpokeJob was created first.

All other jobs keep their places: rows alone are no age, because applications that share a namespace number their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def exchange_places(
    items: Iterable[Item], group_of: Callable[[Item], Hashable | None], row_of: Callable[[Item], int]
) -> list[Item]:
    """Return the items so that those of one group come by descending row, in the places that the group has.

    :param group_of: returns an item's group; None if the item keeps its place.
    """
    placed = [(item, group_of(item)) for item in items]
    groups: defaultdict[Hashable, list[Item]] = defaultdict(list)
    for item, group in placed:
        if group is not None:
            groups[group].append(item)
    in_order = {group: iter(sorted(found, key=row_of, reverse=True)) for group, found in groups.items()}
    return [item if group is None else next(in_order[group]) for item, group in placed]
