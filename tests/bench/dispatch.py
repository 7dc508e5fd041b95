"""What `dispatch_job` adds to the transaction that it is called in: paired with the same one without it, interleaved.

    python -m tests.bench.dispatch [PAIRS]

On one PostgreSQL (SPOKE_TEST_POSTGRES, or the one that scripts/postgres runs) and the API server of the test cluster:

- left to sync: SPOKE_SUBMIT=sync; the API server isn't asked
- creates itself: the SpokeJob is created beside the caller. Once with all quiet before each transaction (the threads
  that create have ended, and are started anew), once without a pause between the transactions
- created by hand: the same transaction, and after its commit a bare POST of the SpokeJob, by urllib3 on a connection
  that is open: what it would cost to wait for the API server
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
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
from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.model import JobRequest
from spoke_jobs.registry import Registry
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.settings import Settings

PAIRS = 300
WARM_UP = 20
SECTION = Section("dispatch", "make bench-dispatch")
OWN_ROW = text("INSERT INTO upload (name) VALUES ('contacts.csv')")
SOME_JOB = job()
PAYLOAD = {"upload": 17, "columns": ["first", "last", "cell", "zip"]}

Times = tuple[float, float]
"""Of the whole transaction, and of its commit alone; milliseconds."""


@dataclass(frozen=True)
class Way:
    """What is done beside the application's own row; ``after`` counts as the commit's, ``quiet`` is not timed."""

    before: Callable[[Session], object] = lambda _session: None
    after: Callable[[], object] = lambda: None
    quiet: Callable[[], object] = lambda: None


NOTHING = Way()


def dispatching(runner: KubernetesRunner, *, quiet: bool = False) -> Way:
    """A dispatch in the transaction."""
    data = JobData("work", PAYLOAD, queue_name="1:contacts")
    return Way(
        before=lambda session: runner.dispatch_job(data, session=session),
        quiet=lambda: runner._submitter.close(60) if quiet else None,
    )


def by_hand(api: SpokeJobClient) -> Way:
    """No dispatch; the API server's answer to a SpokeJob after the commit, with as little of ours as can be."""
    pool, url = api._api.rest_client.pool_manager, api.server + api._path

    def post() -> None:
        body = json.dumps(spokejob(replace(SOME_JOB, uid=uuid.uuid4()), api.namespace))
        answer = pool.request("POST", url, body=body, headers={"Content-Type": "application/json"})
        assert answer.status == 201, answer.data

    return Way(after=post)


def transaction(engine: Engine, way: Way) -> Times:
    """The application's transaction."""
    began = time.perf_counter()
    with Session(engine) as session:
        session.execute(OWN_ROW)
        way.before(session)
        before = time.perf_counter()
        session.commit()
        way.after()
        ended = time.perf_counter()
    return (ended - began) * 1000, (ended - before) * 1000


def pairs(engine: Engine, way: Way, count: int) -> list[tuple[Times, Times]]:
    """So many pairs: without, with."""
    found = []
    for _ in range(count):
        times = {}
        for which in random.sample((NOTHING, way), 2):
            way.quiet()
            times[which] = transaction(engine, which)
        found.append((times[NOTHING], times[way]))
    return found


class Promptness:
    """How long after its commit the API server has answered; milliseconds."""

    def __init__(self, runner: KubernetesRunner) -> None:
        self.found: list[float] = []
        self._committed: dict[int, float] = {}
        self._submit, self._create = runner._submitter.submit, runner._create
        runner._submitter.submit = self.submit  # type: ignore[method-assign]
        runner._create = self.create  # type: ignore[method-assign]

    def submit(self, jobs: Iterable[JobRequest]) -> None:
        """The runner hears of a commit."""
        jobs = list(jobs)
        self._committed |= {job.id: time.perf_counter() for job in jobs}
        self._submit(jobs)

    def create(self, job: JobRequest) -> bool:
        """The API server is asked."""
        created = self._create(job)
        self.found.append((time.perf_counter() - self._committed[job.id]) * 1000)
        return created


def figures_of(found: list[tuple[Times, Times]]) -> dict[str, float]:
    """Medians without the dispatch, and of what it adds."""
    added = [beside[0] - without[0] for without, beside in found]
    return {
        "alone": statistics.median(without[0] for without, _ in found),
        "alone_commit": statistics.median(without[1] for without, _ in found),
        "whole": statistics.median(beside[0] for _, beside in found),
        "commit": statistics.median(beside[1] for _, beside in found),
        "added": statistics.median(added),
        "added_p99": statistics.quantiles(added, n=100)[98],
        "added_to_commit": statistics.median(beside[1] - without[1] for without, beside in found),
    }


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


def measure(count: int) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """The figures of each way, and of an API server that hangs."""
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
        api = SpokeJobClient.connect(cluster.namespace, Timeouts())
        stack.callback(api.close)
        itself, busy = runner("runner"), runner("runner")
        ways = {
            "left to sync": dispatching(runner("sync")),
            "creates itself": dispatching(itself, quiet=True),
            "without a pause": dispatching(busy),
            "by hand": by_hand(api),
        }
        for way in ways.values():
            pairs(engine, way, WARM_UP)
        promptness = Promptness(itself)
        # In turns, so that whatever else the machine does falls on all alike.
        found: dict[str, list[tuple[Times, Times]]] = {name: [] for name in ways}
        for _ in range(count // 10):
            for name, way in ways.items():
                found[name] += pairs(engine, way, 10)
                busy._submitter.close(60)
        made, wanted = len(cluster.all()), 3 * (WARM_UP + len(found["by hand"]))
        print(f"{made:,} SpokeJobs made, of {wanted:,}", file=sys.stderr)
        assert made == wanted

        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        folder = stack.enter_context(TemporaryDirectory())
        os.environ["KUBECONFIG"] = kubeconfig_by(
            server.getsockname()[1], cluster.kubeconfig, Path(folder) / "kubeconfig"
        )
        hung = runner("runner")
        assert hung.ledger
        opened = pairs(engine, dispatching(hung), 1)
        while not hung._submitter.is_paused():
            opened += pairs(engine, dispatching(hung), 1)
        later = pairs(engine, dispatching(hung), count)
        hangs = {
            "first": opened[0][1][0],
            "opening": figures_of(opened)["added"],
            "opening_worst": max(beside[0] - without[0] for without, beside in opened),
            "later": figures_of(later)["added"],
        }
    figures = {name: figures_of(item) for name, item in found.items()}
    figures["creates itself"]["created_after"] = statistics.median(promptness.found)
    # There the transactions without a dispatch are slowed, too, by the launches of those before: no pair shows that.
    quiet, busy_ones = figures["left to sync"], figures["without a pause"]
    busy_ones["added"] = busy_ones["whole"] - quiet["alone"]
    busy_ones["added_to_commit"] = busy_ones["commit"] - quiet["alone_commit"]
    return figures, hangs


def table(ways: dict[str, dict[str, float]], hangs: dict[str, float], count: int) -> str:
    """For people."""
    alone, soon = ways["left to sync"]["alone"], ways["creates itself"]["created_after"]
    around = f"the transaction without a dispatch takes {alone:.2f} ms (p50); load average before: {LOAD:.1f}"
    rows = [
        f"- machine: {machine()}; PostgreSQL and the test cluster share it; {moment()}",
        f"- {count} pairs of each; {around}",
        f"- a SpokeJob that the runner creates itself is there {soon:.1f} ms after the commit (p50)",
        "",
        "| a dispatch adds, p50 | to the transaction, ms | of that, to its commit, ms | aim |",
        "| --- | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {name} | {ways[way]['added']:.2f} | {ways[way]['added_to_commit']:.2f} | {aim} |"
        for way, name, aim in (
            ("left to sync", "left to sync", "at most 1"),
            ("creates itself", "creates itself", "at most 10"),
            ("without a pause", "creates itself, without a pause between transactions", ""),
            ("by hand", "created by hand after the commit: a bare POST", ""),
        )
    ]
    rows += [
        f"| the API server hangs: the first | {hangs['first'] - alone:.1f} | | at most 1,000 |",
        f"| the API server hangs: until that is noticed | {hangs['opening']:.2f} | | |",
        f"| the API server hangs: the slowest of those | {hangs['opening_worst']:.1f} | | at most 1,000 |",
        f"| the API server hangs: from then on | {hangs['later']:.2f} | | as left to sync |",
    ]
    return "\n".join(rows)


LOAD = os.getloadavg()[0]


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    logging.getLogger("spoke_jobs").setLevel(logging.ERROR)
    ways, hangs = measure(count)
    shown = table(ways, hangs, count)
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
        "runner_created_after_ms": round(ways["creates itself"]["created_after"], 3),
        "without_a_pause_added_ms": round(ways["without a pause"]["added"], 3),
        "without_a_pause_added_to_commit_ms": round(ways["without a pause"]["added_to_commit"], 3),
        "by_hand_added_to_commit_ms": round(ways["by hand"]["added_to_commit"], 3),
        "runner_added_p99_ms": round(ways["creates itself"]["added_p99"], 3),
        "hangs_first_added_ms": round(hangs["first"] - ways["left to sync"]["alone"], 3),
        "hangs_worst_added_ms": round(hangs["opening_worst"], 3),
        "hangs_later_added_ms": round(hangs["later"], 3),
    }
    print(last_line("dispatch", figures))


if __name__ == "__main__":
    main()
