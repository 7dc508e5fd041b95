"""The dashboard in a browser, beside a cluster: each page, and each action until its effect on pods.

The process runs on this machine, with the database and the kubeconfig of the product. What pages look like with other
content, and what actions refuse, is in tests/integration/web/browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.web.browser.browsing import launched, printed_by, tabs
from tests.integration.web.browser.tab import Tab
from tests.integration.web.dashboard_process import serving
from tests.waiting import eventually

from spoke_jobs import Cron, put_schedule, remove_schedule, use_runner
from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.model import JobData, JobFilter, JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import e2e_jobs
from .conftest import Object, Product

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

ONCE = RetryPolicy(budget=dict.fromkeys(CauseClass, 1))
SLOW = e2e_jobs.Slow(seconds=300)
SCOPE = "type:e2e_echo"
SCHEDULE = "nightly echo"
WHO = "local user"
"""Who acts, for a process that admits everybody on this machine."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. Not for longer: meanwhile, no test of this process can run an event loop."""
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def axe() -> Path:
    return printed_by("npm-package", "axe-core") / "axe.min.js"


@pytest.fixture(scope="module")
def site(product: Product) -> Iterator[str]:
    """`spoke-jobs web`, as somebody runs it who has a kubeconfig and the application."""
    environment = {"JOB_RUNNER": "kubernetes", "SPOKE_NAMESPACE": product.namespace, "SPOKE_APP": "tests.e2e.e2e_jobs"}
    with serving(product.url, "--payloads", **environment) as served:
        yield served.url


@pytest.fixture
def tab(chromium: Browser, axe: Path, site: str, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """A tab, in which nothing may go wrong until the end of the test."""
    with tabs(chromium, axe, request.node) as open_tab:
        yield open_tab(site)


@pytest.fixture
def nightly(product: Product, runner: KubernetesRunner) -> Iterator[str]:
    """A schedule whose jobs are in a queue of its name."""
    with use_runner(runner):
        put_schedule(SCHEDULE, "e2e_echo", Cron("0 3 * * *"), payload="scheduled", queue_name=SCHEDULE)
        yield SCHEDULE
        remove_schedule(SCHEDULE)
    for job in product.ledger.list_jobs(99, JobFilter(queue_name=SCHEDULE)):
        product.ledger.cancel(job.id)


@pytest.fixture
def _echo_unlimited(product: Product) -> Iterator[None]:
    """Ends what a test has set for the type."""
    yield
    product.ledger.limits.resume(parse_scope(SCOPE))
    product.ledger.limits.reset(parse_scope(SCOPE))


def obeyed(product: Product) -> list[Object]:
    """The limits of the type as the operator has read them."""
    return [
        item["spec"]
        for item in (product.get("spokelimits") or {"items": []})["items"]
        if item["spec"]["scope"] == SCOPE
        and item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]
    ]


def failed_once(runner: KubernetesRunner, **data: Any) -> JobRequest:
    """A job that fails for good, and succeeds once somebody retries it."""
    return runner.dispatch_job(JobData("e2e_prints", e2e_jobs.Prints(failures=1), retry=ONCE, **data))


def test_a_job_is_followed_into_its_pod_and_cancelled(product: Product, runner: KubernetesRunner, tab: Tab) -> None:
    job = runner.dispatch_job(JobData("report", "goes on", queue_name="browser"))
    tab.open(f"/jobs/{job.id}")
    pod = product.running_pod(job)["metadata"]["name"]
    eventually(lambda: product.row(job).status == 42, "it says how far it is")
    tab.see("page 42 of 100")
    tab.see(re.compile(f"its pod is {pod} on node "))
    tab.see(re.compile(r"Attempt 1 waited .*, (prepared its pod|pulled its image) in .*, ran for .* so far\."))
    tab.see(re.compile(f"(These are the last lines of its pod, {pod}|It has printed nothing yet)\\."))
    assert tab.sees(f"kubectl describe spokejob {name_of(job)} -n {product.namespace}")
    assert tab.findings() == []
    tab.open("/")
    tab.see(pod)
    tab.open(f"/jobs/{job.id}")
    tab.page.get_by_text("Cancel this job").click()
    tab.button(f"Cancel job {job.id}").click()
    tab.see("The job was asked to stop.")
    assert product.ended(job).cause == "Cancelled"
    assert product.spokejob(job, "Failed")["status"]["cause"] == "Cancelled"
    tab.page.locator(".state.failed").first.wait_for()
    tab.open(f"/audit?job={job.id}")
    tab.see(WHO)


def test_what_waits_for_a_lock_is_found_and_cancelled_together(
    product: Product, runner: KubernetesRunner, tab: Tab
) -> None:
    data = JobData("e2e_slow", SLOW, queue_name="browser lock", locks_queue=True)
    first, second = runner.dispatch_job(data), runner.dispatch_job(data)
    product.running_pod(first)
    tab.open(f"/jobs/{second.id}")
    tab.see(re.compile(f"behind e2e_slow {first.id} in queue browser lock, running "))
    tab.link(f"job {first.id}").click()
    tab.page.get_by_role("heading", name=f"Job {first.id}: e2e_slow").wait_for()
    tab.open("/cluster")
    tab.see(re.compile(r"\(QueueLocked\)"))
    assert tab.findings() == []
    tab.open("/jobs?queue=browser+lock")
    tab.link("Cancel all unfinished jobs that match (preview)").click()
    tab.button("Cancel 2 jobs").click()
    tab.see("2 jobs were cancelled or asked to stop.")
    for job in (first, second):
        assert product.ended(job).cause == "Cancelled"
        assert product.spokejob(job, "Failed")["status"]["cause"] == "Cancelled"
    assert product.pods(second) == []


@pytest.mark.usefixtures("_echo_unlimited")
def test_a_job_that_is_paused_and_suspended_starts_when_nothing_holds_it_back(
    product: Product, runner: KubernetesRunner, tab: Tab
) -> None:
    tab.open("/queues")
    form = tab.page.get_by_role("form", name="Pause")
    form.get_by_label("Scope").fill(SCOPE)
    form.get_by_label(re.compile("^Reason")).fill("the partner is down")
    form.get_by_role("button", name="Pause").click()
    tab.see(re.compile("^You paused it"))
    eventually(lambda: [limit for limit in obeyed(product) if limit.get("paused")], "the operator has read it")
    job = runner.dispatch_job(JobData("e2e_echo", "held back"))
    eventually(lambda: product.spokejob(job).get("status", {}).get("cause") == "Paused", "it is held back")
    tab.open(f"/jobs/{job.id}")
    tab.see(re.compile("the partner is down"))
    tab.page.get_by_text("Suspend this job").click()
    tab.button(f"Suspend job {job.id}").click()
    tab.see("The job is suspended. A running attempt goes on.")
    tab.page.get_by_text("Change its priority").click()
    tab.page.get_by_label("Priority", exact=True).fill("7")
    tab.button(f"Set the priority of job {job.id}").click()
    tab.see("The job has this priority now.")

    def spec() -> tuple[object, object]:
        found = product.spokejob(job)["spec"]
        return found.get("suspend"), found.get("priority")

    eventually(lambda: spec() == (True, 7), "sync has written both", state=spec)
    tab.open("/cluster")
    tab.see(re.compile("the partner is down"))
    assert tab.findings() == []
    tab.open("/queues")
    tab.button(f"Resume {SCOPE}").click()
    tab.see("You ended the pause.")
    eventually(lambda: not any(limit.get("paused") for limit in obeyed(product)), "the operator has read it")
    assert product.pods(job) == [], "it is still suspended"
    tab.open(f"/jobs/{job.id}")
    tab.button(f"Resume job {job.id}").click()
    tab.see("The job is no longer suspended.")
    assert product.ended(job).state is JobState.SUCCEEDED
    tab.page.locator(".state.succeeded").first.wait_for()


def test_failed_jobs_are_muted_and_retried_alone_and_together(
    product: Product, runner: KubernetesRunner, tab: Tab
) -> None:
    alone, *others = (failed_once(runner, queue_name="browser retry") for _ in range(3))
    for job in (alone, *others):
        assert product.ended(job).cause == "JobError"
        product.spokejob(job, "Failed")
    tab.open("/failures")
    group = tab.page.locator("section.failure", has_text="e2e_prints").first
    group.locator("summary", has_text=re.compile("^Mute$")).click()
    group.get_by_label("Reason").fill("known")
    group.get_by_label("Reason").press("Enter")
    tab.see("You muted these failures. Nobody gets notices about them until the mute ends.")
    with product.engine.connect() as connection:
        assert [mute.muted_by for mute in mute_rows.read_mutes(connection)] == [WHO]
    tab.page.get_by_role("button", name=re.compile("^End the mute")).first.click()
    tab.see("You ended the mute. Failures from now on are reported again.")
    tab.open(f"/jobs/{alone.id}")
    tab.see(re.compile("not yet"))
    assert tab.findings() == []
    tab.button(f"Retry job {alone.id}").click()
    tab.see("The job starts again.")
    assert product.ended(alone).state is JobState.SUCCEEDED
    assert product.spokejob(product.row(alone), "Succeeded")["spec"]["run"] == 2
    tab.open("/jobs?queue=browser+retry&state=failed")
    tab.link("Retry all failed jobs that match (preview)").click()
    tab.button("Retry 2 jobs").click()
    tab.see("2 jobs were started again.")
    assert {product.ended(job).state for job in others} == {JobState.SUCCEEDED}


def test_each_page_about_jobs_in_pods(product: Product, runner: KubernetesRunner, nightly: str, tab: Tab) -> None:
    """Nothing goes wrong in it, and axe-core finds nothing."""
    ended, failed = runner.dispatch_job(JobData("e2e_echo", 1)), failed_once(runner)
    running = runner.dispatch_job(JobData("report", "goes on"))
    stuck = runner.dispatch_job(JobData("e2e_echo", 1, pod_template="nowhere"))
    for job in (ended, failed):
        product.ended(job)
    product.running_pod(running)
    eventually(lambda: product.spokejob(stuck).get("status", {}).get("cause") == "TemplateMissing", "it is stuck")
    found = {}
    period = "from=2026-03-01T00:00&to=2026-03-20T00:00"
    for path in (
        *("/", "/jobs", "/jobs?state=failed", "/failures", "/queues", "/schedules", "/batches", "/tasks", "/cluster"),
        *("/audit", "/bulk/cancel?state=waiting", "/bulk/retry?state=failed"),
        *(f"/jobs/{job.id}" for job in (ended, failed, running, stuck)),
        f"/schedules/backfill?schedule={nightly.replace(' ', '%2520')}&{period}",
    ):
        tab.open(path)
        found[path] = tab.findings()
    assert {path: findings for path, findings in found.items() if findings} == {}
    tab.open("/cluster")
    tab.see(re.compile("^The replica .* published the state of the namespace"))
    assert tab.page.get_by_role("rowheader", name="default", exact=True).count() == 1, "the PodTemplate"
    tab.open(f"/jobs/{stuck.id}")
    tab.see(re.compile("TemplateMissing|nowhere"))
    tab.page.get_by_role("main").get_by_role("link", name="Cluster", exact=True).wait_for()
    for job in (running, stuck):
        product.ledger.cancel(job.id)
        product.ended(job)
