"""The dashboard's page *Queues and limits*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from html import unescape

import pytest
from sqlalchemy import update
from tests.contract.dashboard_scene import EVERYBODY, HOSTILE, ONE, DashboardScene, Open, token_in
from tests.contract.ledger import new_job

from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_limit
from spoke_jobs.limits.job_limit import Bounds, JobLimit, Rate, parse_scope
from spoke_jobs.web.job_search import encoded


class QueuesContract(DashboardScene):
    """Queues, limits, rates and pauses."""

    def rows(self, page: str) -> dict[str, list[str]]:
        """The cells of the queues, by the queue's name, without links to forms that change them."""
        table = page[page.index("<tbody>") : page.index("</tbody>")] if "<tbody>" in page else ""
        found = {}
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
            shown = row.partition('<td class="change">')[0]
            name, *cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", shown, re.DOTALL)
            found[re.sub(r"<[^>]+>", "", name)] = cells
        return found

    def limits(self, ledger: SqlLedger) -> Sequence[JobLimit]:
        return ledger.limits.all()

    def test_the_depth_of_each_queue(self, ledger: SqlLedger, browse: Open) -> None:
        now = Queries(ledger.engine).now()
        ledger.insert(new_job(queue_name="imports", locks_queue=True))
        holder = self.claimed(ledger).job
        ledger.insert_many([new_job(queue_name="imports", locks_queue=True) for _ in range(3)])
        ledger.insert(new_job(queue_name="imports", run_after=now + timedelta(hours=1)))
        ledger.insert(new_job(queue_name="exports"))
        ledger.insert(new_job())
        page = browse(EVERYBODY).get("/queues").text
        rows = self.rows(page)
        assert [*rows] == ["imports", "(no queue)", "exports"] or [*rows] == ["imports", "exports", "(no queue)"]
        due, later, oldest, running, started, lock, paused = rows["imports"]
        assert (due, later, running, started, paused) == ("3", "1", "1", "1", "")
        assert " ago</time>" in oldest
        assert f'<a href="/jobs/{holder.id}">job {holder.id}</a>' in lock
        assert 'href="/jobs?state=waiting&amp;queue=imports"' in page
        assert rows["exports"][:2] == ["1", "0"]

    def test_jobs_of_no_queue_are_shown_also_if_none_is_due_or_runs(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job())
        ledger.succeed(None, self.claimed(ledger).token, None)
        browser = browse(EVERYBODY)
        assert self.rows(browser.get("/queues").text) == {"(no queue)": ["0", "0", "", "0", "1", "", ""]}
        ledger.insert(new_job(run_after=Queries(ledger.engine).now() + timedelta(hours=1)))
        assert self.rows(browser.get("/queues").text) == {"(no queue)": ["0", "1", "", "0", "1", "", ""]}

    def pause_since(self, ledger: SqlLedger, scope: str, days: float, reason: str = "the partner is down") -> None:
        """Pause a scope, as somebody has done some days ago."""
        ledger.limits.pause(parse_scope(scope), reason, "grace")
        with ledger.engine.begin() as connection:
            then = clock_after(-days * 86_400)
            connection.execute(update(job_limit).where(job_limit.c.scope == scope).values(paused_at=then))

    def test_a_queue_whose_due_jobs_other_pauses_hold(self, ledger: SqlLedger, browse: Open) -> None:
        later = Queries(ledger.engine).now() + timedelta(hours=1)
        for queue, job_type, organization, number in (
            *(("imports", "export", 1, 3), ("imports", "other", 1, 1), ("few", "export", 1, 1), ("few", "other", 1, 2)),
            *(("theirs", "other", 7, 2), ("free", "other", 1, 1), ("mixed", "export", 7, 1), ("mixed", "other", 7, 2)),
        ):
            jobs = [new_job(queue_name=queue, job_type=job_type, organization_id=organization) for _ in range(number)]
            ledger.insert_many(jobs)
        ledger.insert_many([new_job(queue_name="free", job_type="export", run_after=later) for _ in range(5)])
        self.pause_since(ledger, "type:export", 7.1)
        self.pause_since(ledger, "organization:7", 1)
        browser = browse(EVERYBODY)
        rows = {name: cells[-1] for name, cells in self.rows(browser.get("/queues").text).items()}
        why = "the partner is down (by grace), for"
        assert rows == {
            "imports": f"its type export is paused, which holds 3 of 4 due jobs: {why} 7 d 2 h",
            "few": "",
            "theirs": f"its organization 7 is paused, which holds 2 of 2 due jobs: {why} 1 d",
            "free": "",
            "mixed": f"its organization 7 is paused, which holds 2 of 3 due jobs; other pauses hold 1: {why} 1 d",
        }
        others = self.rows(browse(ONE).get("/queues").text)
        assert "paused" not in str(others), "limits concern all organizations"
        self.pause_since(ledger, "queue:imports", 1, "its own")
        page = browser.get("/queues").text
        assert self.rows(page)["imports"][-1].startswith("its own (by grace), since <time")
        ledger.limits.resume(parse_scope("type:export"), "grace")
        ledger.limits.resume(parse_scope("organization:7"), "grace")
        self.pause_since(ledger, "all", 1)
        page = browser.get("/queues").text
        assert self.rows(page)["few"][-1].startswith("everything is paused, which holds 3 of 3 due jobs: ")

    def test_queues_of_other_organizations_do_not_exist(self, ledger: SqlLedger, browse: Open) -> None:
        for organization in (2, None):
            ledger.insert(new_job(job_type="theirs", queue_name="their_queue", organization_id=organization))
        ledger.insert(new_job(job_type="theirs", queue_name="shared", organization_id=2, locks_queue=True, priority=9))
        theirs = self.claimed(ledger).job
        assert theirs.queue_name == "shared"
        ledger.insert(new_job(queue_name="shared", organization_id=1, locks_queue=True))
        ledger.limits.pause(parse_scope("queue:shared"), "their reason", "grace")
        ledger.limits.set(parse_scope("organization:2"), lambda _: Bounds(3), "grace")
        page = browse(ONE).get("/queues").text
        assert "their_queue" not in page
        assert "their reason" not in page, "limits concern all organizations"
        assert "organization:2" not in page
        assert self.rows(page) == {"shared": ["1", "0", self.rows(page)["shared"][2], "0", "0", ""]}
        assert f"job {theirs.id}" not in page
        assert "/limits/" not in page

    def test_counts_have_a_cap(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("ledger.reading.queue_counts", "web.queue_pages"):
            monkeypatch.setattr(f"spoke_jobs.{module}.EXAMINED", 2)
        monkeypatch.setattr("spoke_jobs.web.queue_pages.SHOWN", 1)
        ledger.insert(new_job(queue_name="other"))
        self.claimed(ledger)
        ledger.insert_many([new_job(queue_name="q") for _ in range(3)])
        page = browse(EVERYBODY).get("/queues").text
        assert "attempts were counted as started" not in page
        for module in ("ledger.reading.queue_counts", "web.queue_pages"):
            monkeypatch.setattr(f"spoke_jobs.{module}.NEWEST_ATTEMPTS", 1)
        page = browse(EVERYBODY).get("/queues").text
        assert "Only the newest 1 attempts were counted as started; there may be more." in page
        assert "The first 2 waiting jobs were counted; there may be more." in page
        assert "These are the 1 queues with the most due jobs, of 2." in page
        assert [*self.rows(page)] == ["q"]

    def test_pause_and_resume(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(queue_name="imports"))
        browser = browse(EVERYBODY)
        answer = self.post(
            browser, "/limits/pause", "/queues", scope="queue:imports", reason="the partner is down", hours=""
        )
        assert answer.headers["location"] == "/queues?said=paused"
        (limit,) = self.limits(ledger)
        assert limit.pause is not None
        assert (limit.pause.reason, limit.pause.by, limit.pause.until) == ("the partner is down", "ada", None)
        assert self.claim_or_none(ledger) is None
        page = browser.get(answer.headers["location"]).text
        assert "You paused it." in page
        scope = encoded("queue:imports")
        assert f'name="known_scope" value="{scope}"' in page
        answer = self.post(browser, "/limits/resume", "/queues", known_scope=scope)
        assert answer.headers["location"] == "/queues?said=resumed"
        assert self.limits(ledger) == []
        assert self.claim_or_none(ledger) is not None
        assert self.events(ledger, "pause") == [("ada", "queue:imports: the partner is down")]
        assert self.events(ledger, "resume") == [("ada", "queue:imports")]
        again = self.post(browser, "/limits/resume", "/queues", known_scope=scope)
        assert again.headers["location"] == "/queues?said=not-paused"


class QueuePages(QueuesContract):
    """What depends on no database."""

    def test_limits_and_pauses_are_shown(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(queue_name="imports"))
        ledger.limits.set(parse_scope("type:report"), lambda _: Bounds(3, Rate.parse("5/s")), "grace")
        ledger.limits.pause(parse_scope("queue:imports"), "the partner is down", "grace")
        browser = browse(EVERYBODY.read_only())
        page = browser.get("/queues").text
        assert re.search(r'<th scope="row">type:report</th><td>0</td><td>3</td><td>5/s</td><td>runtime</td>', page)
        assert page.count("the partner is down (by grace)") == 2, "at the queue, and in the list"
        assert "<form" not in page
        ledger.limits.resume(parse_scope("queue:imports"), "grace")
        assert "the partner is down" not in browser.get("/queues").text

    def test_since_when_a_pause_lasts(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(queue_name="imports"))
        ledger.insert(new_job(job_type="export"))
        self.pause_since(ledger, "queue:imports", 7.1)
        self.pause_since(ledger, "type:export", 0.5)
        browser = browse(EVERYBODY)
        page = browser.get("/queues").text
        assert '<th scope="col">Paused since</th>' in page
        since = r"<time [^>]*>7 d 2 h ago</time>"
        assert re.search(rf'<th scope="row">queue:imports</th>.*\(by grace\)</td><td>{since}</td>', page)
        assert re.search(rf"the partner is down \(by grace\), since {since}", self.rows(page)["imports"][-1])
        overview = browser.get("/").text
        assert len(re.findall(r"\(for [\d.]+ s; paused for 7 d 2 h\)", overview)) == 1
        assert "paused for 12 h" not in overview

    def test_the_overview_leads_to_the_pause_or_the_limit(self, ledger: SqlLedger, browse: Open) -> None:
        for job_type in ("export", "report", "hostile"):
            ledger.insert(
                new_job(job_type=job_type, queue_name=HOSTILE if job_type == "hostile" else "", organization_id=1)
            )
        self.pause_since(ledger, "type:export", 1)
        ledger.limits.set(parse_scope("type:report"), lambda _: Bounds(0), "grace")
        ledger.limits.pause(parse_scope(f"queue:{HOSTILE}"), HOSTILE, HOSTILE)
        browser = browse(EVERYBODY)
        overview, queues = browser.get("/").text, browser.get("/queues").text
        found = re.findall(r'Or look at <a href="/queues#([\w-]+)">([^<]+)</a> among the limits.', overview)
        assert {"type:export", "type:report"} < {scope for _, scope in found}
        assert len(found) == 3
        for row, scope in found:
            assert f'<tr id="{row}"><th scope="row">{scope}</th>' in queues
        self.assert_inert(overview)
        assert "/queues#" not in browse(ONE).get("/").text

    def test_the_page_of_a_job_ends_the_pause_that_holds_it_back(self, ledger: SqlLedger, browse: Open) -> None:
        scope = f"queue:{HOSTILE}"
        jobs = [ledger.insert(new_job(queue_name=HOSTILE, organization_id=1)) for _ in range(2)]
        ledger.limits.pause(parse_scope(scope), "the partner is down", "grace")
        browser, path = browse(EVERYBODY), f"/jobs/{jobs[0].id}"
        page = browser.get(path).text
        self.assert_inert(page)
        (row,) = re.findall(r'<a href="/queues#([\w-]+)">', page)
        assert f'id="{row}"' in browser.get("/queues").text
        (field,) = re.findall(r'name="known_scope" value="([^"]*)"', page)
        answer = self.post(browser, "/limits/resume", path, known_scope=field)
        assert "You ended the pause." in browser.get(answer.headers["location"]).text
        assert self.claimed(ledger).job.id == jobs[0].id
        assert "known_scope" not in browser.get(f"/jobs/{jobs[1].id}").text
        ledger.limits.pause(parse_scope(scope), "the partner is down", "grace")
        for viewer in (ONE, EVERYBODY.read_only()):
            assert "known_scope" not in browse(viewer).get(f"/jobs/{jobs[1].id}").text

    def test_a_row_leads_to_forms_that_have_its_scope(self, ledger: SqlLedger, browse: Open) -> None:
        """Nobody has to know how scopes are written."""
        ledger.insert(new_job(queue_name="im & ports"))
        ledger.insert(new_job(queue_name=HOSTILE))
        ledger.limits.set(parse_scope("type:report"), lambda _: Bounds(3), "grace")
        ledger.limits.pause(parse_scope("all"), "an upgrade", "grace")
        browser = browse(EVERYBODY)
        page = browser.get("/queues").text
        found = {
            name: unescape(path) for path, name in re.findall(r'href="(/queues\?[^"]+)" aria-label="([^"]+)"', page)
        }
        queue, limit = "/queues?scope=queue%3Aim+%26+ports", "/queues?scope=type%3Areport"
        assert found == {
            "Pause im &amp; ports": f"{queue}#pause",
            "Limit im &amp; ports": f"{queue}#limit",
            "Pause type:report": f"{limit}#pause",
            "Limit type:report": f"{limit}#limit",
            "Limit all": "/queues?scope=all#limit",
        }, "a field can't show the hostile name as it is"
        page = browser.get(queue).text
        assert page.count('name="scope" value="queue:im &amp; ports"') == 2
        assert {'<form id="pause"', '<form id="limit"'} <= set(re.findall(r'<form id="\w+"', page))
        for scope in (HOSTILE, "queue", "x" * 999):
            page = browser.get("/queues", params={"scope": scope}).text
            assert page.count('name="scope" value=""') == 2
            self.assert_inert(page)
        assert "/queues?scope" not in browse(EVERYBODY.read_only()).get("/queues").text

    def test_how_many_jobs_may_start_once_a_pause_ends(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert_many([new_job(queue_name="imports", job_type="export") for _ in range(3)])
        ledger.limits.set(parse_scope("type:export"), lambda _: Bounds(2), "grace")
        ledger.limits.pause(parse_scope("type:export"), "why", "grace")
        ledger.limits.pause(parse_scope("queue:other"), "why", "grace")
        browser = browse(EVERYBODY)
        page = browser.get("/queues").text
        said = "It holds back 3 due jobs, which may start once it ends"
        assert page.count("It holds back") == page.count(f"{said}, at most 2 at a time.") == 1
        ledger.limits.pause(parse_scope("queue:imports"), "why", "grace")
        assert f"{said}." in browser.get("/queues").text

    def test_a_pause_may_end_by_itself(self, ledger: SqlLedger, browse: Open) -> None:
        browser = browse(EVERYBODY)
        before = Queries(ledger.engine).now()
        self.post(browser, "/limits/pause", "/queues", scope="all", reason="upgrade", hours="4")
        (limit,) = self.limits(ledger)
        assert limit.pause is not None
        assert limit.pause.until is not None
        assert timedelta(hours=4) <= limit.pause.until - before < timedelta(hours=5)
        assert "ends in " in browser.get("/queues").text

    def test_set_and_reset(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(job_type="report"))
        ledger.limits.declare({parse_scope("type:report"): Bounds(7)}, "app")
        browser = browse(EVERYBODY)
        answer = self.post(
            browser, "/limits/set", "/queues", scope="type:report", max_running="3", rate="100/min", burst="5"
        )
        assert answer.headers["location"] == "/queues?said=set"
        assert self.limits(ledger)[0].bounds == Bounds(3, Rate.parse("100/min", 5))
        self.post(browser, "/limits/set", "/queues", scope="type:report", max_running="", rate="none", burst="")
        assert self.limits(ledger)[0].bounds == Bounds(3), "what is left empty stays"
        self.post(browser, "/limits/reset", "/queues", known_scope=encoded("type:report"))
        assert self.limits(ledger)[0].bounds == Bounds(7)
        assert self.events(ledger, "reset limit")[0][0] == "ada"

    def test_a_name_that_no_job_has(self, ledger: SqlLedger, browse: Open) -> None:
        ledger.insert(new_job(job_type="sync.users"))
        browser = browse(EVERYBODY)
        for scope, known in (("type:sync.users", True), ("type:sync.*", True), ("type:sink.*", False), ("all", True),
                             ("queue:nothing", False)):  # fmt: skip
            answer = self.post(browser, "/limits/pause", "/queues", scope=scope, reason="r", hours="1")
            assert answer.headers["location"] == f"/queues?said=paused{'' if known else '-unknown'}", scope
        assert "mistyped" in browser.get("/queues?said=paused-unknown").text
        ledger.insert(new_job(job_type="new"))  # since the names that fields suggest were read
        answer = self.post(browser, "/limits/pause", "/queues", scope="type:new", reason="r", hours="1")
        assert answer.headers["location"] == "/queues?said=paused"

    @pytest.mark.parametrize("action", ["pause", "set"])
    def test_an_error_means_that_nothing_was_changed(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch, action: str
    ) -> None:
        browser = browse(EVERYBODY)
        fields = {
            "token": token_in(browser.get("/queues")),
            "scope": "queue:q",
            "reason": "r",
            "hours": "",
            "rate": "1/s",
        }

        def broken(*_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr("spoke_jobs.web.queue_pages.DashboardQueries.recent_names", broken)
        assert browser.post(f"/limits/{action}", data=fields).status_code == 500
        assert self.limits(ledger) == []
