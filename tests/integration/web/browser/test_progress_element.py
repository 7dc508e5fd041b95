"""The element <spoke-progress> on the page of an application on another origin, with a strict policy."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.contract.filled_ledger import FAILED, LONG_LEASE, claimed
from tests.contract.ledger import new_job
from tests.contract.progress import HOSTILE, KEY
from tests.integration.web.browser.browsing import OpenTab
from tests.integration.web.browser.conftest import Embedding
from tests.integration.web.browser.tab import Tab
from tests.waiting import eventually

from spoke_jobs.contract.progress_token import ProgressToken
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure, Progress

pytestmark = pytest.mark.long

_FILLED = "(element) => element.shadowRoot.querySelector('[part=fill]').getBoundingClientRect().width"
_WIDE = "(element) => element.shadowRoot.querySelector('[part=bar]').clientWidth"


class Shown:
    """The element, as somebody sees it."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.element = tab.page.locator("spoke-progress")
        self.bar = tab.page.get_by_role("progressbar")

    def text(self) -> str:
        """What it says."""
        return " ".join(self.element.locator("[part=text]").inner_text().split())

    def says(self, text: str) -> None:
        """Wait until it says this."""
        eventually(lambda: self.text() == text, f"it says {text!r}", state=self.text)

    def percent(self) -> int:
        """How much of the bar is filled."""
        return round(100 * self.element.evaluate(_FILLED) / self.element.evaluate(_WIDE))


Show = Callable[[str], Shown]


@pytest.fixture
def show(open_tab: OpenTab, site: str, embedding: Embedding) -> Show:
    """Opens the page of an application that shows a job's progress."""

    def show(token: str) -> Shown:
        embedding.policy = (
            f"default-src 'none'; script-src {site}; connect-src {site}; require-trusted-types-for 'script'"
        )
        embedding.html = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Your upload</title><script defer src="{site}/progress/progress.js"></script></head>
<body><main><h1>Your upload</h1>
<spoke-progress label="Import of your contacts" src="{site}/progress/{token}"></spoke-progress></main></body>
</html>"""
        tab = open_tab(embedding.url, site)
        tab.open("/")
        return Shown(tab)

    return show


def test_a_job_is_followed_to_its_success(show: Show, ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(job_type="followed"))
    shown = show(job.progress_token(key=KEY))
    shown.says("Waiting")
    assert shown.bar.get_attribute("aria-label") == "Import of your contacts"
    assert shown.tab.findings() == []
    claim = claimed(ledger, "followed")
    ledger.heartbeat(claim.token, LONG_LEASE, Progress(40, "400 of 1,000 rows"))
    shown.says("In progress 40 % 400 of 1,000 rows")
    assert shown.percent() == 40
    assert shown.bar.get_attribute("aria-valuenow") == "40"
    assert shown.tab.findings() == []
    ledger.succeed(None, claim.token, None, Progress(90, "all rows"))
    shown.says("Done all rows")
    assert shown.percent() == 100
    assert shown.element.get_attribute("state") == "succeeded"
    assert shown.tab.findings() == []


def test_a_job_that_fails(show: Show, ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(job_type="followed_to_failure"))
    shown = show(job.progress_token(key=KEY))
    shown.says("Waiting")
    ledger.fail(claimed(ledger, "followed_to_failure").token, FAILED, decide=True)
    shown.says("Failed")
    assert not shown.bar.is_visible()
    assert shown.tab.findings() == []


def test_a_job_that_says_why_to_its_user(show: Show, ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(job_type="discarded"))
    discarded = Failure("Discarded", 'The file has no column "phone".', for_good=True)
    ledger.fail(claimed(ledger, "discarded").token, discarded, decide=True)
    show(job.progress_token(key=KEY)).says('Failed The file has no column "phone".')


def test_hostile_texts_are_inert(show: Show, ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(job_type="hostile_progress"))
    ledger.heartbeat(claimed(ledger, "hostile_progress").token, LONG_LEASE, Progress(7, HOSTILE))
    shown = show(job.progress_token(key=KEY))
    eventually(lambda: "<img src=x onerror=alert(1)>" in shown.text(), "the text is shown", state=shown.text)
    assert shown.element.locator("img").count() == 0
    assert "\u202e" not in shown.text()
    assert shown.tab.findings() == []


def test_a_token_that_shows_nothing(show: Show, ledger: SqlLedger, site: str) -> None:
    job = ledger.insert(new_job(job_type="expired_token"))
    shown = show(job.progress_token(key=KEY))
    shown.says("Waiting")
    shown.tab.expect_status(404)
    for token in (ProgressToken(job.id, 1, int(time.time()) - 1).signed(KEY), "nonsense"):
        shown.element.evaluate("(element, src) => element.setAttribute('src', src)", f"{site}/progress/{token}")
        shown.says("No longer available")
        shown.element.evaluate(
            "(element, src) => element.setAttribute('src', src)", f"{site}/progress/{job.progress_token(key=KEY)}"
        )
        shown.says("Waiting")


def test_its_texts_and_looks_can_be_set(show: Show, ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(job_type="other_texts"))
    shown = show(job.progress_token(key=KEY))
    shown.says("Waiting")
    shown.element.evaluate("(element) => { element.setAttribute('text-running', 'Läuft'); }")
    shown.element.evaluate("(element) => { element.style.setProperty('--spoke-progress-color', 'rgb(1, 2, 3)'); }")
    ledger.heartbeat(claimed(ledger, "other_texts").token, LONG_LEASE, Progress(1, ""))
    shown.says("Läuft 1 %")
    color = "(element) => getComputedStyle(element.shadowRoot.querySelector('[part=fill]')).backgroundColor"
    assert shown.element.evaluate(color) == "rgb(1, 2, 3)"


def test_the_page_is_told_of_the_end(show: Show, ledger: SqlLedger) -> None:
    job = ledger.insert(new_job(job_type="told_of_the_end"))
    shown = show(job.progress_token(key=KEY))
    shown.says("Waiting")
    shown.tab.page.evaluate(
        "() => { window.told = []; document.addEventListener('spoke-progress', (event) => told.push(event.detail)); }"
    )
    ledger.succeed(None, claimed(ledger, "told_of_the_end").token, None)
    shown.says("Done")
    (*_, last) = shown.tab.page.evaluate("() => window.told")
    assert last == {"state": "succeeded", "percent": 100, "message": "", "ended": True}
