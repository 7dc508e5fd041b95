"""A system that is measured, and the store that it works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Store(Enum):
    """Where a system's jobs are, and how safely."""

    POSTGRES = "PostgreSQL"
    REDIS_ALWAYS = "Redis, AOF always"
    REDIS_OFF = "Redis, no AOF"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system that is measured."""

    name: str
    store: Store | None
    """None: there is none, jobs are in their dispatcher's memory."""
    client: str
    """module:function, see :mod:`tests.bench.lib.client`."""
    python: str
    """The interpreter of its environment."""
    worker: tuple[str, ...]
    """Starts a worker that runs so many jobs at once."""
    package: str
    """Its distribution, whose version is reported."""
    gates: bool = True
    """Whether gates show when the worker is there in full. Not where one of its processes fetches more than it runs: it
    would keep gates that another's places wait for."""
    install: tuple[str, ...] = ()
    """Makes its tables."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Its own variables, of client and worker."""
    worker_environment: Mapping[str, str] = field(default_factory=dict)
    """The worker's alone."""
