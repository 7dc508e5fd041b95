"""The other systems, each in its own environment, with an empty database."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from tests.bench.control.batches import JOBS
from tests.bench.lib.database import POSTGRES_URL


@dataclass(frozen=True, slots=True)
class Peer:
    """A system beside which this library is measured."""

    name: str
    package: str
    python: str

    @property
    def module(self) -> str:
        """What measures it."""
        return f"tests.bench.control.systems.{self.name.lower().removesuffix('-py')}"


NAMES = ("procrastinate", "PgQueuer", "oban-py")


def peers(environment: Mapping[str, str] = os.environ) -> Sequence[Peer]:
    """Return those that are installed. oban-py needs a newer Python, which not every machine has."""
    usual, newer = environment["BENCH_PEERS"], environment.get("BENCH_OBAN", "")
    found = [Peer("procrastinate", "procrastinate", usual), Peer("PgQueuer", "pgqueuer", usual)]
    return [*found, *([Peer("oban-py", "oban", newer)] if newer else [])]


def version(peer: Peer) -> str:
    """Return the release that is measured."""
    program = f"import importlib.metadata as m; print(m.version({peer.package!r}))"
    return subprocess.run(
        [str(Path(peer.python) / "python"), "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()


def measured(peer: Peer) -> dict[str, float]:
    """Return a peer's figures."""
    admin = create_engine(POSTGRES_URL, isolation_level="AUTOCOMMIT")
    name = f"bench_{uuid.uuid4().hex[:12]}"
    url = make_url(POSTGRES_URL).set(database=name, drivername="postgresql")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    try:
        command = [str(Path(peer.python) / "python"), "-c", f"from {peer.module} import run; run()", str(JOBS)]
        environment = os.environ | {"BENCH_DATABASE": url.render_as_string(hide_password=False)}
        answer = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
        found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
        return found
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()
