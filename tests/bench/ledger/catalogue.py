"""The systems, and how their users start each: every command line of the benchmark is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from tests.bench.ledger.settings import Settings

_SYSTEMS = "tests.bench.ledger.systems"


class Store(Enum):
    """Where a system's jobs are, and how safely."""

    POSTGRES = "PostgreSQL"
    REDIS_ALWAYS = "Redis, AOF always"
    REDIS_OFF = "Redis, no AOF"


@dataclass(frozen=True, slots=True)
class System:
    """A system that is measured."""

    name: str
    store: Store
    client: str
    """module:function, see :mod:`tests.bench.ledger.client`."""
    python: str
    """The interpreter of its environment."""
    worker: tuple[str, ...]
    """Starts a worker that runs so many jobs at once."""
    package: str
    """Its distribution, whose version is reported."""
    install: tuple[str, ...] = ()
    """Makes its tables."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name with what tells its rows apart."""
        return self.name if self.store is Store.POSTGRES else f"{self.name} ({self.store.value})"


BASELINE = "procrastinate"
"""What ratios are to."""


def catalogue(settings: Settings, database: str) -> list[System]:
    """All of them, in the order of the table. ``database``: the URL of the database that they work in."""
    at_once = str(settings.concurrency)
    return [
        *_spoke(settings, database),
        _procrastinate(settings, at_once),
        _pgqueuer(settings, database, at_once),
        *(_celery(settings, store, at_once) for store in (Store.REDIS_ALWAYS, Store.REDIS_OFF)),
        *(_rq(settings, store, at_once) for store in (Store.REDIS_ALWAYS, Store.REDIS_OFF)),
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


def _procrastinate(settings: Settings, at_once: str) -> System:
    program = (str(settings.peers / "procrastinate"), f"--app={_SYSTEMS}.procrastinate.app")
    return System(
        name="procrastinate",
        store=Store.POSTGRES,
        client=f"{_SYSTEMS}.procrastinate:ProcrastinateClient",
        python=str(settings.peers / "python"),
        worker=(*program, "worker", f"--concurrency={at_once}"),
        package="procrastinate",
        install=(*program, "schema", "--apply"),
    )


def _pgqueuer(settings: Settings, database: str, at_once: str) -> System:
    python = str(settings.peers / "python")
    return System(
        name="PgQueuer",
        store=Store.POSTGRES,
        client=f"{_SYSTEMS}.pgqueuer:PgQueuerClient",
        python=python,
        worker=(python, "-m", f"{_SYSTEMS}.pgqueuer", at_once),
        package="pgqueuer",
        install=(str(settings.peers / "pgq"), "--pg-dsn", database, "install"),
    )


def _celery(settings: Settings, store: Store, at_once: str) -> System:
    return System(
        name="Celery",
        store=store,
        client=f"{_SYSTEMS}.celery:CeleryClient",
        python=str(settings.peers / "python"),
        worker=(
            *(str(settings.peers / "celery"), f"--app={_SYSTEMS}.celery", "worker"),
            *("--pool=prefork", f"--concurrency={at_once}", "--without-mingle", "--without-gossip"),
        ),
        package="celery",
    )


def _rq(settings: Settings, store: Store, at_once: str) -> System:
    return System(
        name="RQ",
        store=store,
        client=f"{_SYSTEMS}.rq:RqClient",
        python=str(settings.peers / "python"),
        worker=(str(settings.peers / "rq"), "worker-pool", f"--url={settings.redis}", f"--num-workers={at_once}"),
        package="rq",
    )
