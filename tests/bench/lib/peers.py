"""The systems that both benchmarks of queues measure, and how their users start each."""

from __future__ import annotations

from tests.bench.lib.settings import Settings
from tests.bench.lib.system import Store, System

_SYSTEMS = "tests.bench.lib.systems"


def celery(settings: Settings, store: Store) -> System:
    """Its default pool, one process for each job that runs at once."""
    return System(
        name="Celery",
        store=store,
        client=f"{_SYSTEMS}.celery:CeleryClient",
        python=str(settings.peers / "python"),
        worker=(
            *(str(settings.peers / "celery"), f"--app={_SYSTEMS}.celery", "worker"),
            *("--pool=prefork", f"--concurrency={settings.concurrency}", "--without-mingle", "--without-gossip"),
        ),
        package="celery",
    )


def rq(settings: Settings, store: Store) -> System:
    """A pool of workers."""
    pool = (str(settings.peers / "rq"), "worker-pool", f"--url={settings.redis}")
    return System(
        name="RQ",
        store=store,
        client=f"{_SYSTEMS}.rq:RqClient",
        python=str(settings.peers / "python"),
        worker=(*pool, f"--num-workers={settings.concurrency}"),
        package="rq",
    )


def procrastinate(settings: Settings) -> System:
    """One worker."""
    program = (str(settings.peers / "procrastinate"), f"--app={_SYSTEMS}.procrastinate.app")
    return System(
        name="procrastinate",
        store=Store.POSTGRES,
        client=f"{_SYSTEMS}.procrastinate:ProcrastinateClient",
        python=str(settings.peers / "python"),
        worker=(*program, "worker", f"--concurrency={settings.concurrency}"),
        package="procrastinate",
        install=(*program, "schema", "--apply"),
    )
