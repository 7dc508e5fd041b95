"""What `dispatch_job` adds to the transaction that it is called in: paired with the same one without it, interleaved.

    python -m tests.bench.dispatch [PAIRS]

On one PostgreSQL (SPOKE_TEST_POSTGRES, or the one that scripts/postgres runs) and the API server of the test cluster:

- left to sync: SPOKE_SUBMIT=sync; the API server isn't asked
- creates itself: the SpokeJob is created before the commit returns to the caller; that it is, is recorded beside it
- the floor of that: the same SpokeJob posted by urllib3 alone, on a connection that is open
- the API server hangs: it takes connections and never answers; the first dispatch, and those after it

A pair is the application's own transaction, a row of its own and the commit, without a dispatch and with one, in
random order. Both the whole transaction is measured and its commit alone. Writes its table into docs/benchmarks.md
(with all pairs only), and ends with one line `BENCH {...}`: milliseconds, medians of the paired differences.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from tests.bench.lib.commit import commit
from tests.bench.lib.database import ledger_database
from tests.bench.lib.machine import machine, moment
from tests.bench.lib.report import Section, last_line
from tests.integration.sync.proxy import kubeconfig_by
from tests.integration.sync.stage import Cluster, find_kubeconfig
from tests.unit.sync.making import job

from spoke_jobs import JobData
from spoke_jobs.cluster.api import SpokeJobs, Timeouts
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes import KubernetesRunner
from spoke_jobs.settings import Settings

PAIRS = 300
WARM_UP = 20
SECTION = Section("dispatch", "make bench-dispatch")
OWN_ROW = text("INSERT INTO upload (name) VALUES ('contacts.csv')")
SOME_JOB = job()
PAYLOAD = {"upload": 17, "columns": ["first", "last", "cell", "zip"]}

Times = tuple[float, float]
"""Of the whole transaction, and of its commit alone; milliseconds."""


def transaction(engine: Engine, runner: KubernetesRunner | None) -> Times:
    """The application's transaction, with a dispatch if there is a runner for it."""
    began = time.perf_counter()
    with Session(engine) as session:
        session.execute(OWN_ROW)
        if runner is not None:
            runner.dispatch_job(JobData("work", PAYLOAD, queue_name="1:contacts"), session=session)
        before = time.perf_counter()
        session.commit()
        ended = time.perf_counter()
    return (ended - began) * 1000, (ended - before) * 1000


def pairs(engine: Engine, runner: KubernetesRunner, count: int) -> list[tuple[Times, Times]]:
    """So many pairs: without, with."""
    found = []
    for _ in range(count):
        if random.random() < 0.5:
            without, beside = transaction(engine, None), transaction(engine, runner)
        else:
            beside, without = transaction(engine, runner), transaction(engine, None)
        found.append((without, beside))
    return found


def figures_of(found: list[tuple[Times, Times]]) -> dict[str, float]:
    """Medians without the dispatch, and of what it adds."""
    added = [beside[0] - without[0] for without, beside in found]
    return {
        "floor": statistics.median(without[0] for without, _ in found),
        "added": statistics.median(added),
        "added_p99": statistics.quantiles(added, n=100)[98],
        "added_to_commit": statistics.median(beside[1] - without[1] for without, beside in found),
    }


def bare_posts(api: SpokeJobs, count: int) -> list[float]:
    """Milliseconds of the API server's answer to each of so many SpokeJobs, with as little of ours as can be."""
    pool, url = api._api.rest_client.pool_manager, api.server + api._path
    took = []
    for _ in range(count):
        body = json.dumps(spokejob(replace(SOME_JOB, uid=uuid.uuid4()), api.namespace))
        began = time.perf_counter()
        answer = pool.request("POST", url, body=body, headers={"Content-Type": "application/json"})
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status == 201, answer.data
    return took


@contextmanager
def database() -> Iterator[Engine]:
    """A fresh one, with a table of the application's."""
    with ledger_database() as engine:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE upload (id serial PRIMARY KEY, name text)"))
        yield engine


@contextmanager
def namespace() -> Iterator[Cluster]:
    """A fresh one on the test cluster; what is created there runs nothing."""
    cluster = Cluster(find_kubeconfig(), f"bench-dispatch-{uuid.uuid4().hex[:8]}")
    cluster.install()
    yield cluster
    cluster.close()


def measure(count: int) -> tuple[dict[str, dict[str, float]], float, dict[str, float]]:
    """The figures of both ways to submit, the API server's own part, and the figures of one that hangs."""
    registry = Registry()
    registry.job("work")(lambda _ctx, _payload: None)
    with ExitStack() as stack:
        cluster = stack.enter_context(namespace())
        engine = stack.enter_context(database())
        url = engine.url.render_as_string(hide_password=False)

        def runner(submit: str) -> KubernetesRunner:
            settings = Settings(
                job_runner="kubernetes", database_url=SecretStr(url), namespace=cluster.namespace, submit=submit
            )
            made = KubernetesRunner(settings, registry)
            stack.callback(made.close)
            return made

        os.environ["KUBECONFIG"] = cluster.kubeconfig
        ways = {"left to sync": runner("sync"), "creates itself": runner("runner")}
        for way in ways.values():
            pairs(engine, way, WARM_UP)
        api = SpokeJobs.connect(cluster.namespace, Timeouts())
        stack.callback(api.close)
        bare_posts(api, WARM_UP)
        posts: list[float] = []
        # In turns, so that whatever else the machine does falls on both alike.
        found: dict[str, list[tuple[Times, Times]]] = {name: [] for name in ways}
        for _ in range(count // 10):
            for name, way in ways.items():
                found[name] += pairs(engine, way, 10)
            posts += bare_posts(api, 10)
        created = len(cluster.all()) - WARM_UP - len(posts)
        print(f"{created:,} SpokeJobs made, of {WARM_UP + len(found['creates itself']):,} dispatches", file=sys.stderr)

        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        folder = stack.enter_context(TemporaryDirectory())
        os.environ["KUBECONFIG"] = kubeconfig_by(
            server.getsockname()[1], cluster.kubeconfig, Path(folder) / "kubeconfig"
        )
        hung = runner("runner")
        assert hung.ledger
        first = transaction(engine, hung)[0]
        later = pairs(engine, hung, count)
        added = [beside[0] - without[0] for without, beside in later]
        hangs = {"first": first, "later": statistics.median(added), "later_worst": max(added)}
    return {name: figures_of(item) for name, item in found.items()}, statistics.median(posts), hangs


def table(ways: dict[str, dict[str, float]], post: float, hangs: dict[str, float], count: int) -> str:
    """For people."""
    aims = {"left to sync": "at most 1", "creates itself": "at most 10"}
    floor = ways["left to sync"]["floor"]
    around = f"the transaction without a dispatch takes {floor:.2f} ms (p50); load average before: {LOAD:.1f}"
    rows = [
        f"- machine: {machine()}; PostgreSQL and the test cluster share it; {moment()}",
        f"- {count} pairs of each; {around}",
        "",
        "| a dispatch adds, p50 | to the transaction, ms | of that, to its commit, ms | aim |",
        "| --- | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {name} | {item['added']:.2f} | {item['added_to_commit']:.2f} | {aims[name]} |"
        for name, item in ways.items()
    ]
    rows += [
        f"| its floor: the bare POST of a SpokeJob | | {post:.2f} | |",
        f"| the API server hangs: the first | {hangs['first'] - floor:,.0f} | | at most 1,000 |",
        f"| the API server hangs: those after it | {hangs['later']:.2f} | | as left to sync |",
        f"| the API server hangs: the slowest of those | {hangs['later_worst']:.0f} | | no wait |",
    ]
    return "\n".join(rows)


LOAD = os.getloadavg()[0]


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    logging.getLogger("spoke_jobs").setLevel(logging.ERROR)
    ways, post, hangs = measure(count)
    shown = table(ways, post, hangs, count)
    print(shown)
    if count >= PAIRS:
        SECTION.write(shown)
    figures = {
        "pairs": count,
        "commit": commit(),
        "sync_added_ms": round(ways["left to sync"]["added"], 3),
        "sync_added_to_commit_ms": round(ways["left to sync"]["added_to_commit"], 3),
        "runner_added_ms": round(ways["creates itself"]["added"], 3),
        "runner_added_to_commit_ms": round(ways["creates itself"]["added_to_commit"], 3),
        "bare_post_ms": round(post, 3),
        "runner_added_p99_ms": round(ways["creates itself"]["added_p99"], 3),
        "hangs_first_ms": round(hangs["first"], 1),
        "hangs_later_added_ms": round(hangs["later"], 3),
        "hangs_later_worst_ms": round(hangs["later_worst"], 1),
    }
    print(last_line("dispatch", figures))


if __name__ == "__main__":
    main()
