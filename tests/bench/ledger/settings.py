"""What `make bench` can be told by the environment beside what every run can (see :mod:`tests.bench.lib.settings`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.bench.lib import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(settings.Settings):
    """See the fields."""

    backlog: int = 3000
    """BACKLOG: how many jobs are enqueued at most before the worker starts."""
    enqueue_seconds: float = 1.5
    """ENQUEUE_SECONDS: how long enqueueing goes on at most."""

    @property
    def oban(self) -> Path | None:
        """The folder of the programs of oban-py's environment (BENCH_OBAN); None without a Python for it."""
        folder = os.environ.get("BENCH_OBAN")
        return Path(folder) if folder else None
