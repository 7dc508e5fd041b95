"""PgQueuer: many jobs by one call of `enqueue`."""

from __future__ import annotations

import json
import os
import sys
import time

import asyncpg  # type: ignore[import-untyped]
import uvloop
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries


async def main() -> None:
    """Measure."""
    count = int(sys.argv[1])
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE"])
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    began = time.perf_counter()
    payloads: list[bytes | None] = [b"%d" % number for number in range(count)]
    await queries.enqueue(["bench"] * count, payloads, [0] * count)
    print(json.dumps({"batch_dispatch_s_10k": time.perf_counter() - began}))
    await connection.close()


def run() -> None:
    """Measure on an event loop."""
    uvloop.run(main())
