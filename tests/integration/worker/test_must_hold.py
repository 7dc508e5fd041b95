"""What must hold whatever happens to workers and database: on PostgreSQL, with real processes.

Each in a short version, and in the whole one with ``-m long``.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from tests.contract.worker import Site, processes
from tests.integration.sync.proxy import Proxy
from tests.integration.worker import must_hold_app
from tests.integration.worker.must_hold_app import effects
from tests.waiting import WITHIN_SECONDS, eventually, patient

from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import JobData, JobState

APP = "tests.integration.worker.must_hold_app:registry"


def make_site(url: str, folder: Path, **environment: str) -> Site:
    site = Site(url, folder)
    must_hold_app.metadata.create_all(site.engine)
    site.runner.registry = must_hold_app.registry
    site._environment |= {"SPOKE_APP": APP, "SPOKE_POLL_SECONDS": "0.2"} | environment
    return site


@pytest.fixture
def site(postgres_ledger_url: str, tmp_path: Path) -> Iterator[Site]:
    made = make_site(postgres_ledger_url, tmp_path)
    yield made
    made.close()


def members(session: int) -> list[int]:
    """The processes of a worker: each of its children has a group of its own."""
    found = []
    for pid in processes():
        with suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                found.append(pid)
    return found


def signal_all(session: int, number: int) -> None:
    for pid in members(session):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def finish(site: Site, jobs: list[int], within: float = WITHIN_SECONDS) -> None:
    """Wait until all have succeeded."""
    statement = select(job_request.c.id).where(job_request.c.id.in_(jobs), job_request.c.state != "succeeded").limit(1)

    def unfinished() -> int | None:
        with site.engine.connect() as connection:
            return connection.scalar(statement)

    def state() -> object:
        job = unfinished()
        return job and (site.row(job), site.causes(job), site.log[-5000:])

    eventually(lambda: unfinished() is None, "all succeed", within, state=state)


def claims_since(site: Site, pid: int) -> float:
    """When a worker first claimed something: for ever later, while it did not."""
    first = select(func.min(job_attempt.c.claimed_at)).where(job_attempt.c.worker.like(f"%:{pid}%"))
    with site.engine.connect() as connection:
        moment = connection.scalar(first)
    return math.inf if moment is None else float(moment.timestamp())


def results(site: Site) -> dict[int, int]:
    """How often each job left its effect."""
    with site.engine.connect() as connection:
        rows = connection.execute(select(effects.c.job_id, func.count()).group_by(effects.c.job_id))
        return {job_id: count for job_id, count in rows}  # noqa: C416


def notes(folder: Path) -> list[tuple[str, str, int, float]]:
    """word, key, attempt (or job), when."""
    lines = (folder / "notes").read_text().splitlines() if (folder / "notes").exists() else []
    return [(word, key, int(attempt), float(when)) for word, key, attempt, when, _ in map(str.split, lines)]


def spans(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """From when to when each attempt (or each job in a queue) is known to have run, by key."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _, key, attempt, when in notes(folder):
        found[key, attempt].append(when)
    by_key: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (key, _), times in found.items():
        by_key[key].append((min(times), max(times)))
    return by_key


def overlaps(by_key: dict[str, list[tuple[float, float]]]) -> int:
    """How many ran at a time when one before them of the same key still did."""
    count = 0
    for intervals in by_key.values():
        latest = 0.0
        for start, end in sorted(intervals):
            count += start < latest
            latest = max(latest, end)
    return count


@pytest.mark.alone
@pytest.mark.parametrize(
    ("jobs", "kills", "seconds", "lease"),
    [(64, 1, 1.0, 2.0), pytest.param(200, 10, 2.0, 4.0, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
    ids=["short", "whole"],
)
def test_workers_killed_amid_their_jobs_lose_none_and_record_none_twice(
    site: Site, jobs: int, kills: int, seconds: float, lease: float
) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = str(lease)
    ids = [
        site.runner.dispatch_job(
            JobData("async_effect" if n % 2 else "effect", seconds, retry=must_hold_app.PATIENT)
        ).id
        for n in range(jobs)
    ]
    chance = random.Random(4)
    options = ("--processes", "2", "--concurrency", "2", "--batch", "4")
    killed_at: list[float] = []
    lost: dict[int, tuple[int, float]] = {}
    live = select(job_attempt.c.id, job_attempt.c.job_id).where(job_attempt.c.state == "running")
    with ExitStack() as stack:
        workers = [stack.enter_context(site.worker(*options)) for _ in range(2)]
        for turn in range(kills):
            share = (turn + 1) * jobs // (kills + 2)
            site.wait(lambda share=share: len(results(site)) >= share)  # type: ignore[misc]
            victim = chance.randrange(2)
            # The other's reaper is at work: one that has just started waits for a lease, since it can't know whether
            # the database was away, and live owners had no chance to renew.
            other = workers[1 - victim].pid
            site.wait(lambda other=other: time.time() > claims_since(site, other) + lease + 0.2)  # type: ignore[misc]
            signal_all(workers[victim].pid, signal.SIGSTOP)  # so that nothing ends between the look and the kill
            owner = f"%:{workers[victim].pid}%"
            with site.engine.connect() as connection:
                mine = connection.execute(live.where(job_attempt.c.worker.like(owner))).all()
            signal_all(workers[victim].pid, signal.SIGKILL)
            killed_at.append(time.time())
            lost |= {attempt_id: (job_id, killed_at[-1]) for attempt_id, job_id in mine}
            workers[victim].wait()
            workers[victim] = stack.enter_context(site.worker(*options))
        finish(site, ids, 600 if kills > 2 else 120)
    assert results(site) == dict.fromkeys(ids, 1)
    with site.engine.connect() as connection:
        ended = {
            row.id: row
            for row in connection.execute(
                select(job_attempt.c.id, job_attempt.c.state, job_attempt.c.cause, job_attempt.c.finished_at)
            )
        }
        succeeded = connection.scalars(
            select(func.count()).where(job_attempt.c.state == "succeeded").group_by(job_attempt.c.job_id)
        ).all()
    assert list(succeeded) == [1] * jobs
    took = [
        ended[attempt_id].finished_at.timestamp() - when
        for attempt_id, (_, when) in lost.items()
        if ended[attempt_id].cause == "WorkerLost"  # others had ended, or been given back, before the kill
    ]
    causes = {row.cause for row in ended.values()}
    assert causes <= {"", "WorkerLost"}, causes
    assert took
    reap_interval = min(5.0, lease / 3)
    print(
        f"\n{kills} kills, {len(took)} attempts lost; reclaimed after {min(took):.2f} to {max(took):.2f} s "
        f"(lease {lease:g} s, reap interval {reap_interval:.2f} s)"
    )
    assert max(took) < lease + reap_interval + 3.0  # for a machine that is busy


def _dispatch_to_queues(site: Site, jobs: int, queues: int, round_robin: bool, seconds: float) -> list[int]:
    order = [n % queues for n in range(jobs)] if round_robin else [n * queues // jobs for n in range(jobs)]
    payload = {"folder": str(site.folder), "seconds": seconds}
    data = []
    seen: dict[int, int] = defaultdict(int)
    for queue in order:
        seen[queue] += 1
        data.append(JobData("hold", payload, queue_name=f"q{queue}", locks_queue=seen[queue] % 2 == 0))
    return [job.id for job in site.runner.dispatch_jobs(data)]


def _locking_spans(site: Site, jobs: list[int]) -> dict[str, list[tuple[float, float]]]:
    locking = {job_id for job_id in jobs if site.row(job_id).locks_queue}
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _, queue, job_id, when in notes(site.folder):
        if job_id in locking:
            found[queue, job_id].append(when)
    by_queue: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (queue, _), times in found.items():
        assert len(times) == 2  # in and out, once
        by_queue[queue].append((times[0], times[1]))
    return by_queue


WHOLE_QUEUES: Any = [
    pytest.param(1000, 50, workers, batch, turn, marks=[pytest.mark.long, pytest.mark.timeout(900)])
    for workers, batch, turn in ((2, 1, True), (8, 16, False))
]


@pytest.mark.parametrize(("jobs", "queues", "workers", "batch", "round_robin"), [(120, 12, 2, 16, True), *WHOLE_QUEUES])
def test_jobs_that_lock_their_queue_never_overlap(
    site: Site, jobs: int, queues: int, workers: int, batch: int, round_robin: bool
) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "60"  # so that every lease is valid
    ids = _dispatch_to_queues(site, jobs, queues, round_robin, 0.02)
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(site.worker("--processes", "3", "--concurrency", "1", "--batch", str(batch)))
        finish(site, ids, 300)
    assert overlaps(_locking_spans(site, ids)) == 0


@pytest.mark.alone
def test_a_frozen_worker_records_nothing_once_it_is_thawed(site: Site) -> None:
    thawed = site.folder / "thawed"
    jobs = [site.dispatch(job_type, str(thawed)) for job_type in ("write_and_wait", "async_write_and_wait")]
    with site.worker("--processes", "1") as frozen:
        for job_id in jobs:
            site.pid_of(job_id)
        signal_all(frozen.pid, signal.SIGSTOP)
        with site.worker("--processes", "1") as other:
            for job_id in jobs:
                assert site.wait_for(job_id, JobState.SUCCEEDED).result == 2
            thawed.touch()
            signal_all(frozen.pid, signal.SIGCONT)
            site.wait(lambda: "lease" in site.log or "another process holds" in site.log)
            other.send_signal(signal.SIGTERM)
            assert other.wait(patient(60)) == 0
        # It is as good as any other again.
        again = site.dispatch("effect", 0)
        assert site.wait_for(again, JobState.SUCCEEDED).result == 1
    assert [site.causes(job_id) for job_id in jobs] == [["WorkerLost", ""]] * 2
    assert results(site) == dict.fromkeys([*jobs, again], 1)
    with site.engine.connect() as connection:
        assert connection.scalars(select(effects.c.attempt).where(effects.c.job_id.in_(jobs))).all() == [2, 2]


@pytest.fixture
def proxied(postgres_ledger_url: str, tmp_path: Path) -> Iterator[tuple[Site, Proxy]]:
    """A site whose workers reach the database through a proxy. The test itself has another way."""
    url = make_url(postgres_ledger_url)
    proxy = Proxy((url.host or "", url.port or 5432))
    through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    site = make_site(postgres_ledger_url, tmp_path, SPOKE_DATABASE_URL=through)
    yield site, proxy
    proxy.close()
    site.close()


@pytest.mark.alone
@pytest.mark.parametrize("how", ["cut", "hang"])
def test_a_worker_cut_from_the_database_stops_its_jobs_before_their_leases_end(
    proxied: tuple[Site, Proxy], postgres_ledger_url: str, tmp_path: Path, how: str
) -> None:
    site, proxy = proxied
    jobs = [site.dispatch(job_type, {"folder": str(tmp_path)}) for job_type in ("beat", "async_beat")]
    with site.worker("--processes", "1") as cut_off:
        site.wait(lambda: {key for _, key, _, _ in notes(tmp_path)} == set(map(str, jobs)))
        getattr(proxy, how)()
        # Its leases are what the database last heard; from their end on another may run the jobs.
        site._environment["SPOKE_DATABASE_URL"] = postgres_ledger_url
        with site.worker("--processes", "1"):
            site.wait(lambda: {attempt for _, _, attempt, _ in notes(tmp_path)} == {1, 2})
            with site.engine.connect() as connection:
                rows = connection.execute(
                    select(job_attempt.c.job_id, job_attempt.c.lease_expires_at).where(job_attempt.c.number == 1)
                )
                lease_ends = {str(job_id): moment.timestamp() for job_id, moment in rows}
            (tmp_path / "enough").touch()
            for job_id in jobs:
                assert site.wait_for(job_id, JobState.SUCCEEDED).result == 2
        for _, key, attempt, when in notes(tmp_path):
            assert attempt == 2 or when < lease_ends[key], (key, when - lease_ends[key])
        proxy.mend()
        assert site.wait_for(site.dispatch("effect", 0), JobState.SUCCEEDED).result == 1
        assert cut_off.poll() is None
    assert overlaps(spans(tmp_path)) == 0


@pytest.mark.alone
@pytest.mark.parametrize(
    ("outage", "lease"),
    [(3.0, 2.0), pytest.param(60.0, 30.0, marks=[pytest.mark.long, pytest.mark.timeout(600)])],
    ids=["short", "whole"],
)
def test_once_the_database_is_back_nothing_runs_twice_at_once(
    proxied: tuple[Site, Proxy], tmp_path: Path, outage: float, lease: float
) -> None:
    site, proxy = proxied
    site._environment["SPOKE_LEASE_SECONDS"] = str(lease)
    jobs = [site.dispatch("async_beat" if n % 2 else "beat", {"folder": str(tmp_path)}) for n in range(10)]

    def all_beat(since: float = 0.0) -> bool:
        return {key for _, key, _, when in notes(tmp_path) if when > since} == set(map(str, jobs))

    with site.worker("--processes", "3"), site.worker("--processes", "2") as other:
        site.wait(all_beat)
        stopped = time.time()
        proxy.cut()
        time.sleep(outage)  # this is the outage
        back = time.time()
        proxy.mend()
        site.wait(lambda: all_beat(back))  # each runs again, or goes on
        last = max(when for _, _, _, when in notes(tmp_path) if when < back)
        (tmp_path / "enough").touch()
        finish(site, jobs, WITHIN_SECONDS + 2 * lease)
        assert other.poll() is None
    assert overlaps(spans(tmp_path)) == 0
    assert last - stopped < lease


def test_what_looks_for_overlaps_finds_them() -> None:
    assert overlaps({"a": [(0, 1), (2, 3)], "b": [(0, 5)]}) == 0
    assert overlaps({"a": [(0, 3), (1, 2), (2.5, 4)]}) == 2
