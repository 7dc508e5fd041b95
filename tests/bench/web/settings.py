"""What a run can be told by the environment, `ROWS=200000 REQUESTS=10 make bench-web` for a quick look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PARTS = ("pages", "stream", "claims", "timeout")


@dataclass(frozen=True, slots=True)
class Settings:
    """See the fields; all have defaults."""

    rows: int
    """ROWS: finished jobs."""
    waiting: int
    """WAITING: waiting jobs."""
    requests: int
    """REQUESTS: of each address. One that takes long gets fewer: see `page_times`."""
    stream_seconds: float
    """STREAM_SECONDS: how long the streams are watched."""
    viewers: int
    """VIEWERS: streams that are open."""
    changes: int
    """CHANGES: dispatches a second meanwhile."""
    claim_rounds: int
    """CLAIM_ROUNDS: pairs of periods, with and without the dashboard's load."""
    readers: int
    """READERS: how many people have a page open while claims are measured."""
    parts: tuple[str, ...]
    """PARTS: `pages,stream,claims,timeout`; what isn't named is taken from the last run's figures."""
    keep: bool
    """KEEP=no: remove the database at the end. Otherwise the next run takes it."""
    raw: Path
    """BENCH_RAW: where all figures go."""
    tools: Path
    """BENCH_PEERS: programs of the environment that can draw."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read them from the environment.

        :raises ValueError: if a part has an unknown name.
        """
        parts = tuple(environment.get("PARTS", ",".join(PARTS)).split(","))
        if unknown := set(parts) - set(PARTS):
            raise ValueError(f"PARTS has {', '.join(sorted(unknown))}: name some of {', '.join(PARTS)}")
        return cls(
            rows=int(environment.get("ROWS", 10_000_000)),
            waiting=int(environment.get("WAITING", 100_000)),
            requests=int(environment.get("REQUESTS", 40)),
            stream_seconds=float(environment.get("STREAM_SECONDS", 30)),
            viewers=int(environment.get("VIEWERS", 50)),
            changes=int(environment.get("CHANGES", 200)),
            claim_rounds=int(environment.get("CLAIM_ROUNDS", 20)),
            readers=int(environment.get("READERS", 5)),
            parts=parts,
            keep=environment.get("KEEP", "yes") != "no",
            raw=Path(environment.get("BENCH_RAW", "web.json")),
            tools=Path(environment.get("BENCH_PEERS", "")),
        )

    @property
    def full(self) -> bool:
        """Whether figures of this run may stand in the docs."""
        return (
            self.rows >= 10_000_000
            and self.waiting >= 100_000
            and self.requests >= 20
            and self.stream_seconds >= 30
            and self.viewers >= 50
            and self.changes >= 200
            and self.claim_rounds >= 10
        )
