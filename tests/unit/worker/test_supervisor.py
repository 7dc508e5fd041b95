"""The worker on SQLite: a job's fault is that job's own, and the worker goes on.

How jobs end, their limits, and what runs together: tests/integration/worker.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError
from tests.contract import rough_app
from tests.contract.worker import Site, children_of, runs
from tests.waiting import patient

from spoke_jobs.limits.job_limit import Bounds, Rate, parse_scope
from spoke_jobs.model import JobState

BAD_ENDS = {
    "raise": "JobError",
    "sys_exit": "JobExited",
    "os_exit": "JobExited",
    "kill_itself": "Killed",
    "kill_itself_namelessly": "Killed",
    "exit_zero": "JobExited",
}
"""Types of jobs that end badly, and the causes that are recorded."""


@pytest.fixture
def site(sqlite_ledger_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(sqlite_ledger_url, tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _without_async_jobs(site: Site) -> None:
    site._environment["SPOKE_APP"] = "tests.contract.rough_app:registry"


def test_jobs_run_and_the_worker_ends_when_told(site: Site) -> None:
    """What they start does not get the worker's connection."""
    jobs = [site.dispatch("succeed", n) for n in range(10)]
    starting = site.dispatch("inherited_sockets")
    with site.worker("--processes", "2") as worker:
        for n, job_id in enumerate(jobs):
            assert site.wait_for(job_id, JobState.SUCCEEDED).result == n
        assert site.wait_for(starting, JobState.SUCCEEDED).result == 0
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(patient(60)) == 0


def test_a_child_killed_between_two_commits_leaves_what_it_saved(site: Site) -> None:
    ready = site.folder / "ready"
    job_id = site.dispatch("save_and_hang_once", str(ready))
    with site.worker("--processes", "1"):
        site.wait(ready.exists)
        os.kill(int(ready.read_text()), signal.SIGKILL)
        job = site.wait_for(job_id, JobState.SUCCEEDED)
    assert job.result == [{"row": 1}, "charged by attempt 1"]


def test_a_job_that_ends_badly_is_final_with_its_cause_and_the_worker_goes_on(site: Site) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"  # their ends are noticed without it
    bad = {job_type: site.dispatch(job_type) for job_type in BAD_ENDS}
    good = site.dispatch("succeed", "among them")
    with site.worker("--processes", "1") as worker:
        for job_type, cause in BAD_ENDS.items():
            job = site.wait_for(bad[job_type], JobState.FAILED)
            found = (job_type, job.cause, job.status, site.causes(job.id))
            assert found == (job_type, cause, -1, [cause] * 3), (found, site.log)
        last = site.dispatch("succeed", "after them")
        results = [site.wait_for(job_id, JobState.SUCCEEDED).result for job_id in (good, last)]
        assert results == ["among them", "after them"]
        assert worker.poll() is None


def test_a_job_whose_claim_was_taken_is_stopped_in_its_process(site: Site) -> None:
    job_id = site.dispatch("hang_once")
    with site.worker("--processes", "1"):
        pid = site.pid_of(job_id)
        with site.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job_attempt SET state = 'failed', cause = 'WorkerLost'")
        site.wait(lambda: not Path(f"/proc/{pid}").exists())
    assert "another process holds the attempt, or the attempt has ended" in site.log


def test_a_job_that_closes_all_descriptors_holds_up_nobody_and_is_ended(site: Site) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"  # so that its own watchdog does not end it first
    closed = site.folder / "closed"
    bad = site.dispatch("close_descriptors_once", str(closed))
    with site.worker("--processes", "2"):
        site.wait(closed.exists)
        # While it still lives, the other child goes on.
        good = site.dispatch("succeed")
        site.wait_for(good, JobState.SUCCEEDED)
        site.wait_for(bad, JobState.SUCCEEDED)
    assert site.causes(bad) == ["Killed", ""]


def test_a_process_that_a_killed_job_leaves_behind_does_not_hide_its_end(site: Site) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"
    jobs = [site.dispatch("leave_process_behind_once", how) for how in ("shell", "fork")]
    with site.worker("--processes", "1"):
        for job_id in jobs:
            site.wait_for(job_id, JobState.SUCCEEDED)
    causes = [site.causes(job_id) for job_id in jobs]
    assert causes == [["Killed", ""]] * 2, (causes, site.log)


def test_limits_and_rates_hold_and_every_job_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = site.runner.ledger
    ledger.limits.set(parse_scope("queue:slow"), lambda _old: Bounds(1))
    ledger.limits.set(parse_scope("queue:carrier"), lambda _old: Bounds(rate=Rate(20, 1, 2)))
    slow = [site.dispatch("succeed", queue_name="slow") for _ in range(6)]
    rated = [site.dispatch("succeed", queue_name="carrier") for _ in range(8)]
    site.work(monkeypatch)
    assert {site.row(job_id).state for job_id in [*slow, *rated]} == {JobState.SUCCEEDED}
    one_by_one = [ledger.attempts(job_id)[0] for job_id in slow]
    for before, after in pairwise(sorted(one_by_one, key=lambda attempt: attempt.claimed_at)):
        assert before.finished_at is not None
        assert after.claimed_at >= before.finished_at
    starts = sorted(ledger.attempts(job_id)[0].claimed_at for job_id in rated)
    assert (starts[-1] - starts[0]).total_seconds() >= 6 / 20 - 0.05


def test_a_worker_with_filters_leaves_the_other_jobs(site: Site) -> None:
    mine = site.dispatch("succeed", queue_name="slow.a")
    others = [site.dispatch("succeed"), site.dispatch("raise", queue_name="slow.a")]
    site.runner.registry = rough_app.newer_registry
    others.append(site.dispatch("newer", queue_name="slow.a"))  # a type that the worker does not know
    with site.worker("--queue", "slow*", "--exclude-type", "raise", "--drain", "--processes", "1") as worker:
        assert worker.wait(patient(60)) == 0
    assert site.row(mine).state is JobState.SUCCEEDED
    assert {site.row(job_id).state for job_id in others} == {JobState.WAITING}


def test_where_there_are_no_pidfds_an_end_is_noticed_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    job_id = site.dispatch("kill_itself")
    site.work(monkeypatch)
    assert site.causes(job_id) == ["Killed"] * 3


def test_an_end_that_the_database_did_not_take_is_recorded_once_it_answers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = site.dispatch("lose_lease_once")
    away: list[Exception] = [OperationalError("", {}, site.gone()) for _ in range(3)]
    site.work(monkeypatch, "fail", away)
    assert (site.row(job_id).state, site.causes(job_id)) == (JobState.SUCCEEDED, ["WorkerLost", ""])
    assert not away


def test_only_a_database_that_is_away_is_said_not_to_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = site.dispatch("succeed")
    site.work(monkeypatch, "claim_batch", [IntegrityError("", {}, ValueError()), ValueError("of one row")])
    assert site.row(job_id).state is JobState.SUCCEEDED
    assert "could not claim a job (IntegrityError: ValueError)" in caplog.text
    assert "unexpected error (ValueError) while the process claims jobs" in caplog.text
    assert "lost the database connection" not in caplog.text


def test_jobs_of_both_kinds_log_their_start_and_their_end(site: Site) -> None:
    site._environment |= {"SPOKE_LOG_FORMAT": "json", "SPOKE_APP": "tests.contract.rough_loop:registry"}
    good = {job_type: site.dispatch(job_type) for job_type in ("nothing", "async_nothing")}
    bad = {job_type: site.dispatch(job_type, "discard") for job_type in ("bad", "async_bad")}
    with site.worker("--drain", "--processes", "1") as worker:
        assert worker.wait(patient(60)) == 0
    assert not [line for line in site.log.splitlines() if not line.startswith("{")], "each line is JSON"
    for job_type, job_id in (good | bad).items():
        own = [line for line in site.logged if line.get("request_id") == job_id and line["logger"].endswith("attempt")]
        start, *_, end = own
        assert start["message"] == f"job {job_id} ({job_type}), attempt 1: started"
        fields = {name: end[name] for name in ("job_type", "run", "attempt", "cause", "level")}
        failed = job_type in bad
        assert end["end"] in (("failed", "failed_for_good") if failed else ("done",))
        assert fields == {
            "job_type": job_type,
            "run": 1,
            "attempt": 1,
            "cause": "Discarded" if failed else "",
            "level": "warning" if failed else "info",
        }


def test_a_kill_names_the_job_that_it_is_for(site: Site) -> None:
    site._environment |= {"SPOKE_LOG_FORMAT": "json", "SPOKE_APP": "tests.contract.rough_loop:registry"}
    job_id = site.dispatch("async_deaf", str(site.folder / "never"), timeout_seconds=1)
    with site.worker("--processes", "1"):
        site.wait(lambda: "killing a child process" in site.log)
    (kill,) = [line for line in site.logged if line["message"].startswith("killing a child process")]
    assert kill["message"].startswith(f"killing a child process because of job {job_id}, attempt 1: ")
    assert (kill["level"], kill["request_id"], kill["attempt"], kill["cause"]) == ("error", job_id, 1, "Timeout")


def test_a_child_that_is_told_to_stop_takes_no_further_job(site: Site) -> None:
    running = site.dispatch("until_cancelled")
    with site.worker("--processes", "1"):
        pid = site.pid_of(running)
        following = site.dispatch("tell")
        os.kill(pid, signal.SIGTERM)
        assert site.wait_for(running, JobState.SUCCEEDED).result == "cleaned up"
        other, cancelled = site.wait_for(following, JobState.SUCCEEDED).result
    assert (other != pid, cancelled, site.causes(following)) == (True, False, [""])


def test_an_idle_child_that_is_told_to_stop_ends_and_is_replaced(site: Site) -> None:
    with site.worker("--processes", "1"):
        pids = []
        for _ in range(4):  # more often than a worker bears children that end as they start
            pid, cancelled = site.wait_for(site.dispatch("tell"), JobState.SUCCEEDED).result
            assert not cancelled
            pids.append(pid)
            os.kill(pid, signal.SIGTERM)
            site.wait(lambda pid=pid: not runs(pid))  # type: ignore[misc]
    assert len(set(pids)) == 4
    assert "Traceback" not in site.log


def test_a_terminals_interrupt_reaches_the_supervisor_alone(site: Site) -> None:
    site._environment["SPOKE_APP"] = "tests.contract.rough_loop:registry"  # a child for async jobs too
    with site.worker("--processes", "2") as worker:
        site.wait(lambda: len(children_of(worker.pid)) == 3)
        os.killpg(worker.pid, signal.SIGINT)
        assert worker.wait(patient(60)) == 0
    assert "Traceback" not in site.log


def test_children_whose_supervisor_was_killed_finish_their_job_and_end(site: Site) -> None:
    go_on = site.folder / "go on"
    running = site.dispatch("until_file", str(go_on))
    with site.worker("--processes", "2") as worker:
        site.pid_of(running)
        site.wait_for(site.dispatch("succeed"), JobState.SUCCEEDED)
        busy, *idle = sorted(children_of(worker.pid), key=lambda pid: pid != site.pid_of(running))
        worker.kill()
        worker.wait()
        site.wait(lambda: not any(map(runs, idle)))
        assert runs(busy)
        go_on.touch()
        site.wait(lambda: not runs(busy))
    assert site.row(running).result == 1
