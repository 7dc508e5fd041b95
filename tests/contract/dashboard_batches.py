"""The dashboard's pages *Batches* and *Audit*. Subclass them with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

import pytest
from tests.contract.dashboard_scene import EVERYBODY, HOSTILE, ONE, DashboardScene, Open, cells, pages, token_in
from tests.contract.ledger import new_job

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action, EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.model import Failure, JobState


class BatchesContract(DashboardScene):
    """Jobs that were dispatched together."""

    def test_batches_with_their_counts(self, ledger: SqlLedger, browse: Open) -> None:
        april = ledger.open_batch("april", new_job(job_type="export"))
        jobs = ledger.insert_many([new_job(batch_id=april.id) for _ in range(4)])
        ledger.succeed(None, self.claimed(ledger).token, None)
        ledger.fail(self.claimed(ledger).token, Failure("JobError", "no", for_good=True), decide=True)
        last = ledger.open_batch("may")
        browser = browse(EVERYBODY)
        page = browser.get("/batches").text
        may, of_april = cells(page)
        assert may[:6] == [str(last.id), "may", "open 0 %", "0", "0", "0"]
        assert of_april[:6] == [str(april.id), "april", "open 50 %", "4", "1", "1"]
        assert of_april[6] == f"job {april.then_id}"
        assert f'href="/jobs?batch={april.id}"' in page
        assert f'href="/bulk/retry?batch={april.id}"' in page
        for state in ("succeeded", "failed"):
            path = f"/jobs?batch={april.id}&state={state}"
            assert f'href="{escape(path)}" aria-label="1 {state} of batch {april.id}">1</a>' in page
            (only,) = cells(browser.get(path).text)
            assert only[2] == state
        listed = browser.get(f"/jobs?batch={april.id}").text
        ids = {int(number) for number in re.findall(r'<th scope="row"><a href="/jobs/(\d+)"', listed)}
        assert ids == {job.id for job in jobs}
        assert [row[1] for row in cells(browser.get("/batches?name=ap*").text)] == ["april"]

    def test_batches_have_pages(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spoke_jobs.web.batch_pages.PER_PAGE", 2)
        ids = [str(ledger.open_batch(f"b{number % 2}").id) for number in range(5)]
        browser = browse(EVERYBODY)
        assert [row[0] for row in pages(browser, "/batches")] == ids[::-1]
        assert [row[0] for row in pages(browser, "/batches?name=b0")] == ids[::-2]
        assert "Newest batches" in browser.get(f"/batches?before={ids[2]}").text

    def test_a_page_looks_through_a_bounded_number_of_batches(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.ledger.reading.dashboard_queries.BATCHES_LOOKED_THROUGH", 2)
        monkeypatch.setattr("spoke_jobs.web.batch_pages.PER_PAGE", 2)
        for organization in (1, 1, 1, 2, 2):
            batch = ledger.open_batch(f"of {organization}")
            ledger.insert(new_job(batch_id=batch.id, organization_id=organization))
        note = "batches were looked through for this page"
        for viewer, path in ((EVERYBODY, "/batches?name=*1"), (ONE, "/batches")):
            browser = browse(viewer)
            first = browser.get(path).text
            assert cells(first) == []
            assert note in first
            assert "None of these batches is listed here." in first
            assert [row[1] for row in pages(browser, path)] == ["of 1"] * 3
        everybody = browse(EVERYBODY)
        assert note not in everybody.get("/batches").text, "without a filter, each of the newest is shown"
        monkeypatch.setattr("spoke_jobs.web.batch_pages.PER_PAGE", 1)
        assert note not in everybody.get("/batches?name=*2").text, "the next page looks at the others"


class BatchPages(BatchesContract):
    """What depends on no database."""

    def test_a_finished_batch_with_failures_is_marked(self, ledger: SqlLedger, browse: Open) -> None:
        for name in ("april", "may"):
            batch = ledger.open_batch(name)
            ledger.insert_many([new_job(batch_id=batch.id) for _ in range(2)])
            ledger.succeed(None, self.claimed(ledger).token, None)
            if name == "april":
                ledger.fail(self.claimed(ledger).token, Failure("JobError", "no", for_good=True), decide=True)
            else:
                ledger.succeed(None, self.claimed(ledger).token, None)
            ledger.close_batch(batch.id)
        page = browse(EVERYBODY).get("/batches").text
        assert [row[2] for row in cells(page)] == ["finished", "finished , 1 failed"]
        assert page.count('<span class="state failed">1 failed</span>') == 1

    def test_a_job_leads_to_its_batches(self, ledger: SqlLedger, browse: Open) -> None:
        april = ledger.open_batch(HOSTILE, new_job(job_type="export", organization_id=1))
        other = ledger.open_batch("other", new_job(job_type="export", organization_id=1))
        ledger.insert(new_job(batch_id=other.id, organization_id=2))
        jobs = ledger.insert_many([new_job(batch_id=april.id, organization_id=1, priority=1) for _ in range(3)])
        mixed = ledger.insert(new_job(batch_id=other.id, organization_id=1))
        for _ in range(2):
            ledger.fail(self.claimed(ledger).token, Failure("JobError", "no", for_good=True), decide=True)
        everybody, one = browse(EVERYBODY), browse(ONE)
        link = f'<a href="/batches\\?id={april.id}">batch {april.id} \\(&lt;script'
        progress = r"</a>: 2 of 3 jobs ended, 2 of them failed\.</p>"
        for browser in (everybody, one):
            for job_id, relation in ((jobs[0].id, "It is in"), (april.then_id, "It follows")):
                page = browser.get(f"/jobs/{job_id}").text
                assert re.search(f"<p>{relation} {link}.*{progress}", page)
                assert set(re.findall(r"batches\?id=(\d+)", page)) == {str(april.id)}, "in a sentence and in a drawing"
                self.assert_inert(page)
        for job_id in (mixed.id, other.then_id):
            assert f'href="/batches?id={other.id}"' in everybody.get(f"/jobs/{job_id}").text
            assert "/batches?id=" not in one.get(f"/jobs/{job_id}").text, "it has a job of others"
        alone = everybody.get(f"/batches?id={april.id}").text
        assert [row[0] for row in cells(alone)] == [str(april.id)]
        assert '<a href="/batches">Newest batches</a>' in alone
        assert cells(one.get(f"/batches?id={other.id}").text) == []

    def test_close(self, ledger: SqlLedger, browse: Open) -> None:
        batch = ledger.open_batch("april", new_job(job_type="export"))
        browser = browse(EVERYBODY)
        answer = self.post(browser, f"/batches/{batch.id}/close", "/batches")
        assert answer.headers["location"] == "/batches?said=closed"
        assert "it finishes with the last of its jobs" in browser.get(answer.headers["location"]).text
        then = ledger.get(batch.then_id or 0)
        assert then is not None
        assert then.state is JobState.WAITING, "an empty batch is over once it is closed"
        (event,) = Queries(ledger.engine).events(9, EventFilter(action="close batch"))
        assert event.actor == "ada"

    def test_cancel_closes_it_and_leads_to_its_jobs(self, ledger: SqlLedger, browse: Open) -> None:
        batch = ledger.open_batch("april", new_job(job_type="export"))
        jobs = ledger.insert_many([new_job(batch_id=batch.id) for _ in range(2)])
        other = ledger.insert(new_job())
        browser = browse(EVERYBODY)
        answer = self.post(browser, f"/batches/{batch.id}/cancel", "/batches")
        assert answer.headers["location"] == f"/bulk/cancel?batch={batch.id}"
        found = ledger.batch(batch.id)
        assert found is not None
        assert found.state == "closed"
        then = ledger.get(batch.then_id or 0)
        assert then is not None
        assert then.cause == "Cancelled"
        preview = browser.get(answer.headers["location"])
        assert "<h1>Cancel 2 jobs</h1>" in preview.text
        fields = {"token": token_in(preview), "filters": f"batch={batch.id}", "up_to": str(other.id)}
        browser.post("/bulk/cancel", data=fields)
        states = [job.state if (job := ledger.get(each.id)) is not None else None for each in (*jobs, other)]
        assert states == ["failed", "failed", "waiting"]
        finished = ledger.batch(batch.id)
        assert finished is not None
        assert finished.state == "finished"
        events = Queries(ledger.engine).events(9, EventFilter(action="cancel batch"))
        assert [event.actor for event in events] == ["ada"]

    def test_a_finished_batch_stays_as_it_is(self, ledger: SqlLedger, browse: Open) -> None:
        batch = ledger.open_batch("april")
        ledger.open_batch("may")
        ledger.close_batch(batch.id)
        browser = browse(EVERYBODY)
        for action in ("close", "cancel"):
            answer = self.post(browser, f"/batches/{batch.id}/{action}", "/batches")
            assert answer.status_code == 409
            assert "has finished" in answer.text
        for number in ("99", "x", "0", "99999999999999999999"):
            assert self.post(browser, f"/batches/{number}/close", "/batches").status_code == 404


class AuditContract(DashboardScene):
    """Who changed what, and when."""

    @pytest.fixture
    def record(self, ledger: SqlLedger) -> Callable[..., None]:
        def record(action: Action, by: str, job_id: int | None = None, detail: str = "", job_type: str = "") -> None:
            with ledger.engine.begin() as connection:
                audit_events.record(connection, action, by, job_id=job_id, detail=detail, job_type=job_type)

        return record

    def test_each_filter(self, browse: Open, record: Callable[..., None]) -> None:
        record(Action.CANCEL, "ada", 7)
        record(Action.RETRY, "eve", 8, job_type="sync_a")
        record(Action.CANCEL, "ann", 9)
        browser = browse(EVERYBODY)
        for query, actors in (
            *(("action=retry", ["eve"]), ("by=a*", ["ann", "ada"]), ("type=sync_*", ["eve"]), ("job=7", ["ada"])),
            ("action=retry&by=ada", []),
        ):
            assert [row[1] for row in cells(browser.get(f"/audit?{query}").text)] == actors, query

    def test_a_page_looks_through_a_bounded_number_of_events(
        self, ledger: SqlLedger, browse: Open, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.web.audit_pages.PER_PAGE", 2)
        for name, number in (("LOOKED_THROUGH", 3), ("LOOKED_THROUGH_FOR_SOME", 2)):
            for module in ("ledger.audit.audit_events", "web.audit_pages"):
                monkeypatch.setattr(f"spoke_jobs.{module}.{name}", number)
        mine = ledger.insert(new_job(organization_id=1))
        for number in range(7):
            record(Action.CANCEL, "eve" if number < 3 else "ada", mine.id if number < 3 else None)
        everybody, one = browse(EVERYBODY), browse(ONE)
        for browser, path, number in ((everybody, "/audit?by=eve", 3), (one, "/audit", 2)):
            first = browser.get(path).text
            assert cells(first) == []
            assert f"{number} events were looked through for this page." in first
            assert "None of these events is listed here." in first
            assert [row[1] for row in pages(browser, path)] == ["eve"] * 3
        for browser in (everybody, one):  # there is an index of the events of a job
            found = browser.get(f"/audit?job={mine.id}").text
            assert "looked through" not in found
            assert [row[1] for row in cells(found)] == ["eve"] * 2
        assert "looked through" not in everybody.get("/audit").text


class AuditPages(AuditContract):
    """What depends on no database."""

    def test_who_did_what(self, ledger: SqlLedger, browse: Open) -> None:
        job = ledger.insert(new_job())
        ledger.cancel(job.id, "grace")
        ledger.limits.pause(parse_scope("queue:q"), "the partner is down", "ada")
        page = browse(EVERYBODY).get("/audit").text
        pause, cancel = cells(page)
        assert pause[1:] == ["ada", "pause", "", "", "queue:q: the partner is down"]
        assert cancel[1:] == ["grace", "cancel", str(job.id), "report", "waiting"]
        assert f'href="/jobs/{job.id}"' in page

    def test_events_have_pages(
        self, ledger: SqlLedger, browse: Open, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.web.audit_pages.PER_PAGE", 2)
        for number in range(5):
            record(Action.CANCEL, f"user{number}", number + 1)
        browser = browse(EVERYBODY)
        assert [row[1] for row in pages(browser, "/audit?action=cancel")] == [f"user{n}" for n in (4, 3, 2, 1, 0)]
        assert "Newest events" in browser.get("/audit?before=3").text
