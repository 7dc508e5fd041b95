"""sync outlives its database and its API server, leads alone, and ends when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from tests.integration.sync.proxy import Proxy, api_server_of, kubeconfig_by
from tests.integration.sync.stage import Stage
from tests.waiting import WITHIN_SECONDS, stays

from spoke_jobs import JobData
from spoke_jobs.model import JobRequest
from spoke_jobs.sync.sync_process import SHUTDOWN_SECONDS


def dispatched(stage: Stage) -> JobRequest:
    """A committed row that nobody but sync launches."""
    return stage.runner(submit="sync").dispatch_job(JobData("work"))


def launched(stage: Stage, job: JobRequest, within: float = WITHIN_SECONDS) -> None:
    stage.until(job, lambda row: row.submitted_at, within)


@pytest.fixture
def api(stage: Stage, tmp_path: Path) -> Iterator[tuple[Proxy, str]]:
    """The way to the API server, and a kubeconfig that takes it."""
    proxy = Proxy(api_server_of(stage.cluster.kubeconfig))
    yield proxy, kubeconfig_by(proxy.port, stage.cluster.kubeconfig, tmp_path / "kubeconfig")
    proxy.close()


@pytest.fixture
def database(stage: Stage) -> Iterator[tuple[Proxy, str]]:
    """The way to the database, and a URL that takes it."""
    url = make_url(stage.url)
    proxy = Proxy((url.host or "", url.port or 5432))
    by_proxy = url.set(host="127.0.0.1", port=proxy.port)
    yield proxy, by_proxy.render_as_string(hide_password=False)
    proxy.close()


def test_of_two_syncs_one_writes_and_the_other_takes_over(stage: Stage) -> None:
    with stage.sync() as first:
        launched(stage, dispatched(stage))
        with stage.sync() as second:
            second.until("standby")
            jobs = [dispatched(stage) for _ in range(5)]
            for job in jobs:
                launched(stage, job)
            first.kill()
            later = dispatched(stage)
            launched(stage, later)
            second.end()
            assert "standing by" in second.log
            lines = second.log.splitlines()
            launches = [line for line in lines if "launched as" in line]
            assert len(launches) == 1
            assert f"job {later.id} " in launches[0]


@pytest.mark.parametrize("server", ["api", "database"])
def test_sync_begins_before_a_server_can_be_reached_and_outlasts_its_absence(
    stage: Stage, api: tuple[Proxy, str], database: tuple[Proxy, str], server: str
) -> None:
    proxy = (api if server == "api" else database)[0]
    proxy.cut()
    with stage.sync(KUBECONFIG=api[1], SPOKE_DATABASE_URL=database[1]) as sync:
        job = dispatched(stage)
        assert stays(lambda: sync.process.poll() is None, 1)
        proxy.mend()
        launched(stage, job)
        proxy.cut()
        later = dispatched(stage)
        stage.cluster.report(job, outcome="Failed", cause="Evicted", attempt=1)
        assert stays(lambda: stage.row(later).submitted_at is None, 2)
        assert sync.process.poll() is None
        proxy.mend()
        launched(stage, later)
        assert stage.until(job, lambda row: row.state.final).cause == "Evicted"


def test_a_watch_that_goes_deaf_is_made_up_for(stage: Stage, api: tuple[Proxy, str]) -> None:
    """Nothing breaks, nothing arrives: the compare finds what the watch doesn't hear."""
    proxy, kubeconfig = api
    with stage.sync(KUBECONFIG=kubeconfig):
        job = dispatched(stage)
        launched(stage, job)
        proxy.hang()
        stage.cluster.report(job, outcome="Failed", cause="Evicted", attempt=1)
        assert stays(lambda: not stage.row(job).state.final, 1)
        proxy.mend()
        assert stage.until(job, lambda row: row.state.final).cause == "Evicted"


def test_a_sync_cut_off_from_its_database_writes_nothing_more(stage: Stage, database: tuple[Proxy, str]) -> None:
    proxy, url = database
    with stage.sync(SPOKE_DATABASE_URL=url) as first:
        launched(stage, dispatched(stage))
        proxy.cut()
        with stage.sync() as second:
            job = dispatched(stage)
            launched(stage, job)
            proxy.mend()
            later = dispatched(stage)
            launched(stage, later)
            first.end()
            second.end()
        assert f"job {job.id} " not in first.log
        assert f"job {later.id} " not in first.log


@pytest.mark.parametrize("what", ["the API server hangs", "the database hangs"])
def test_sigterm_ends_it_at_once(stage: Stage, api: tuple[Proxy, str], database: tuple[Proxy, str], what: str) -> None:
    with stage.sync(KUBECONFIG=api[1], SPOKE_DATABASE_URL=database[1]) as sync:
        launched(stage, dispatched(stage))
        if what == "the API server hangs":
            api[0].hang()
            dispatched(stage)
        else:
            database[0].hang()
        # Long enough to be caught in a call that hangs, if there is one.
        assert stays(lambda: sync.process.poll() is None, 2)
        # A call that hangs would hold it up for 8 s or more. The rest is for the end of the process on a busy machine.
        assert sync.end() < SHUTDOWN_SECONDS + 4.5, sync.log
