"""What a run can be told by the environment, `LAUNCHES=10 BURST=200 make bench-launch` for a quick look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.bench.lib.settings import numbers_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See the fields; all have defaults."""

    launches: int = 40
    """LAUNCHES: of each kind, one at a time, in shuffled order."""
    burst: int = 1000
    """BURST: how many are submitted at once."""
    rounds: int = 2
    """ROUNDS: of bursts of each kind."""
    short: int = 500
    """SHORT: short jobs that are submitted at once."""
    history: int = 10_000
    """HISTORY: finished SpokeJobs."""
    idle_seconds: float = 60
    """IDLE_SECONDS: how long the operator is watched doing nothing."""
    parts: tuple[str, ...]
    """PARTS: `launches,lanes,bursts,idle`; what isn't named is taken from the last run's figures."""
    cluster: str
    """CLUSTER: the kind cluster; made if it isn't there."""
    raw: Path
    """BENCH_RAW: where all figures go."""
    tools: Path
    """BENCH_TOOLS: programs of the environment that has what profiles and draws."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """From the environment."""
        return cls(
            **numbers_of(cls, environment),
            parts=tuple(environment.get("PARTS", "launches,lanes,bursts,idle").split(",")),
            cluster=environment.get("CLUSTER", "spoke-bench"),
            raw=Path(environment.get("BENCH_RAW", "launch.json")),
            tools=Path(environment["BENCH_TOOLS"]),
        )

    @property
    def full(self) -> bool:
        """Whether figures of this run may stand in the docs."""
        return self.launches >= 40 and self.burst >= 1000 and self.short >= 500 and self.history >= 10_000
