"""Pure: from measurements to the figures of the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.bench.lib.figures import percentile

MEASURES = ("enqueue_per_s", "execute_per_s", "p50_ms", "p99_ms")


@dataclass(frozen=True, slots=True)
class Sample:
    """One round's measurements of one system with one kind of job."""

    label: str
    """The system's, with its store."""
    system: str
    durability: str
    job_ms: int
    round: int
    enqueue_per_s: float
    execute_per_s: float
    latencies_ms: tuple[float, ...]

    @property
    def p50_ms(self) -> float:
        """Of commit to start."""
        return percentile(self.latencies_ms, 50)

    @property
    def p99_ms(self) -> float:
        """Of commit to start."""
        return percentile(self.latencies_ms, 99)


@dataclass(frozen=True, slots=True)
class Row:
    """All rounds of one system with one kind of job: the medians of the rounds."""

    label: str
    system: str
    durability: str
    job_ms: int
    enqueue_per_s: float
    execute_per_s: float
    p50_ms: float
    p99_ms: float
    ratios: tuple[float | None, float | None, float | None, float | None]
    """To the baseline, for each of :data:`MEASURES`: the median of the rounds' own ratios."""


def rows(samples: Sequence[Sample], baseline: str) -> list[Row]:
    """One for each system and kind of job, in the order in which they first appear."""
    groups: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.label, sample.job_ms), []).append(sample)
    bases = {(sample.round, sample.job_ms): sample for sample in samples if sample.label == baseline}
    return [
        Row(
            label=label,
            system=group[0].system,
            durability=group[0].durability,
            job_ms=job_ms,
            enqueue_per_s=statistics.median(sample.enqueue_per_s for sample in group),
            execute_per_s=statistics.median(sample.execute_per_s for sample in group),
            p50_ms=statistics.median(sample.p50_ms for sample in group),
            p99_ms=statistics.median(sample.p99_ms for sample in group),
            ratios=(
                _ratio(group, bases, lambda sample: sample.enqueue_per_s),
                _ratio(group, bases, lambda sample: sample.execute_per_s),
                _ratio(group, bases, lambda sample: sample.p50_ms),
                _ratio(group, bases, lambda sample: sample.p99_ms),
            ),
        )
        for (label, job_ms), group in groups.items()
    ]


def _ratio(
    group: Iterable[Sample], bases: dict[tuple[int, int], Sample], measure: Callable[[Sample], float]
) -> float | None:
    pairs = [(sample, bases.get((sample.round, sample.job_ms))) for sample in group]
    ratios = [measure(sample) / measure(base) for sample, base in pairs if base is not None and measure(base) > 0]
    return statistics.median(ratios) if ratios else None
