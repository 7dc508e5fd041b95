"""The systems, and how their users start each: every command line is here, or in :mod:`tests.bench.lib.peers`."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from tests.bench.lib import peers
from tests.bench.lib.system import Store, System
from tests.bench.tasks.settings import Settings

_SYSTEMS = "tests.bench.tasks.systems"
PORT = 28_080
KEY = "bench-key-0123456789-0123456789-01"


class Durability(Enum):
    """What a task that was dispatched, and hasn't run, survives."""

    MEMORY = "buffer in memory"
    """Its server's death, not its dispatcher's."""
    BROKER = "broker without fsync"
    """Its dispatcher's death, not the broker's machine's."""
    DISK = "fsync or SQL"


def durability(system: System) -> Durability:
    """By the store that it works on."""
    if system.store is None:
        return Durability.MEMORY
    return Durability.BROKER if system.store is Store.REDIS_OFF else Durability.DISK


def catalogue(settings: Settings, database: str) -> list[System]:
    """All of them, in the order of the table. ``database``: the URL of the database that they work in."""
    off, always = Store.REDIS_OFF, Store.REDIS_ALWAYS
    return [
        _spoke(settings, database, "buffer"),
        _on_redis(peers.celery(settings, off)),
        _on_redis(_dramatiq(settings, off)),
        _on_redis(peers.rq(settings, off)),
        _on_redis(_saq(settings, off)),
        _on_redis(_taskiq(settings, off)),
        _spoke(settings, database, "outbox"),
        _on_redis(peers.celery(settings, always)),
        _on_redis(_dramatiq(settings, always)),
        _on_redis(_saq(settings, always)),
        peers.procrastinate(settings),
    ]


def _on_redis(system: System) -> System:
    """With a name that tells its rows apart."""
    kept = ", AOF always" if system.store is Store.REDIS_ALWAYS else ""
    return replace(system, name=f"{system.name} (Redis{kept})")


def _spoke(settings: Settings, database: str, kind: str) -> System:
    program = str(settings.ours / "spoke-jobs")
    url = database.replace("postgresql:", "postgresql+psycopg:")
    outbox = kind == "outbox"
    return System(
        name=f"spoke-jobs ({kind})",
        store=Store.POSTGRES if outbox else None,
        client=f"{_SYSTEMS}.spoke:{kind}_client",
        python=str(settings.ours / "python"),
        worker=(program, "tasks"),
        package="spoke-jobs",
        install=(program, "migrate") if outbox else (),
        environment={
            "JOB_RUNNER": "kubernetes",
            "SPOKE_SUBMIT": "sync",
            "SPOKE_APP": f"{_SYSTEMS}.spoke",
            "SPOKE_DATABASE_URL": url,
            "SPOKE_TASKS_URL": f"http://127.0.0.1:{PORT}",
            "SPOKE_TASKS_KEY": KEY,
            "SPOKE_TASKS_HOST": "127.0.0.1",
            "SPOKE_TASKS_PORT": str(PORT),
            "SPOKE_TASKS_CONCURRENCY": str(settings.concurrency),
        },
        worker_environment={} if outbox else {"SPOKE_DATABASE_URL": ""},
    )


def _dramatiq(settings: Settings, store: Store) -> System:
    return System(
        name="Dramatiq",
        store=store,
        client=f"{_SYSTEMS}.dramatiq:DramatiqClient",
        python=str(settings.peers / "python"),
        worker=(
            *(str(settings.peers / "dramatiq"), f"{_SYSTEMS}.dramatiq"),
            *("--processes", "2", "--threads", str(settings.concurrency // 2)),
        ),
        package="dramatiq",
        gates=False,
    )


def _saq(settings: Settings, store: Store) -> System:
    return System(
        name="SAQ",
        store=store,
        client=f"{_SYSTEMS}.saq:SaqClient",
        python=str(settings.peers / "python"),
        worker=(str(settings.peers / "saq"), f"{_SYSTEMS}.saq.settings", "--quiet"),
        package="saq",
    )


def _taskiq(settings: Settings, store: Store) -> System:
    return System(
        name="taskiq",
        store=store,
        client=f"{_SYSTEMS}.taskiq:TaskiqClient",
        python=str(settings.peers / "python"),
        worker=(
            *(str(settings.peers / "taskiq"), "worker", f"{_SYSTEMS}.taskiq:broker"),
            *("--workers", "2", "--max-async-tasks", str(settings.concurrency // 2), "--log-level", "WARNING"),
        ),
        package="taskiq",
        gates=False,
    )
