"""Pages that follow what happens, and stay as they are while somebody uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import delete
from tests.conftest import open_ledger
from tests.contract.dashboard_scene import EVERYBODY
from tests.contract.filled_ledger import LONG_LEASE, claimed, failed_task
from tests.contract.ledger import new_job
from tests.integration.web.browser.browsing import ZONE, OpenTab
from tests.integration.web.browser.conftest import Serve
from tests.integration.web.browser.tab import Tab
from tests.waiting import eventually, patient, stays

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import task_outbox
from spoke_jobs.model import Progress
from spoke_jobs.web import Viewer, change_stream
from spoke_jobs.web.page_rendering import COOKIE

pytestmark = pytest.mark.long

WAITS = "An update waits while you use this page."
SOON_SECONDS = 0.3
"""Between two events of a stream."""
QUIET_SECONDS = 6 * SOON_SECONDS
"""In which some events arrive."""
Show = Callable[..., Tab]


@pytest.fixture
def own_ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(sqlite_ledger_url)


@pytest.fixture
def viewers() -> list[Viewer | None]:
    """Who looks: the last one."""
    return [EVERYBODY]


@pytest.fixture
def show(
    own_ledger: SqlLedger,
    sqlite_ledger_url: str,
    viewers: list[Viewer | None],
    open_tab: OpenTab,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> Show:
    """Opens a page that gets events soon. On SQLite, pages get them at intervals."""
    monkeypatch.setattr(change_stream, "SOONEST_SECONDS", SOON_SECONDS)
    monkeypatch.setattr(change_stream, "LATEST_SECONDS", SOON_SECONDS)
    site = serve(sqlite_ledger_url, lambda _request: viewers[-1])

    def show(path: str) -> Tab:
        tab = open_tab(site)
        tab.open(path)
        tab.page.evaluate("() => { window.sameDocument = true; }")
        return tab

    return show


def is_same_document(tab: Tab) -> bool:
    return bool(tab.page.evaluate("() => window.sameDocument === true"))


def dispatch(ledger: SqlLedger, number: int = 1) -> None:
    ledger.insert_many([new_job(job_type="report") for _ in range(number)])


def rows(tab: Tab) -> int:
    return tab.page.locator("tbody tr").count()


class TestUpdates:
    def test_a_new_job_appears_without_a_reload(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger)
        tab = show("/jobs")
        assert rows(tab) == 1
        dispatch(own_ledger)
        eventually(lambda: rows(tab) == 2, "the second job is shown")
        assert is_same_document(tab)

    def test_progress_is_followed_to_the_end(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger)
        claim = claimed(own_ledger, "report")
        tab = show(f"/jobs/{claim.job.id}")
        own_ledger.heartbeat(claim.token, LONG_LEASE, Progress(70, "700 of 1,000 rows"))
        tab.see("700 of 1,000 rows")
        assert tab.page.get_by_label("Progress").get_attribute("value") == "70"
        own_ledger.succeed(None, claim.token, None)
        tab.page.locator(".state.succeeded").first.wait_for()
        assert is_same_document(tab)

    def test_the_output_of_a_running_job_is_followed_by_itself(
        self, own_ledger: SqlLedger, show: Show, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also if nothing tells of a change, and to its last line, unless somebody has scrolled away from it."""
        dispatch(own_ledger)
        claim = claimed(own_ledger, "report")
        monkeypatch.setattr(change_stream, "LATEST_SECONDS", patient(600))
        tab = show(f"/jobs/{claim.job.id}")
        title = tab.page.title()
        for number in (1, 300):
            own_ledger.keep_output(claim.token, "\n".join(f"row {row}" for row in range(1, number + 1)))
            tab.see(f"row {number}")
        lines = tab.page.locator("#job-output pre")
        assert lines.evaluate("pre => pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 1")
        lines.evaluate("pre => { pre.scrollTop = 40; }")
        own_ledger.keep_output(claim.token, "\n".join(f"row {row}" for row in range(1, 302)))
        tab.see("row 301")
        assert lines.evaluate("pre => pre.scrollTop") == 40
        own_ledger.succeed(None, claim.token, None)
        tab.see("Last output, of attempt 1")
        assert is_same_document(tab)
        assert tab.page.title() == title, "that of the page of the output is another one"

    def test_a_task_that_has_run_is_said_to_be_gone(self, own_ledger: SqlLedger, show: Show) -> None:
        task_id = failed_task(own_ledger, "send")
        tab = show(f"/tasks/{task_id}")
        tab.expect_status(404)
        with own_ledger.engine.begin() as connection:
            connection.execute(delete(task_outbox).where(task_outbox.c.id == task_id))
        tab.see("There is no such task")
        assert is_same_document(tab)

    def test_the_place_on_the_page_is_kept(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger, 45)
        tab = show("/jobs")
        tab.page.evaluate("() => window.scrollTo(0, 600)")
        dispatch(own_ledger)
        eventually(lambda: rows(tab) == 46, "the new job is shown")
        assert tab.page.evaluate("() => window.scrollY") == 600

    def test_a_page_that_is_left_and_found_again_goes_on(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger)
        tab = show("/jobs")
        tab.link("Overview").click()
        tab.page.get_by_role("heading", name="Overview").wait_for()
        dispatch(own_ledger)
        tab.page.go_back()
        eventually(lambda: rows(tab) == 2, "the new job is shown")
        dispatch(own_ledger)
        eventually(lambda: rows(tab) == 3, "the stream is open again")


class TestNothingMoves:
    """While somebody uses a page, it says that an update waits, and shows it afterwards."""

    def assert_waits(self, tab: Tab, ledger: SqlLedger) -> None:
        before = rows(tab)
        dispatch(ledger)
        tab.see(WAITS)
        assert stays(lambda: rows(tab) == before, QUIET_SECONDS)

    def test_under_the_pointer(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger, 3)
        tab = show("/jobs")
        link = tab.page.locator("tbody th a").nth(1)
        link.hover()
        place, job_id = link.bounding_box(), link.inner_text()
        self.assert_waits(tab, own_ledger)
        assert (link.bounding_box(), link.inner_text()) == (place, job_id)
        tab.page.mouse.move(2, 2)
        eventually(lambda: rows(tab) == 4, "the update is shown")
        assert not tab.sees(WAITS)

    def test_output_under_the_pointer(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger)
        claim = claimed(own_ledger, "report")
        own_ledger.keep_output(claim.token, "row 1")
        tab = show(f"/jobs/{claim.job.id}")
        tab.page.locator("#job-output pre").hover()
        own_ledger.keep_output(claim.token, "row 2")
        tab.see(WAITS)
        assert stays(lambda: tab.sees("row 1"), QUIET_SECONDS)
        tab.page.mouse.move(2, 2)
        tab.see("row 2")

    def test_while_a_field_is_filled_in(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger)
        tab = show("/jobs")
        field = tab.page.get_by_label("Queue", exact=True)
        field.fill("mai")
        self.assert_waits(tab, own_ledger)
        field.blur()
        assert stays(lambda: rows(tab) == 1, QUIET_SECONDS), "what was typed would be lost"
        assert field.input_value() == "mai"
        field.fill("")
        field.blur()
        eventually(lambda: rows(tab) == 2, "the update is shown")

    def test_while_text_is_selected(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger)
        tab = show("/jobs")
        tab.page.evaluate("() => getSelection().selectAllChildren(document.querySelector('tbody td'))")
        self.assert_waits(tab, own_ledger)
        assert tab.page.evaluate("() => getSelection().toString()") == "report"
        tab.page.evaluate("() => getSelection().removeAllRanges()")
        eventually(lambda: rows(tab) == 2, "the update is shown")

    def test_while_somebody_is_asked_whether_to_cancel(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger)
        (job,) = own_ledger.list_jobs()
        tab = show(f"/jobs/{job.id}")
        tab.page.get_by_text("Cancel this job").click()
        tab.page.mouse.move(2, 2)
        own_ledger.cancel(job.id)
        tab.see(WAITS)
        assert stays(lambda: tab.button(f"Cancel job {job.id}").is_visible(), QUIET_SECONDS)
        tab.page.get_by_text("Cancel this job").click()
        tab.page.locator("body").evaluate("() => document.activeElement.blur()")
        tab.page.mouse.move(2, 2)
        tab.page.locator(".state.failed").first.wait_for()

    def test_with_live_updates_off(self, own_ledger: SqlLedger, show: Show) -> None:
        dispatch(own_ledger)
        tab = show("/jobs")
        box = tab.page.get_by_label("Live updates")
        box.uncheck()
        dispatch(own_ledger)
        assert stays(lambda: rows(tab) == 1, QUIET_SECONDS)
        assert not tab.sees(WAITS)
        tab.page.reload()
        assert not box.is_checked(), "the browser keeps the choice"
        assert rows(tab) == 2
        box.check()
        dispatch(own_ledger)
        eventually(lambda: rows(tab) == 3, "the update is shown")


class TestTheEnd:
    def test_when_the_session_ends_the_page_stays_and_says_so(
        self, own_ledger: SqlLedger, show: Show, viewers: list[Viewer | None]
    ) -> None:
        dispatch(own_ledger)
        tab = show("/jobs")
        tab.expect_status(401)
        viewers.append(None)
        eventually(lambda: not tab.page.get_by_label("Live updates").is_checked(), "updates are off")
        assert rows(tab) == 1
        assert is_same_document(tab)


def test_times_are_exact_on_hover(own_ledger: SqlLedger, show: Show) -> None:
    dispatch(own_ledger)
    (job,) = own_ledger.list_jobs()
    tab = show("/jobs")
    time = tab.page.locator("tbody time").first
    assert time.get_attribute("title") == f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC"
    assert tab.page.evaluate("() => Intl.DateTimeFormat().resolvedOptions().timeZone") == ZONE


def test_a_first_page_is_read_again_in_the_readers_time_zone(
    own_ledger: SqlLedger, sqlite_ledger_url: str, open_tab: OpenTab, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SOONEST_SECONDS", "LATEST_SECONDS"):
        monkeypatch.setattr(change_stream, name, 600.0)
    job = own_ledger.insert(new_job(job_type="report"))
    claimed(own_ledger, "report")
    tab = open_tab(serve(sqlite_ledger_url, lambda _request: EVERYBODY), knows_zone=False)
    tab.open(f"/jobs/{job.id}")
    tab.see(f"Started ({ZONE})")
    (cookie,) = [each for each in tab.page.context.cookies() if each["name"] == COOKIE]
    assert cookie["value"] == ZONE
    tab.page.get_by_label("Live updates").uncheck()
    tab.open(f"/jobs/{job.id}")
    assert tab.sees(f"Started ({ZONE})"), "from now on at once"
