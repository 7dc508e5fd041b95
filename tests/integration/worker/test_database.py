"""The worker and its database: wake-ups, outages, and what it says of them to probes."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from tests.contract.worker import Site, runs
from tests.integration.sync.proxy import Proxy
from tests.ports import free_port
from tests.waiting import patient

from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobState

IMPATIENT = (
    "import spoke_jobs.worker.worker_metrics as f; f.STALE_SECONDS = 2.0; from spoke_jobs.cli import main; main()"
)
"""A worker that calls a database away after two seconds, where half a minute is usual."""
POLL_SECONDS = 60
"""The longest that the settings allow."""
WORKER = "spoke-worker"
"""The name of the workers' connections at the server."""
SAMPLE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_]\w*="[^"\\]*"(,[a-zA-Z_]\w*="[^"\\]*")*\})? -?[0-9.]+(e[+-]?\d+)?'
)


@pytest.fixture
def proxy(site: Site, postgres_ledger_url: str) -> Iterator[Proxy]:
    """In front of the database, for the workers; the test itself has another way."""
    url = make_url(postgres_ledger_url)
    made = Proxy((url.host or "", url.port or 5432))
    through = url.set(host="127.0.0.1", port=made.port).update_query_dict({"application_name": WORKER})
    site._environment["SPOKE_DATABASE_URL"] = through.render_as_string(hide_password=False)
    yield made
    made.close()


def get(port: int, path: str) -> tuple[int, str]:
    """Status 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=patient(30)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def statements_are_over(site: Site) -> bool:
    """Whether the server has executed whatever the worker sent before its connections were cut.

    A claim among it takes the jobs that are there when it is executed. Nobody gets its reply, so it would hold a job
    that the test dispatches too early until its lease lapses.
    """
    query = (
        f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{WORKER}' AND datname = current_database()"
    )
    with site.engine.connect() as connection:
        return bool(connection.scalar(text(query)) == 0)


def started_within(site: Site, job_id: int) -> float:
    job = site.wait_for(job_id, JobState.SUCCEEDED)
    assert job.started_at is not None
    return (job.started_at - job.created_at).total_seconds()


def test_a_job_is_started_without_waiting_for_a_poll(site: Site) -> None:
    site._environment["SPOKE_POLL_SECONDS"] = str(POLL_SECONDS)
    with site.worker("--processes", "2"):
        site.wait_for(site.dispatch("nothing"), JobState.SUCCEEDED)  # it is up
        for job_type in ("nothing", "async_nothing") * 3:
            assert started_within(site, site.dispatch(job_type)) < POLL_SECONDS / 2
        behind = [site.dispatch("nothing", queue_name="q", locks_queue=True) for _ in range(5)]
        assert max(started_within(site, job_id) for job_id in behind) < POLL_SECONDS / 2


def test_after_an_outage_work_goes_on_without_waiting_for_a_poll(site: Site, proxy: Proxy) -> None:
    """Also what was dispatched meanwhile, when nobody could ring."""
    site._environment["SPOKE_POLL_SECONDS"] = str(POLL_SECONDS)
    with site.worker("--processes", "1") as worker:
        site.wait_for(site.dispatch("nothing"), JobState.SUCCEEDED)
        proxy.cut()
        site.wait(lambda: statements_are_over(site))
        during = [site.dispatch("nothing"), site.dispatch("async_nothing")]
        site.wait(lambda: "lost the database connection" in site.log)
        proxy.mend()
        began = time.monotonic()
        for job_id in during:
            site.wait_for(job_id, JobState.SUCCEEDED)
            assert site.causes(job_id) == [""]
        assert time.monotonic() - began < POLL_SECONDS
        assert started_within(site, site.dispatch("nothing")) < POLL_SECONDS / 2
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(patient(60)) == 0


def test_jobs_that_end_while_the_database_is_away_are_recorded_once_it_is_back(site: Site, proxy: Proxy) -> None:
    """As long as their leases last they need not run again."""
    site._environment["SPOKE_LEASE_SECONDS"] = "60"
    go_on = site.folder / "go on"
    jobs = [site.dispatch(job_type, str(go_on)) for job_type in ("until_file", "async_until_file")]
    with site.worker("--processes", "1"):
        for job_id in jobs:
            site.pid_of(job_id)
        proxy.cut()
        go_on.touch()
        site.wait(lambda: "lost the database connection" in site.log and "could not record" in site.log)
        proxy.mend()
        for job_id in jobs:
            site.wait_for(job_id, JobState.SUCCEEDED)
    assert [site.causes(job_id) for job_id in jobs] == [[""], [""]]


def test_jobs_that_lose_the_database_for_longer_than_their_leases_are_not_charged(site: Site, proxy: Proxy) -> None:
    """Their workers know why the leases lapsed, and record it once the database is back."""
    site._environment["SPOKE_LEASE_SECONDS"] = "4"
    go_on = site.folder / "go on"
    jobs = [site.dispatch(job_type, str(go_on)) for job_type in ("until_file", "async_until_file")]
    with site.worker("--processes", "1"):
        for job_id in jobs:
            site.pid_of(job_id)
        proxy.cut()
        # A child says so itself, or its supervisor does, if the machine is too busy for the child to stop in time.
        ended = r"job {}, attempt 1: .*the database did not answer, so the lease could not be renewed"
        site.wait(lambda: all(re.search(ended.format(job_id), site.log) for job_id in jobs))
        go_on.touch()
        proxy.mend()
        for job_id in jobs:
            site.wait_for(job_id, JobState.SUCCEEDED)
    assert [site.causes(job_id) for job_id in jobs] == [["DatabaseUnreachable", ""]] * 2


def test_a_job_that_locks_its_own_row_holds_up_no_other(site: Site) -> None:
    """It times out, and its child is killed, while another connection of it still has the lock."""
    site._environment["SPOKE_LEASE_SECONDS"] = "60"  # so that the reaper does not end it
    with site.worker("--processes", "1"), site.engine.connect() as its_own:
        job_id = site.dispatch("hang_once", timeout_seconds=patient(2))  # it has the lock by then
        pid = site.pid_of(job_id)
        its_own.execute(select(job_request.c.id).where(job_request.c.id == job_id).with_for_update())
        site.wait(lambda: not runs(pid))
        for _ in range(3):
            assert started_within(site, site.dispatch("nothing")) < 30
        assert site.row(job_id).state is JobState.RUNNING
        its_own.rollback()
        assert site.wait_for(job_id, JobState.FAILED).cause == "Timeout"


def test_probes_are_told_when_the_database_is_away_and_figures_can_be_read(site: Site, proxy: Proxy) -> None:
    port = free_port()
    good, bad = site.dispatch("succeed"), site.dispatch("async_bad", "discard")
    with site.worker("--processes", "1", "--health-port", str(port), program=("-c", IMPATIENT)) as worker:
        site.wait_for(good, JobState.SUCCEEDED)
        site.wait_for(bad, JobState.FAILED)
        site.wait(lambda: get(port, "/healthz")[0] == 200)
        # The failed one's follower may have ended well by then, too.
        site.wait(lambda: re.search(r'attempts_total\{end="done"\} [12]\b', get(port, "/metrics")[1]) is not None)
        status, text = get(port, "/metrics")
        samples = [line for line in text.splitlines() if not line.startswith("#")]
        assert status == 200
        assert [line for line in samples if not SAMPLE.fullmatch(line)] == []
        typed = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE ")}
        histograms = "|".join(name for name, kind in typed.items() if kind == "histogram")
        named = {re.sub(rf"^({histograms})_(bucket|sum|count)$", r"\1", re.split("[ {]", line)[0]) for line in samples}
        without_limits = {"spoke_worker_limit", "spoke_worker_limit_used", "spoke_worker_paused"}
        assert named | without_limits == typed.keys()
        assert any(line.startswith("spoke_worker_jobs_due ") for line in samples)
        assert get(port, "/elsewhere")[0] == 404

        proxy.cut()
        site.wait(lambda: get(port, "/healthz")[0] == 503)
        assert json.loads(get(port, "/healthz")[1])["secondsSincePoll"] >= 2
        status, text = get(port, "/metrics")
        assert (status, "spoke_worker_seconds_since_poll" in text, "jobs_due" in text) == (200, True, False)
        proxy.mend()
        site.wait(lambda: get(port, "/healthz")[0] == 200)

        hung = site.dispatch("async_sleep")
        site.pid_of(hung)
        worker.send_signal(signal.SIGTERM)
        site.wait(lambda: get(port, "/healthz")[0] == 503)  # it takes no more
