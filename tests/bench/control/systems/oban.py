"""oban-py: many jobs by one call of `enqueue_many`."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import uvloop
from oban import Oban, worker
from oban.schema import install_sql


@worker(queue="default")
class Bench:
    """The job."""

    async def process(self, job: Any) -> None:
        """Do nothing."""


async def main() -> None:
    """Measure."""
    pool = await Oban.create_pool(os.environ["BENCH_DATABASE"])
    async with pool.connection() as connection:
        await connection.execute(install_sql())  # type: ignore[call-overload]
    oban = Oban(pool=pool)
    began = time.perf_counter()
    await oban.enqueue_many(Bench.new({"number": number}) for number in range(int(sys.argv[1])))
    print(json.dumps({"batch_dispatch_s_10k": time.perf_counter() - began}))
    await pool.close()


def run() -> None:
    """Measure on an event loop."""
    uvloop.run(main())
