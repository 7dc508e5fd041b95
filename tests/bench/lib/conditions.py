"""The machine, the versions, the commit: what a reader has to know to believe a table."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterable

from tests.bench.lib.machine import machine, moment
from tests.bench.lib.place import Place
from tests.bench.lib.report import number
from tests.bench.lib.settings import REPOSITORY
from tests.bench.lib.system import System


def facts(place: Place, systems: Iterable[System], redis: str, run: str) -> dict[str, str]:
    """By name.

    :param redis: how Redis is told to keep what it has.
    :param run: how much was asked for, and of what.
    """
    values = place.postgres.settings()
    place.postgres.create(place.database)
    commits = place.postgres.commits_per_second(place.database)
    version = values.pop("server_version").partition(" ")[0]
    versions = {system.name.partition(" ")[0]: _version(system) for system in systems}
    return {
        "machine": f"{machine()}; dispatchers, workers and servers share it",
        f"PostgreSQL {version}": ", ".join(f"{name}={value}" for name, value in values.items())
        + f"; one connection commits {number(commits)} times a second here",
        f"Redis {place.redis.version()}": redis,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "run": f"{moment()}, {run}; load average before: {os.getloadavg()[0]:.1f}",
    }


def _version(system: System) -> str:
    """A system may be in another environment than this process."""
    if system.package == "spoke-jobs":
        return str(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"])
    program = f"import importlib.metadata as m; print(m.version({system.package!r}))"
    return subprocess.run([system.python, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
