"""Labels whose values others choose, with a bound on their number: each is a series, which takes memory."""

from __future__ import annotations

from spoke_jobs.contract.metrics.metric_spec import OTHER

_LONGEST = 200
"""Longer values count as :data:`OTHER`."""


class BoundedLabels:
    """Chooses the values of several labels, of which the later ones are less important.

    :param most: how many combinations keep all their values. Of as many more, for each label, the first values are
        kept and the others become :data:`OTHER`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[int, set[tuple[str, ...]]] = {}

    def of(self, *values: str) -> tuple[str, ...]:
        """Return the values to count something under."""
        wanted = tuple(value if len(value) <= _LONGEST else OTHER for value in values)
        for kept in range(len(wanted), 0, -1):
            known, shown = self._known.setdefault(kept, set()), wanted[:kept]
            if shown in known or len(known) < self._most:
                known.add(shown)
                return shown + (OTHER,) * (len(wanted) - kept)
        return (OTHER,) * len(wanted)
