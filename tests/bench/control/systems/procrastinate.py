"""procrastinate: a batch by `batch_defer_async`, and due times by the function that its worker's deferrer calls."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from procrastinate import App, PsycopgConnector

_SCHEDULES = 500
app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE"]))


@app.task(name="bench")
async def bench(number: int) -> None:
    """The task."""


@app.task(name="noop")
async def noop(timestamp: int) -> None:
    """The task of schedules."""


async def main() -> None:
    """Measure."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        began = time.perf_counter()
        await bench.batch_defer_async(*({"number": number} for number in range(int(sys.argv[1]))))
        batch = time.perf_counter() - began
        began = time.perf_counter()
        for number in range(_SCHEDULES):
            job = noop.configure(task_kwargs={"timestamp": 60}).job
            await app.job_manager.defer_periodic_job(job=job, periodic_id=f"s{number}", defer_timestamp=60)
        ticks = _SCHEDULES / (time.perf_counter() - began)
    print(json.dumps({"batch_dispatch_s_10k": batch, "ticks_per_s": ticks}))


def run() -> None:
    """Measure on an event loop."""
    asyncio.run(main())
