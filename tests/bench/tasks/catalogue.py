"""The systems, and how their users start each: every command line of the benchmark is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from tests.bench.ledger.catalogue import Store
from tests.bench.tasks.settings import Settings

_HERE, _LEDGER = "tests.bench.tasks.systems", "tests.bench.ledger.systems"
PORT = 58_080
KEY = "bench-key"


class Durability(Enum):
    """What a task that was dispatched, and hasn't run, survives."""

    MEMORY = "buffer in memory"
    """Its server's death, not its dispatcher's."""
    BROKER = "broker without fsync"
    """Its dispatcher's death, not the broker's machine's."""
    DISK = "fsync or SQL"


@dataclass(frozen=True, slots=True)
class System:
    """A system that is measured."""

    name: str
    durability: Durability
    store: Store | None
    """None: there is none."""
    client: str
    """module:function, see :mod:`tests.bench.ledger.client`."""
    python: str
    """The interpreter of its environment."""
    worker: tuple[str, ...]
    """Starts a worker that runs so many tasks at once."""
    package: str
    """Its distribution, whose version is reported."""
    gates: bool = True
    """Whether gates show when the worker is there in full. Not where one of its processes fetches more than it runs: it
    would keep gates that another's places wait for."""
    install: tuple[str, ...] = ()
    """Makes its tables."""
    environment: Mapping[str, str] = field(default_factory=dict)
    worker_environment: Mapping[str, str] = field(default_factory=dict)


def catalogue(settings: Settings, database: str) -> list[System]:
    """All of them, in the order of the table. ``database``: the URL of the database that they work in."""
    at_once = settings.concurrency
    off = [
        _celery(settings, Store.REDIS_OFF, at_once),
        _dramatiq(settings, Store.REDIS_OFF, at_once),
        _rq(settings, at_once),
        _saq(settings, Store.REDIS_OFF),
        _taskiq(settings, Store.REDIS_OFF, at_once),
    ]
    always = [
        _celery(settings, Store.REDIS_ALWAYS, at_once),
        _dramatiq(settings, Store.REDIS_ALWAYS, at_once),
        _saq(settings, Store.REDIS_ALWAYS),
        _procrastinate(settings, at_once),
    ]
    ours = [_spoke(settings, database, kind) for kind in ("buffer", "outbox")]
    return [ours[0], *off, ours[1], *always]


def _spoke(settings: Settings, database: str, kind: str) -> System:
    program = str(settings.ours / "spoke-jobs")
    url = database.replace("postgresql:", "postgresql+psycopg:")
    outbox = kind == "outbox"
    return System(
        name=f"spoke-jobs ({kind})",
        durability=Durability.DISK if outbox else Durability.MEMORY,
        store=Store.POSTGRES if outbox else None,
        client=f"{_HERE}.spoke:{kind}_client",
        python=str(settings.ours / "python"),
        worker=(program, "tasks"),
        package="spoke-jobs",
        install=(program, "migrate") if outbox else (),
        environment={
            "JOB_RUNNER": "kubernetes",
            "SPOKE_SUBMIT": "sync",
            "SPOKE_APP": f"{_HERE}.spoke",
            "SPOKE_DATABASE_URL": url,
            "SPOKE_TASKS_URL": f"http://127.0.0.1:{PORT}",
            "SPOKE_TASKS_KEY": KEY,
            "SPOKE_TASKS_HOST": "127.0.0.1",
            "SPOKE_TASKS_PORT": str(PORT),
            "SPOKE_TASKS_CONCURRENCY": str(settings.concurrency),
        },
        worker_environment={} if outbox else {"SPOKE_DATABASE_URL": ""},
    )


def _of(store: Store) -> Durability:
    return Durability.DISK if store is Store.REDIS_ALWAYS else Durability.BROKER


def _named(name: str, store: Store) -> str:
    return f"{name} (Redis, AOF always)" if store is Store.REDIS_ALWAYS else f"{name} (Redis)"


def _celery(settings: Settings, store: Store, at_once: int) -> System:
    return System(
        name=_named("Celery", store),
        durability=_of(store),
        store=store,
        client=f"{_LEDGER}.celery:CeleryClient",
        python=str(settings.peers / "python"),
        worker=(
            *(str(settings.peers / "celery"), f"--app={_LEDGER}.celery", "worker"),
            *("--pool=prefork", f"--concurrency={at_once}", "--without-mingle", "--without-gossip"),
        ),
        package="celery",
    )


def _dramatiq(settings: Settings, store: Store, at_once: int) -> System:
    return System(
        name=_named("Dramatiq", store),
        durability=_of(store),
        store=store,
        client=f"{_HERE}.dramatiq:DramatiqClient",
        python=str(settings.peers / "python"),
        worker=(
            *(str(settings.peers / "dramatiq"), f"{_HERE}.dramatiq"),
            *("--processes", "2", "--threads", str(at_once // 2)),
        ),
        package="dramatiq",
        gates=False,
    )


def _rq(settings: Settings, at_once: int) -> System:
    return System(
        name=_named("RQ", Store.REDIS_OFF),
        durability=Durability.BROKER,
        store=Store.REDIS_OFF,
        client=f"{_LEDGER}.rq:RqClient",
        python=str(settings.peers / "python"),
        worker=(str(settings.peers / "rq"), "worker-pool", f"--url={settings.redis}", f"--num-workers={at_once}"),
        package="rq",
    )


def _saq(settings: Settings, store: Store) -> System:
    return System(
        name=_named("SAQ", store),
        durability=_of(store),
        store=store,
        client=f"{_HERE}.saq:SaqClient",
        python=str(settings.peers / "python"),
        worker=(str(settings.peers / "saq"), f"{_HERE}.saq.settings", "--quiet"),
        package="saq",
    )


def _taskiq(settings: Settings, store: Store, at_once: int) -> System:
    return System(
        name=_named("taskiq", store),
        durability=_of(store),
        store=store,
        client=f"{_HERE}.taskiq:TaskiqClient",
        python=str(settings.peers / "python"),
        worker=(
            *(str(settings.peers / "taskiq"), "worker", f"{_HERE}.taskiq:broker"),
            *("--workers", "2", "--max-async-tasks", str(at_once // 2), "--log-level", "WARNING"),
        ),
        package="taskiq",
        gates=False,
    )


def _procrastinate(settings: Settings, at_once: int) -> System:
    program = (str(settings.peers / "procrastinate"), f"--app={_LEDGER}.procrastinate.app")
    return System(
        name="procrastinate",
        durability=Durability.DISK,
        store=Store.POSTGRES,
        client=f"{_LEDGER}.procrastinate:ProcrastinateClient",
        python=str(settings.peers / "python"),
        worker=(*program, "worker", f"--concurrency={at_once}"),
        package="procrastinate",
        install=(*program, "schema", "--apply"),
    )
