"""What a run can be told by the environment, `ROUNDS=1 make bench` for example."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_type_hints

REPOSITORY = Path(__file__).parents[3]


def numbers_of(settings: type, environment: Mapping[str, str]) -> dict[str, Any]:
    """The numbers that the environment gives: a number's variable has its field's name, in capitals."""
    return {
        name: kind(environment[name.upper()])
        for name, kind in get_type_hints(settings).items()
        if kind in (int, float) and environment.get(name.upper())
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See the fields; the last five, which have no defaults, are set by ``run``. Each benchmark adds its own."""

    rounds: int = 3
    """ROUNDS: how often each system is measured, in another order each time."""
    minutes: float = 10
    """MINUTES: no round begins, but the first, that isn't likely to end within them."""
    concurrency: int = 8
    """CONCURRENCY: how many jobs a worker runs at once, and how many dispatchers there are."""
    execute_seconds: float = 2
    """EXECUTE_SECONDS: how long the worker is watched at most while it works the backlog off."""
    rate: float = 20
    """RATE: jobs a second while latency is measured; arrivals are random, the same for every system."""
    latency_seconds: float = 4
    """LATENCY_SECONDS: how long latency is measured for, for each kind of job."""
    seed: int = 7
    """SEED: of the orders and the arrivals."""
    only: tuple[str, ...] = ()
    """SYSTEMS: comma-separated beginnings of names; only those are measured, and nothing is written into docs."""
    postgres: str
    redis: str
    raw: Path
    """Where all measurements go."""
    ours: Path
    """The folder of the programs of this repository's virtual environment."""
    peers: Path
    """The same of the peers' environment."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """From the environment."""
        return cls(
            **numbers_of(cls, environment),
            only=tuple(name.strip().lower() for name in environment.get("SYSTEMS", "").split(",") if name.strip()),
            postgres=environment["BENCH_POSTGRES"].replace("+psycopg", ""),
            redis=environment["BENCH_REDIS"],
            raw=Path(environment["BENCH_RAW"]),
            ours=Path(environment["BENCH_OURS"]),
            peers=Path(environment["BENCH_PEERS"]),
        )
