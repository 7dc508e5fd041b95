"""The unfinished SpokeJobs of each namespace, in the order of their age."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from spoke_jobs_operator.core.objects.api_objects import Key

Age = tuple[datetime, int, Key]
"""The sort key by which the oldest comes first."""


@dataclass(slots=True)
class Unfinished:
    """Which SpokeJobs are unfinished, whether they run, wait, are suspended or back off."""

    _ages: dict[Key, Age] = field(default_factory=dict)
    _lines: defaultdict[str, list[Age]] = field(default_factory=lambda: defaultdict(list))

    def add(self, key: Key, age: Age) -> None:
        """Count a SpokeJob, unless it is counted already."""
        if key not in self._ages:
            insort(self._lines[key.namespace], age)
            self._ages[key] = age

    def remove(self, key: Key) -> bool:
        """Stop counting a SpokeJob that has ended or is deleted. Return whether it was counted."""
        age = self._ages.pop(key, None)
        if age is None:
            return False
        line = self._lines[key.namespace]
        del line[bisect_left(line, age)]
        if not line:
            del self._lines[key.namespace]
        return True

    def without(self, ended: Key) -> Unfinished:
        """Return a new count of all but one SpokeJob, after an error has left this one half changed."""
        found = Unfinished()
        for key, age in self._ages.items():
            if key != ended:
                found.add(key, age)
        return found

    def count(self, namespace: str) -> int:
        """Return how many a namespace has."""
        return len(self._lines.get(namespace, ()))

    def older_than(self, key: Key, age: Age) -> int:
        """Return how many of the SpokeJob's namespace are older."""
        return bisect_left(self._lines.get(key.namespace, []), self._ages.get(key, age))
