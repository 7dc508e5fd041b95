"""The systems, and how their users start each: every command line is here, or in :mod:`tests.bench.lib.peers`."""

from __future__ import annotations

from pathlib import Path

from tests.bench.ledger.settings import Settings
from tests.bench.lib import peers
from tests.bench.lib.system import Store, System

_SYSTEMS = "tests.bench.ledger.systems"

BASELINE = "procrastinate"
"""What ratios are to."""


def label(system: System) -> str:
    """Its name with what tells its rows apart."""
    if system.store is None or system.store is Store.POSTGRES:
        return system.name
    return f"{system.name} ({system.store.value})"


def catalogue(settings: Settings, database: str) -> list[System]:
    """All of them, in the order of the table. ``database``: the URL of the database that they work in."""
    redis = (Store.REDIS_ALWAYS, Store.REDIS_OFF)
    return [
        *_spoke(settings, database),
        peers.procrastinate(settings),
        _pgqueuer(settings, database),
        *([_oban(settings.oban, settings, database)] if settings.oban else []),
        *(peers.celery(settings, store) for store in redis),
        *(peers.rq(settings, store) for store in redis),
    ]


def _spoke(settings: Settings, database: str) -> list[System]:
    program = str(settings.ours / "spoke-jobs")
    # `def` jobs run one to a process, `async def` ones together on one event loop.
    workers = {
        "async": (program, "worker", "--processes", "1", "--concurrency", str(settings.concurrency)),
        "def": (program, "worker", "--processes", str(settings.concurrency), "--concurrency", "1"),
    }
    return [
        System(
            name=f"spoke-jobs ({kind})",
            store=Store.POSTGRES,
            client=f"{_SYSTEMS}.spoke:{kind}_client",
            python=str(settings.ours / "python"),
            worker=worker,
            package="spoke-jobs",
            install=(program, "migrate"),
            environment={
                "JOB_RUNNER": "legacy",
                "SPOKE_APP": f"{_SYSTEMS}.spoke",
                "SPOKE_DATABASE_URL": database.replace("postgresql:", "postgresql+psycopg:"),
            },
        )
        for kind, worker in workers.items()
    ]


def _pgqueuer(settings: Settings, database: str) -> System:
    python = str(settings.peers / "python")
    return System(
        name="PgQueuer",
        store=Store.POSTGRES,
        client=f"{_SYSTEMS}.pgqueuer:PgQueuerClient",
        python=python,
        worker=(python, "-m", f"{_SYSTEMS}.pgqueuer", str(settings.concurrency)),
        package="pgqueuer",
        install=(str(settings.peers / "pgq"), "--pg-dsn", database, "install"),
    )


def _oban(programs: Path, settings: Settings, database: str) -> System:
    python = str(programs / "python")
    return System(
        name="oban-py",
        store=Store.POSTGRES,
        client=f"{_SYSTEMS}.oban:ObanClient",
        python=python,
        worker=(
            *(python, "-m", "oban", "start", f"--dsn={database}", f"--queues=default:{settings.concurrency}"),
            *(f"--cron-modules={_SYSTEMS}.oban", f"--pool-max-size={settings.concurrency + 2}", "--log-level=warning"),
        ),
        package="oban",
        install=(python, "-m", f"{_SYSTEMS}.oban"),
    )
