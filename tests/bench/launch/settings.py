"""What a run can be told by the environment, `LAUNCHES=10 BURST=200 make bench-launch` for a quick look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """See the fields; all have defaults."""

    launches: int
    """LAUNCHES: of each kind, one at a time, in shuffled order."""
    burst: int
    """BURST: how many are submitted at once."""
    rounds: int
    """ROUNDS: of bursts of each kind."""
    short: int
    """SHORT: short jobs that are submitted at once."""
    history: int
    """HISTORY: finished SpokeJobs."""
    idle_seconds: float
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
            launches=int(environment.get("LAUNCHES", 40)),
            burst=int(environment.get("BURST", 1000)),
            rounds=int(environment.get("ROUNDS", 2)),
            short=int(environment.get("SHORT", 500)),
            history=int(environment.get("HISTORY", 10_000)),
            idle_seconds=float(environment.get("IDLE_SECONDS", 60)),
            parts=tuple(environment.get("PARTS", "launches,lanes,bursts,idle").split(",")),
            cluster=environment.get("CLUSTER", "spoke-bench"),
            raw=Path(environment.get("BENCH_RAW", "launch.json")),
            tools=Path(environment["BENCH_TOOLS"]),
        )

    @property
    def full(self) -> bool:
        """Whether figures of this run may stand in the docs."""
        return self.launches >= 40 and self.burst >= 1000 and self.short >= 500 and self.history >= 10_000
