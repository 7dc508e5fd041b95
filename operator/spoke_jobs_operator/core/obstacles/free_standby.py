"""Which SpokeJobs may start during a hold, because a standby pod is free for them.

An attempt that takes a standby pod needs no new pod: no room on a node, no quota, no image. So the holds that keep pods
from being created do not delay it, and its start says nothing about them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from spoke_jobs_operator.core.objects.api_objects import Key

from .room import Group, Phase, Sighting, bump


class FreeStandby:
    """How many standby pods are free, and the SpokeJobs that were admitted to take one.

    The numbers may be out of date for a moment. A SpokeJob that finds no free standby pod then gets a pod of its own,
    and is counted as such.
    """

    def __init__(self) -> None:
        self._free: Counter[Group] = Counter()
        self._takers: dict[Key, Group] = {}

    def set_free(self, namespace: str, counts: Mapping[str, int]) -> bool:
        """Replace the numbers of a namespace. Return whether more are free than before.

        :param counts: how many are free, by PodTemplate.
        """
        new = Counter({Group(namespace, template): count for template, count in counts.items() if count})
        old = {group: count for group, count in self._free.items() if group.namespace == namespace}
        for group in old:
            del self._free[group]
        self._free.update(new)
        return any(count > old.get(group, 0) for group, count in new.items())

    def has(self, group: Group) -> bool:
        """Whether one is free for a SpokeJob of the group."""
        return group in self._free

    def any_in(self, namespace: str) -> bool:
        """Whether one is free in the namespace."""
        return any(group.namespace == namespace for group in self._free)

    def take(self, key: Key, group: Group) -> None:
        """Count a SpokeJob that is admitted to take one."""
        bump(self._free, group, -1)
        self._takers[key] = group

    def release(self, key: Key) -> None:
        """Forget a SpokeJob that has no attempt."""
        self._takers.pop(key, None)

    def got_none(self, key: Key, seen: Sighting) -> Group | None:
        """Return the group of a SpokeJob that got a pod of its own after all, and forget it; None of all others."""
        starts = seen.phase is not Phase.OTHER or seen.refused is not None or seen.stuck is not None
        return self._takers.pop(key, None) if starts else None
