"""What a run can be told by the environment, `ROUNDS=1 make bench-tasks` for example."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """See the fields; all but the last five have defaults."""

    rounds: int
    """ROUNDS: how often each system is measured, in another order each time."""
    minutes: float
    """MINUTES: no round begins, but the first, that isn't likely to end within them."""
    concurrency: int
    """CONCURRENCY: how many tasks run at once."""
    tasks: int
    """TASKS: how many are dispatched at most before the worker starts."""
    dispatch_seconds: float
    """DISPATCH_SECONDS: how long dispatching goes on at most."""
    execute_seconds: float
    """EXECUTE_SECONDS: how long the worker is watched at most while it works them off."""
    rate: float
    """RATE: tasks a second while latency is measured; arrivals are random, the same for every system."""
    latency_seconds: float
    """LATENCY_SECONDS: how long latency is measured for, for each kind of task."""
    call_seconds: float
    """CALL_SECONDS: for how long calls of `dispatch_task` are timed."""
    seed: int
    """SEED: of the orders and the arrivals."""
    only: tuple[str, ...]
    """SYSTEMS: comma-separated beginnings of names; only those are measured, and nothing is written into docs."""
    postgres: str
    redis: str
    repository: Path
    ours: Path
    """The folder of the programs of this repository's virtual environment."""
    peers: Path
    """The same of the peers' environment."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """From the environment; the last five are set by ``run``."""
        return cls(
            rounds=int(environment.get("ROUNDS") or 3),
            minutes=float(environment.get("MINUTES") or 11),
            concurrency=int(environment.get("CONCURRENCY") or 8),
            tasks=int(environment.get("TASKS") or 8000),
            dispatch_seconds=float(environment.get("DISPATCH_SECONDS") or 1.5),
            execute_seconds=float(environment.get("EXECUTE_SECONDS") or 2),
            rate=float(environment.get("RATE") or 50),
            latency_seconds=float(environment.get("LATENCY_SECONDS") or 2.5),
            call_seconds=float(environment.get("CALL_SECONDS") or 6),
            seed=int(environment.get("SEED") or 7),
            only=tuple(name.strip().lower() for name in environment.get("SYSTEMS", "").split(",") if name.strip()),
            postgres=environment["BENCH_POSTGRES"].replace("+psycopg", ""),
            redis=environment["BENCH_REDIS"],
            repository=Path(environment["BENCH_REPOSITORY"]),
            ours=Path(environment["BENCH_OURS"]),
            peers=Path(environment["BENCH_PEERS"]),
        )
