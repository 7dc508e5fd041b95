"""The dashboard's page *Job*: the way of each attempt, for a cluster that the test makes up. Subclass it with a fixture
``ledger_url``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest
from sqlalchemy import text
from tests.contract.dashboard_scene import EVERYBODY, HOSTILE, ONE, DashboardScene, Open
from tests.contract.ledger import LEASE, new_job
from tests.waiting import patient

from spoke_jobs.cluster.cluster_view import ClusterView, PodTail
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import ANY_JOB, Claim, Failure, JobRequest

POD = "report-1-x"
SpokeJobs = Callable[..., None]


def spokejob(job: JobRequest, **attempt: Any) -> SpokeJob:
    """A SpokeJob with one attempt."""
    metadata = {"name": "report-1", "namespace": "jobs", "uid": "u", "resourceVersion": "1"}
    return SpokeJob.from_object(
        {
            "metadata": metadata | {"creationTimestamp": job.created_at.isoformat()},
            "spec": {"uid": str(job.uid), "requestId": job.id, "jobType": job.job_type, "run": job.run},
            "status": {"attempts": [{"number": 1, "job": "report-1-1", "pod": POD} | attempt]},
        }
    )


class JobPageContract(DashboardScene):
    """The attempts of one job."""

    @pytest.fixture(autouse=True)
    def _is_patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is made up is there at once, but a busy machine may take long to begin a read."""
        for name in ("SECONDS", "FOLLOW_SECONDS"):
            monkeypatch.setattr(f"spoke_jobs.web.cluster_reads.{name}", patient(60))

    @pytest.fixture
    def in_cluster(self, monkeypatch: pytest.MonkeyPatch) -> SpokeJobs:
        """Makes up what the page reads of a SpokeJob's only attempt."""

        def in_cluster(*, pulled: datetime | None = None, **attempt: Any) -> None:
            def view_of(job: JobRequest, namespace: str, *, around: bool) -> ClusterView:
                return ClusterView("report-1", "jobs", spokejob(job, **attempt))

            monkeypatch.setattr("spoke_jobs.web.cluster_reads.view_of", view_of)
            monkeypatch.setattr("spoke_jobs.web.cluster_reads.pulled_in", lambda _pod, _namespace: pulled)

        return in_cluster

    def in_pod(self, ledger: SqlLedger, worker: str = POD, **changes: Any) -> Claim:
        """A job that a pod has claimed."""
        job = ledger.insert(new_job(runner="kubernetes", **changes))
        claim = ledger.claim(job.id, job.uid, 1, 1, worker, LEASE)
        assert isinstance(claim, Claim)
        return claim

    def timelines(self, page: str) -> list[str]:
        return re.findall(r"<figcaption[^>]*>([^<]*)</figcaption>", page)

    def pods_print(self, monkeypatch: pytest.MonkeyPatch, *lines: str, problem: str = "") -> list[str]:
        """Make up what pods print. Return the names of those that are read."""
        read: list[str] = []

        def tail_in(pod: str, _namespace: str) -> PodTail:
            read.append(pod)
            return PodTail(lines, problem)

        monkeypatch.setattr("spoke_jobs.web.cluster_reads.tail_in", tail_in)
        return read

    def test_of_a_job_that_runs_its_newest_attempt_alone_is_read(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Browsers ask every few seconds, and a job may have had hundreds of attempts with output."""
        job = ledger.insert(new_job())
        for number in (1, 2):
            claim = self.claimed(ledger)
            ledger.keep_output(claim.token, f"attempt {number}")
            if number == 1:
                ledger.fail(claim.token, Failure("JobError", "no"), decide=True)
        for name in ("attempts", "reports"):
            monkeypatch.setattr(DashboardQueries, name, lambda *_: pytest.fail("all were read"))
        page = browse(EVERYBODY).get(f"/jobs/{job.id}/output").text
        assert ">attempt 2\n</pre>" in page
        with ledger.engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM job_attempt")) == 2
        assert [each.number for each in DashboardQueries(ledger.engine).newest_attempt(job.id)] == [2]

    def drawn(self, page: str) -> tuple[list[str], int]:
        """What the boxes of the drawing say, and how many arrows there are."""
        found = re.search(r'<svg class="graph".*?</svg>\n</div>', page, re.DOTALL)
        if found is None:
            return [], 0
        return re.findall(r"<title>([^<]*)</title>", found[0]), found[0].count('class="line"')

    def test_what_stands_around_a_job_is_drawn(self, ledger: SqlLedger, browse: Open) -> None:
        first = ledger.insert(new_job(job_type="first"))
        job = ledger.insert(new_job(job_type="middle", after=(first.id,)))
        last = ledger.insert(new_job(job_type="last", after=(job.id,)))
        page = browse(EVERYBODY).get(f"/jobs/{job.id}").text
        boxes, arrows = self.drawn(page)
        assert sorted(boxes) == [
            f"first, {first.id}: waiting",
            f"last, {last.id}: blocked",
            f"middle, {job.id}: this job",
        ]
        assert arrows == 2
        for other in (first, last):
            assert f'<a href="/jobs/{other.id}"><svg x=' in page
            assert f'<a href="/jobs/{other.id}">{other.id}</a> {other.job_type}: ' in page, "a list says the same"
        self.assert_for_everybody(page)
        alone = ledger.insert(new_job())
        assert self.drawn(browse(EVERYBODY).get(f"/jobs/{alone.id}").text) == ([], 0)

    def test_jobs_of_other_organizations_are_not_drawn(self, ledger: SqlLedger, browse: Open) -> None:
        """Neither is what can be reached by way of them alone."""
        mine = ledger.insert(new_job(job_type="mine", organization_id=1))
        theirs = ledger.insert(new_job(job_type="theirs", organization_id=2, after=(mine.id,)))
        after = ledger.insert(new_job(job_type="after", organization_id=1, after=(theirs.id,)))
        batch = ledger.open_batch("shared", new_job(job_type="theirs", organization_id=2))
        member = ledger.insert(new_job(organization_id=1, batch_id=batch.id))
        for job in (mine, after, member):
            page = browse(ONE).get(f"/jobs/{job.id}").text
            boxes, arrows = self.drawn(page)
            assert arrows == (1 if job is member else 0), boxes
            assert "theirs" not in page
            assert f'href="/jobs/{theirs.id}"' not in page
        assert len(self.drawn(browse(EVERYBODY).get(f"/jobs/{after.id}").text)[0]) == 3

    def test_of_many_jobs_around_it_some_are_drawn(self, ledger: SqlLedger, browse: Open) -> None:
        first = ledger.insert(new_job(organization_id=1))
        ledger.insert_many([new_job(organization_id=number % 2, after=(first.id,)) for number in range(230)])
        boxes, _ = self.drawn(page := browse(EVERYBODY).get(f"/jobs/{first.id}").text)
        assert len(boxes) == 7
        assert "More than 194 further jobs are not drawn." in page
        assert page.count("report: blocked</li>") == 200
        assert "More than" not in browse(ONE).get(f"/jobs/{first.id}").text, "it would tell of others' jobs"


class JobPages(JobPageContract):
    """What depends on no database."""

    def test_the_way_of_an_attempt_in_a_pod(self, ledger: SqlLedger, browse: Open, in_cluster: SpokeJobs) -> None:
        claim = self.in_pod(ledger)
        begun = datetime.now(UTC)
        self.alter(ledger, job_request, created_at=begun - timedelta(seconds=90))

        def at(seconds: float) -> str:
            return (begun - timedelta(seconds=seconds)).isoformat()

        times = {"startedAt": at(60), "scheduledAt": at(58), "runsSince": at(30)}
        in_cluster(pulled=begun - timedelta(seconds=33), **times, memoryRequest="256Mi")
        page = browse(EVERYBODY).get(f"/jobs/{claim.job.id}").text
        (text,) = self.timelines(page)
        parts = (
            "waited 30 s, waited 2 s for its pod",
            "pulled its image in 25 s",
            "started its container in 3 s",
            "loaded its code in",
        )
        assert all(part in text for part in parts), text
        assert "<td>256 MiB</td>" in page
        assert "<td>pod</td>" in page
        self.assert_for_everybody(page)

    def test_what_others_write_into_a_spokejob_is_inert(
        self, ledger: SqlLedger, browse: Open, in_cluster: SpokeJobs
    ) -> None:
        claim = self.in_pod(ledger)
        begun = datetime.now(UTC).isoformat()
        in_cluster(pod=HOSTILE, node=HOSTILE, lane=HOSTILE[:20], memoryRequest=HOSTILE[:30], startedAt=begun)
        page = browse(EVERYBODY).get(f"/jobs/{claim.job.id}").text
        assert "&lt;script&gt;" in page
        self.assert_inert(page)

    def test_the_output_of_a_worker_s_attempt_is_followed_until_its_end(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job())
        claim = self.claimed(ledger)
        browser, path = browse(EVERYBODY), f"/jobs/{claim.job.id}"
        assert "The ledger has none of it yet" in browser.get(path).text
        for printed in ("row 1", "row 1\nrow 2"):
            ledger.keep_output(claim.token, printed)
            for page in (browser.get(path).text, browser.get(f"{path}/output").text):
                follows = f'data-again-seconds="3" data-follows="{path}/output"'
                assert f'<section id="job-output" aria-labelledby="output" {follows}>' in page
                assert f">{printed}\n</pre>" in page
                self.assert_for_everybody(page)
        ledger.fail(claim.token, Failure("JobError", "no", "ValueError", "row 3", for_good=True), decide=True)
        for page in (browser.get(path).text, browser.get(f"{path}/output").text):
            assert ">row 3\n</pre>" in page
            assert "data-follows" not in page

    def test_the_output_of_an_attempt_that_has_just_ended_is_whole(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also if it ended after the job was read, since browsers do not ask again then."""
        job = ledger.insert(new_job())
        claims = [self.claimed(ledger)]
        ledger.fail(claims[0].token, Failure("JobError", "no", "ValueError", "the first"), decide=True)
        claims.append(self.claimed(ledger))
        running = DashboardQueries(ledger.engine).job(job.id, ANY_JOB)
        ledger.succeed(None, claims[1].token, None)
        monkeypatch.setattr(DashboardQueries, "job", lambda *_, **__: running)
        page = browse(EVERYBODY).get(f"/jobs/{job.id}/output").text
        assert "Last output, of attempt 1, an earlier one" in page

    def test_the_output_of_a_pod_is_read_while_it_runs(
        self, ledger: SqlLedger, browse: Open, in_cluster: SpokeJobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_cluster()
        read = self.pods_print(monkeypatch, "row 1", "row 2")
        claim = self.in_pod(ledger)
        browser, path = browse(EVERYBODY), f"/jobs/{claim.job.id}"
        for page in (browser.get(path).text, browser.get(f"{path}/output").text):
            assert ">row 1\nrow 2\n</pre>" in page
            assert "data-follows" in page
        assert read == [POD], "both pages share a read"
        ledger.succeed(None, claim.token, None)
        page = browser.get(f"{path}/output").text
        assert "The ledger has none of its output." in page
        assert "data-follows" not in page
        assert '<section id="job-output"' in page, "it takes the place of the one that was followed"
        assert "job-output" not in browser.get(path).text

    def test_output_needs_permission(
        self, ledger: SqlLedger, browse: Open, in_cluster: SpokeJobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_cluster()
        read = self.pods_print(monkeypatch, "secret")
        claim = self.in_pod(ledger, organization_id=1)
        theirs = self.in_pod(ledger, organization_id=2)
        hidden = browse(replace(EVERYBODY, may_see_output=False))
        answer = hidden.get(f"/jobs/{claim.job.id}/output")
        assert (answer.status_code, "You may not see what jobs print" in answer.text) == (403, True)
        for page in (answer.text, hidden.get(f"/jobs/{claim.job.id}").text):
            assert "secret" not in page
            assert "job-output" not in page
        for job_id in (theirs.job.id, 99, "x"):
            answer = browse(ONE).get(f"/jobs/{job_id}/output")
            assert (answer.status_code, "secret" in answer.text) == (404, False)
        assert read == [], "nobody asks the cluster for it"
        assert "secret" in browse(ONE).get(f"/jobs/{claim.job.id}/output").text

    def test_a_row_leads_to_no_other_address_of_the_cluster(
        self, ledger: SqlLedger, browse: Open, in_cluster: SpokeJobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Jobs' database roles may write the name of a pod, also one of another organization."""
        read = self.pods_print(monkeypatch, "secret")
        claim = self.in_pod(ledger, worker="pod-of-others", organization_id=1)
        for pod in ("", "x/../../secrets/y?z"):
            in_cluster(pod=pod)
            for path in ("", "/output"):
                page = browse(ONE).get(f"/jobs/{claim.job.id}{path}").text
                assert "could not be read: its SpokeJob does not name it yet" in page
                assert ">secret" not in page
        assert read == []
        in_cluster()
        assert "secret" in browse(ONE).get(f"/jobs/{claim.job.id}/output").text
        assert read == [POD]

    def test_without_an_answer_of_the_cluster_no_pod_is_read(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = self.pods_print(monkeypatch, "secret")
        claim = self.in_pod(ledger)
        for view, why in (
            (ClusterView("report-1", "jobs", problem="it did not answer"), "it did not answer"),
            (None, "the Kubernetes client is not installed"),
        ):
            monkeypatch.setattr("spoke_jobs.web.cluster_reads.view_of", lambda *_, view=view, **__: view)
            for path in ("", "/output"):
                page = browse(EVERYBODY).get(f"/jobs/{claim.job.id}{path}").text
                assert f"its pod, {POD}, could not be read: {why}" in page
        assert read == []

    def test_who_follows_an_output_does_not_wait_for_a_cluster_that_is_away(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The page is read every few seconds, and each one would take a thread."""
        answers = Event()

        def view_of(job: JobRequest, _namespace: str, *, around: bool) -> ClusterView:
            answers.wait(patient(60))
            return ClusterView("report-1", "jobs", spokejob(job))

        monkeypatch.setattr("spoke_jobs.web.cluster_reads.view_of", view_of)
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.FOLLOW_SECONDS", 0.01)
        self.pods_print(monkeypatch, "row 1")
        claim = self.in_pod(ledger)
        browser = browse(EVERYBODY)
        try:
            page = browser.get(f"/jobs/{claim.job.id}/output").text
            assert "could not be read: it has not answered yet" in page
            assert 'data-again-seconds="15"' in page
        finally:
            answers.set()
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.FOLLOW_SECONDS", patient(60))
        assert ">row 1\n</pre>" in browser.get(f"/jobs/{claim.job.id}/output").text

    def test_a_batch_is_drawn(self, ledger: SqlLedger, browse: Open) -> None:
        batch = ledger.open_batch("invoices", new_job(job_type="last", organization_id=1))
        job = ledger.insert(new_job(batch_id=batch.id, organization_id=1))
        ledger.close_batch(batch.id)
        for viewer in (EVERYBODY, ONE):
            boxes, arrows = self.drawn(browse(viewer).get(f"/jobs/{job.id}").text)
            assert sorted(boxes)[0] == f"batch {batch.id}: invoices, 0 of 1 ended"
            assert (len(boxes), arrows) == (3, 2)
            boxes, arrows = self.drawn(browse(viewer).get(f"/jobs/{batch.then_id}").text)
            assert (len(boxes), arrows) == (2, 1)
