"""What a run can be told by the environment, `ROWS=200000 REQUESTS=10 make bench-web` for a quick look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.bench.lib.settings import numbers_of

PARTS = ("pages", "stream", "claims", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See the fields; all have defaults."""

    rows: int = 10_000_000
    """ROWS: finished jobs."""
    waiting: int = 100_000
    """WAITING: waiting jobs."""
    requests: int = 40
    """REQUESTS: of each address. One that takes long gets fewer: see `page_times`."""
    stream_seconds: float = 30
    """STREAM_SECONDS: how long the streams are watched."""
    viewers: int = 50
    """VIEWERS: streams that are open."""
    changes: int = 200
    """CHANGES: dispatches a second meanwhile."""
    claim_rounds: int = 20
    """CLAIM_ROUNDS: pairs of periods, with and without the dashboard's load."""
    readers: int = 5
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
            **numbers_of(cls, environment),
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
