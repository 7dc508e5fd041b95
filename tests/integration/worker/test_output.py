"""What becomes of that which jobs print."""

from __future__ import annotations

from tests.contract.worker import Site
from tests.integration.worker.test_ends import ONCE
from tests.waiting import patient

from spoke_jobs.model import JobState


def tail(site: Site, job_id: int) -> str:
    attempts = site.runner.ledger.attempts(job_id)
    return attempts[-1].output_tail if attempts else ""


def test_output_is_kept_and_each_line_of_the_log_names_its_job(site: Site) -> None:
    """Of failed attempts, of those that were killed, and of slow ones, also while they run."""
    site._environment["SPOKE_LEASE_SECONDS"] = "300"
    go_on = site.folder / "go on"
    slow = [site.dispatch(kind, {"until": str(go_on)}) for kind in ("speak", "async_speak")]
    with site.worker("--processes", "2"):
        site.wait(lambda: all("printed" in tail(site, job_id) for job_id in slow))
        assert all(site.row(job_id).state is JobState.RUNNING for job_id in slow)
        quick = [site.dispatch(kind, {}) for kind in ("speak", "async_speak")]
        failed = [site.dispatch(kind, {"end": "raise"}, retry=ONCE) for kind in ("speak", "async_speak")]
        killed = site.dispatch("speak", {"end": "kill"}, retry=ONCE)
        for job_id in (*failed, killed):
            site.wait_for(job_id, JobState.FAILED)
        go_on.touch()
        for job_id in (*quick, *slow):
            site.wait_for(job_id, JobState.SUCCEEDED)
        site.wait(lambda: all("the end" in tail(site, job_id) for job_id in slow))
    for job_id in failed:
        printed, _, trace = tail(site, job_id).partition("Traceback")
        assert trace.endswith("ValueError: as it was told to\n")
        assert printed.splitlines()[0] == "printed"
        assert "WARNING app: logged" in printed
        assert f"[job {job_id} attempt 1] by its logger" in printed
    log = site.log.splitlines()
    for job_id in (failed[0], killed):  # those with a process of their own: all that it and its children print
        assert {"by a process", "to its stderr"} <= set(tail(site, job_id).splitlines())
        assert {f"job {job_id}: by a process", f"job {job_id}: to its stderr"} <= set(log)
    for job_id in (*failed, *quick, *slow, killed):
        assert log.count(f"job {job_id}: printed") == 1
        assert any(line.startswith(f"job {job_id}: ") and line.endswith("WARNING app: logged") for line in log)
    assert "printed" not in log


def test_the_output_of_quick_successes_is_not_kept(site: Site) -> None:
    site._environment["ROUGH_OUTPUT_SECONDS"] = "3600"
    jobs = [site.dispatch(kind, {}) for kind in ("speak", "async_speak")]
    with site.worker("--processes", "1", "--drain") as worker:
        assert worker.wait(patient(60)) == 0
    assert [(site.row(job_id).state, tail(site, job_id)) for job_id in jobs] == [(JobState.SUCCEEDED, "")] * 2


def test_all_output_is_kept_on_request_and_lines_are_json_in_a_log_in_json(site: Site) -> None:
    site._environment |= {"SPOKE_OUTPUT": "all", "SPOKE_LOG_FORMAT": "json"}
    jobs = [site.dispatch(kind, {}) for kind in ("speak", "async_speak")]
    with site.worker("--processes", "1", "--drain") as worker:
        assert worker.wait(patient(60)) == 0
    for job_id in jobs:
        assert tail(site, job_id).splitlines()[0] == "printed"
        said = {line["message"]: line for line in site.logged if line.get("request_id") == job_id}
        assert {"printed", "logged"} <= said.keys()
        assert (said["printed"]["logger"], said["logged"]["logger"]) == ("spoke_jobs.output", "app")
    assert len(site.logged) == len(site.log.splitlines())


def test_no_output_is_kept_on_request(site: Site) -> None:
    site._environment["SPOKE_OUTPUT"] = "none"
    jobs = [site.dispatch(kind, {"end": "raise"}, retry=ONCE) for kind in ("speak", "async_speak")]
    killed = site.dispatch("speak", {"end": "kill"}, retry=ONCE)
    with site.worker("--processes", "1", "--drain") as worker:
        assert worker.wait(patient(60)) == 0
    assert all(tail(site, job_id).startswith("Traceback") for job_id in jobs)
    assert (site.row(killed).cause, tail(site, killed)) == ("Killed", "")
