"""What becomes of jobs that end badly, are ended, or are in the way of others; and what runs together."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.contract import rough_loop
from tests.contract.worker import Site, children_of, runs
from tests.waiting import patient

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobState

ONCE = RetryPolicy(budget=dict.fromkeys(CauseClass, 1))


def own_causes(site: Site, job_id: int) -> list[str]:
    """Its attempts' causes, but for those that were another's doing."""
    return [cause for cause in site.causes(job_id) if cause != "Bystander"]


def ends_with(site: Site, job_id: int, cause: str) -> None:
    """Wait for its failure by the cause, and by no other."""
    job = site.wait_for(job_id, JobState.FAILED)
    found = (job.cause, own_causes(site, job_id))
    assert found == (cause, [cause]), (job.payload, found, job.result_message, site.log)


def job_ids(site: Site, job_type: str) -> list[int]:
    with site.engine.connect() as connection:
        return list(
            connection.scalars(
                job_request.select().with_only_columns(job_request.c.id).where(job_request.c.job_type == job_type)
            )
        )


@pytest.mark.parametrize("kind", ["", "async_"])
def test_however_a_job_ends_it_ends_with_its_cause_and_nobody_elses_does(site: Site, kind: str) -> None:
    """All of them at once, and those of one event loop with jobs that do no harm."""
    site._environment["SPOKE_LEASE_SECONDS"] = "300"  # on a busy machine a loop of so many may renew late
    go_on = site.folder / "go on"
    jobs = {way: site.dispatch(f"{kind}bad_{way}", way, retry=ONCE) for way in rough_loop.WAYS}
    good = [site.dispatch("async_until_file", str(go_on), retry=ONCE) for _ in range(3)] if kind else []
    with site.worker("--processes", "2") as worker:
        for way, job_id in jobs.items():
            ends_with(site, job_id, rough_loop.WAYS[way][1])
        go_on.touch()
        for job_id in good:
            site.wait_for(job_id, JobState.SUCCEEDED)
            assert own_causes(site, job_id) == [""]
        # Somebody is told of each.
        site.wait(lambda: len(job_ids(site, "told_of_failure")) == len(jobs))
        told = [site.wait_for(job_id, JobState.SUCCEEDED).result for job_id in job_ids(site, "told_of_failure")]
        assert {job_id: cause for job_id, cause in told} == {  # noqa: C416
            job_id: rough_loop.WAYS[way][1] for way, job_id in jobs.items()
        }
        # Nothing is held that was theirs.
        last = site.dispatch("succeed", "after them")
        assert site.wait_for(last, JobState.SUCCEEDED).result == "after them"
        assert worker.poll() is None


def test_what_the_tasks_of_a_job_do_is_that_jobs_doing(site: Site) -> None:
    """Tasks that an async job starts are its own."""
    go_on = site.folder / "go on"
    good = site.dispatch("async_until_file", str(go_on), retry=ONCE)
    ways = ("sys_exit", "os_exit", "killed", "base_exception", "nul")
    jobs = {way: site.dispatch(f"async_bad_in_subtask_{way}", way, retry=ONCE) for way in ways}
    with site.worker("--processes", "1"):
        for way, job_id in jobs.items():
            ends_with(site, job_id, rough_loop.WAYS[way][1])
        go_on.touch()
        site.wait_for(good, JobState.SUCCEEDED)
    assert own_causes(site, good) == [""]


def test_a_job_that_meddles_with_its_event_loop_is_charged_and_nobody_else_is(site: Site) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"
    go_on = site.folder / "go on"
    others = [site.dispatch(job_type, str(go_on), retry=ONCE) for job_type in ("async_until_file", "async_in_parts")]
    with site.worker("--processes", "1"):
        for way, (_, cause) in rough_loop.MEDDLING.items():
            for job_id in others:
                site.wait(lambda job_id=job_id: site.row(job_id).state is JobState.RUNNING)  # type: ignore[misc]
                site.pid_of(job_id)
            job_id = site.dispatch("async_meddle", way, retry=ONCE, timeout_seconds=60)
            job = site.wait_for(job_id, JobState.FAILED if cause else JobState.SUCCEEDED)
            assert (job.cause, own_causes(site, job_id)) == (cause, [cause]), (way, job.result_message, site.log)
            if way == "leave_alarm":  # so far the event loop has gone on
                assert {site.row(job_id).attempt for job_id in others[:1]} == {1}
        go_on.touch()
        for job_id in others:
            site.wait_for(job_id, JobState.SUCCEEDED)
            assert own_causes(site, job_id) == [""]
    assert "Bystander" in site.causes(others[1])


def test_what_is_odd_and_does_no_harm(site: Site) -> None:
    """Jobs that print 100 MB, ask for another time, and dispatch a task; and one of a type that nobody knows."""
    chatter = [site.dispatch(job_type) for job_type in ("chatter", "async_chatter")]
    later = [site.dispatch(job_type, 5, retry=ONCE) for job_type in ("later", "async_later")]
    noting = [site.dispatch(f"{kind}dispatch_note", str(site.folder), retry=ONCE) for kind in ("", "async_")]
    site.runner.registry = rough_loop.rough_app.newer_registry
    newer = site.dispatch("newer", start_timeout_seconds=0.1)
    with site.worker("--processes", "2") as worker:
        assert [site.wait_for(job_id, JobState.SUCCEEDED).result for job_id in chatter] == ["said"] * 2
        for job_id in later:
            assert site.wait_for(job_id, JobState.SUCCEEDED).result == 6
            assert site.causes(job_id) == ["RetryLater"] * 5 + [""]
        job = site.wait_for(newer, JobState.FAILED)
        assert (job.cause, "'newer'" in job.result_message) == ("UnknownJobType", True)
        for job_id in noting:
            site.wait_for(job_id, JobState.SUCCEEDED)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(patient(60)) == 0
    notes = (site.folder / "notes").read_text().split()
    assert notes.count("noted") == 2, "their tasks were run before the worker ended"


def test_a_copy_that_an_async_job_forks_runs_nothing_beside_it(site: Site) -> None:
    """Neither where the copy returns from the job, nor where it awaits something in it."""
    go_on = site.folder / "go on"
    good = site.dispatch("async_until_file", str(go_on))
    jobs = [site.dispatch("async_fork", {"folder": str(site.folder), "waits": waits}) for waits in (False, True)]
    with site.worker("--processes", "1") as worker:
        for job_id in jobs:
            assert site.wait_for(job_id, JobState.SUCCEEDED).result == 1
        copies = [int(line.split()[2]) for line in (site.folder / "notes").read_text().splitlines()]
        site.wait(lambda: not any(map(runs, copies)))
        go_on.touch()
        site.wait_for(good, JobState.SUCCEEDED)
        assert len(children_of(worker.pid)) == 2  # the one loop went on
    assert (len(copies), site.causes(good)) == (2, [""])


def test_timeouts_end_jobs_of_both_kinds_whatever_they_do(site: Site) -> None:
    """Between polls, also those that only the supervisor keeps, and of jobs that say that they have ended."""
    site._environment["SPOKE_POLL_SECONDS"] = "60"
    site._environment["SPOKE_LEASE_SECONDS"] = "300"  # native code renews no lease until it is killed
    go_on = site.folder / "go on"
    go_on.touch()
    stacks = ("sleep", "async_sleep", "async_grumble", "hold_interpreter")
    types = (*stacks, "async_deaf", "forge_report", "async_forge_report")
    jobs = {job_type: site.dispatch(job_type, str(go_on), timeout_seconds=1) for job_type in types}
    with site.worker("--processes", "2"):
        for job_id in jobs.values():
            ends_with(site, job_id, "Timeout")
    for job_type in stacks:  # the others swallowed their cancellation, or hide what they do
        tail = site.runner.ledger.attempts(jobs[job_type])[-1].output_tail
        assert "rough_loop.py" in tail, (job_type, tail)
        assert f" {job_type}" in tail, "its function is in the stack"


def test_a_process_in_a_session_of_its_own_does_not_outlive_its_killed_job(site: Site) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"
    jobs = {}
    for way, timeout in (("Killed", None), ("Timeout", patient(3))):
        payload = {"pid_file": str(site.folder / way), "way": way.lower()}
        jobs[way] = site.dispatch("daemonize", payload, retry=ONCE, timeout_seconds=timeout)
    with site.worker("--processes", "2"):
        for cause, job_id in jobs.items():
            ends_with(site, job_id, cause)
            pid = int((site.folder / cause).read_text())
            site.wait(lambda pid=pid: not runs(pid))  # type: ignore[misc]


@pytest.mark.parametrize("short", [False, True], ids=["its own timeout", "another's timeout"])
def test_a_job_that_holds_up_the_loop_pays_for_it_and_the_others_do_not(site: Site, short: bool) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"
    block, go_on = site.folder / "block", site.folder / "go on"
    blocker = site.dispatch("async_block", str(block), timeout_seconds=None if short else 2)
    limit = 2 if short else None
    others = [site.dispatch("async_until_file", str(go_on), timeout_seconds=limit) for _ in range(3)]
    with site.worker("--processes", "1"):
        for job_id in [blocker, *others]:
            site.pid_of(job_id)
        block.touch()
        # More than the held-up loop's socket has room for: nobody may wait for it.
        waiting = [site.dispatch("async_until_file", str(go_on), retry=ONCE) for _ in range(30)]
        assert site.wait_for(blocker, JobState.FAILED).cause == "Timeout"
        go_on.touch()
        for job_id in others + waiting:
            site.wait_for(job_id, JobState.SUCCEEDED)
    assert site.causes(blocker) == ["Timeout"]
    assert {tuple(site.causes(job_id)) for job_id in others} == {("Bystander", "")}
    assert {tuple(own_causes(site, job_id)) for job_id in waiting} == {("",)}


def test_a_job_whose_native_code_holds_the_interpreter_is_ended_before_its_lease(site: Site) -> None:
    """Its own watchdog can't run then, and without a timeout it would run on beside its next attempt."""
    site._environment["SPOKE_POLL_SECONDS"] = "60"
    go_on = site.folder / "go on"
    job_id = site.dispatch("hold_interpreter_once", str(go_on))
    with site.worker("--processes", "1"):
        pid = site.pid_of(job_id)
        go_on.touch()
        site.wait(lambda: not runs(pid))
        assert site.wait_for(job_id, JobState.SUCCEEDED).result == 2
    (first, second) = site.runner.ledger.attempts(job_id)
    assert (first.cause, second.cause) == ("WorkerLost", "")
    assert "the lease lapsed; native code may have blocked the interpreter" in site.log


def test_cancelled_jobs_end_whether_they_wait_cooperate_or_are_deaf(site: Site) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"  # so that no heartbeat brings the news
    types = ("until_cancelled", "sleep", "async_sleep", "async_deaf", "async_grumble")
    jobs = {job_type: site.dispatch(job_type) for job_type in types}
    bystander = site.dispatch("async_until_file", str(site.folder / "go on"))
    with site.worker("--processes", "2") as worker:
        for job_id in [*jobs.values(), bystander]:
            site.pid_of(job_id)
        waiting = site.dispatch("sleep")
        for job_id in [*jobs.values(), waiting]:
            site.runner.ledger.cancel(job_id)
        # Also if a process had claimed it ahead.
        assert site.wait_for(waiting, JobState.FAILED).cause == "Cancelled"
        # What it returns when it is asked to stop counts.
        assert site.wait_for(jobs["until_cancelled"], JobState.SUCCEEDED).result == "cleaned up"
        for job_type in types[1:]:
            job = site.wait_for(jobs[job_type], JobState.FAILED)
            assert (job_type, job.cause, site.causes(job.id)) == (job_type, "Cancelled", ["Cancelled"])
        (site.folder / "go on").touch()
        site.wait_for(bystander, JobState.SUCCEEDED)
        assert own_causes(site, bystander) == [""]
        assert worker.poll() is None


def test_async_jobs_run_together_in_one_process(site: Site) -> None:
    jobs = [site.dispatch("async_until_all", {"folder": str(site.folder), "n": n, "of": 30}) for n in range(30)]
    with site.worker("--processes", "1"):
        pids = {site.wait_for(job_id, JobState.SUCCEEDED).result for job_id in jobs}
    assert len(pids) == 1


def test_no_more_async_jobs_run_at_once_than_are_allowed(site: Site) -> None:
    go_on = site.folder / "go on"
    jobs = [site.dispatch("async_until_file", str(go_on)) for _ in range(5)]
    with site.worker("--processes", "1", "--concurrency", "2"):
        for job_id in jobs[:2]:
            site.pid_of(job_id)
        # A full second is over after which those claimed ahead are handed back.
        site.wait(lambda: all(site.row(job_id).state is JobState.WAITING for job_id in jobs[2:]))
        go_on.touch()
        for job_id in jobs:
            assert site.wait_for(job_id, JobState.SUCCEEDED).result == 1


def test_what_was_claimed_ahead_behind_a_long_job_is_not_begun_once_cancelled_and_given_to_others_uncharged(
    site: Site,
) -> None:
    go_on = site.folder / "go on"
    site._environment["SPOKE_LEASE_SECONDS"] = "6"
    warm = [site.dispatch("nothing") for _ in range(60)]
    with site.worker("--processes", "1"):
        for job_id in warm:
            site.wait_for(job_id, JobState.SUCCEEDED)
        long = site.dispatch("until_file", str(go_on))
        cancelled = [site.dispatch("noted", str(site.folder)) for _ in range(3)]
        busy = site.pid_of(long)
        for job_id in cancelled:
            site.runner.ledger.cancel(job_id)
        for job_id in cancelled:
            assert site.wait_for(job_id, JobState.FAILED).cause == "Cancelled"
        behind = [site.dispatch("tell") for _ in range(3)]
        with site.worker("--processes", "1"):
            for job_id in behind:
                assert site.wait_for(job_id, JobState.SUCCEEDED).result[0] != busy
                assert site.causes(job_id) == [""]
        go_on.touch()
        site.wait_for(long, JobState.SUCCEEDED)
        # The one before was not meant.
        assert site.wait_for(site.dispatch("tell"), JobState.SUCCEEDED).result == [busy, False]
    assert not (site.folder / "notes").exists()


def test_sigterm_finishes_what_ends_in_time_and_hands_back_the_rest(site: Site) -> None:
    site._environment["SPOKE_LEASE_SECONDS"] = "300"
    warm = [site.dispatch("nothing") for _ in range(60)]
    go_on = site.folder / "go on"
    with site.worker("--processes", "1", "--concurrency", "3", "--grace", "4") as worker:
        for job_id in warm:
            site.wait_for(job_id, JobState.SUCCEEDED)
        hung, async_hung = site.dispatch("sleep"), site.dispatch("async_sleep")
        short = [site.dispatch("async_until_file", str(go_on)) for _ in range(2)]
        for job_id in [hung, async_hung, *short]:
            site.pid_of(job_id)
        ahead = [site.dispatch(job_type) for job_type in ("nothing", "async_nothing") for _ in range(4)]
        worker.send_signal(signal.SIGTERM)
        site.wait(lambda: "stopping, running jobs have" in site.log)
        go_on.touch()
        assert worker.wait(patient(60)) == 0
    for job_id in short:
        assert (site.row(job_id).state, site.causes(job_id)) == (JobState.SUCCEEDED, [""])
    for job_id in (hung, async_hung):
        assert (site.row(job_id).state, site.causes(job_id)) == (JobState.WAITING, ["Interrupted"])
    for job_id in ahead:
        assert (site.row(job_id).state, site.causes(job_id)) in [(JobState.WAITING, []), (JobState.SUCCEEDED, [""])]


@pytest.mark.parametrize("how", ["SIGHUP", "--reload"])
def test_new_code_is_run_once_it_is_asked_for(site: Site, tmp_path: Path, how: str) -> None:
    module = tmp_path / "changing_app.py"

    def write(word: str) -> None:
        module.write_text(
            "from spoke_jobs import Registry\nregistry = Registry()\n"
            f"@registry.job('succeed')\ndef succeed(ctx, payload):\n    return {word!r}\n"
            f"@registry.job('tell')\nasync def tell(ctx, payload):\n    return {word!r}\n"
        )

    def both(word: str) -> bool:
        jobs = [site.dispatch("succeed"), site.dispatch("tell")]
        return all(site.wait_for(job_id, JobState.SUCCEEDED).result == word for job_id in jobs)

    write("old")
    site._environment |= {"SPOKE_APP": "changing_app:registry", "PYTHONPATH": str(tmp_path)}
    more = [how] if how.startswith("--") else []
    with site.worker("--processes", "1", *more, folder=tmp_path) as worker:
        assert both("old")
        write("newer")
        if how == "SIGHUP":
            assert both("old")  # it isn't asked for yet
            worker.send_signal(signal.SIGHUP)
        site.wait(lambda: both("newer"))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(patient(60)) == 0
