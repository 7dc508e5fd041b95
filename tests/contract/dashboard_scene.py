"""The dashboard in a browser on a ledger: the stage of all contracts about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from sqlalchemy import ColumnElement, Table, update
from tests.conftest import open_ledger
from tests.contract.browser import Browser
from tests.contract.ledger import LEASE, claim_one, new_job

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure, JobRequest
from spoke_jobs.web import ALL_ACTIONS, JobAction, Viewer, app

TOKEN = "t" * 40
HOST = "jobs.test"
TYPES = ("report", "export", "theirs", "hostile")
EVERYBODY = Viewer(name="ada", actions=ALL_ACTIONS, organizations=None, may_see_payloads=True)
ONE = Viewer(name="eve", actions=ALL_ACTIONS, organizations=frozenset({1}))
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202egnp.exe \"'&"
FORMS = {
    "/jobs/{job_id}/cancel": JobAction.CANCEL,
    "/jobs/{job_id}/retry": JobAction.RETRY,
    "/jobs/{job_id}/run-now": JobAction.START,
    "/jobs/{job_id}/priority": JobAction.START,
    "/jobs/{job_id}/suspend": JobAction.START,
    "/jobs/{job_id}/resume": JobAction.START,
    "/bulk/cancel": JobAction.CANCEL,
    "/bulk/retry": JobAction.RETRY,
    "/mutes/add": JobAction.MUTE,
    "/mutes/{mute_id}/end": JobAction.MUTE,
    "/limits/pause": JobAction.LIMIT,
    "/limits/resume": JobAction.LIMIT,
    "/limits/set": JobAction.LIMIT,
    "/limits/reset": JobAction.LIMIT,
    "/schedules/pause": JobAction.SCHEDULE,
    "/schedules/resume": JobAction.SCHEDULE,
    "/schedules/run": JobAction.SCHEDULE,
    "/schedules/backfill/dispatch": JobAction.SCHEDULE,
    "/batches/{batch_id}/close": JobAction.CANCEL,
    "/batches/{batch_id}/cancel": JobAction.CANCEL,
    "/tasks/{task_id}/retry": JobAction.RETRY,
}
"""Where the forms are sent, and what one has to be allowed to do for it."""
ROUTES = (
    ("GET", "/"),
    ("GET", "/jobs"),
    ("GET", "/jobs/{job_id}"),
    ("GET", "/jobs/{job_id}/output"),
    ("GET", "/bulk/cancel"),
    ("GET", "/bulk/retry"),
    ("GET", "/failures"),
    ("GET", "/queues"),
    ("GET", "/schedules"),
    ("GET", "/schedules/backfill"),
    ("GET", "/batches"),
    ("GET", "/tasks"),
    ("GET", "/tasks/{task_id}"),
    ("GET", "/cluster"),
    ("GET", "/audit"),
    ("GET", "/changes"),
    *(("POST", path) for path in FORMS),
)
"""The pages and the forms. Each is tried without a session."""
API_ROUTES = (
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/jobs"),
    ("GET", "/api/v1/jobs/{job_id}"),
    ("GET", "/api/v1/jobs/{job_id}/why"),
    ("GET", "/api/v1/why"),
    ("GET", "/api/v1/failures"),
    ("GET", "/api/v1/limits"),
    ("GET", "/api/v1/schedules"),
    ("GET", "/api/v1/batches"),
    ("GET", "/api/v1/batches/{batch_id}"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/mutes"),
)
"""The requests of the JSON API, likewise."""
Open = Callable[..., Browser]


def token_in(page: httpx.Response) -> str:
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page.text)
    assert found is not None, page.text
    return found[1]


def cells(page: str) -> list[list[str]]:
    """The cells of the rows of the page's table, without elements."""
    table = page[page.index("<tbody>") : page.index("</tbody>")] if "<tbody>" in page else ""
    return [
        [
            " ".join(re.sub(r"<[^>]+>", " ", cell).split())
            for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
    ]


def paged(browser: Browser, path: str, rel: str = "next") -> Iterator[str]:
    """The page, and those to which its links lead, one after the other."""
    while path:
        page = browser.get(path).text
        yield page
        link = re.search(rf'<a href="([^"]+)" rel="{rel}">', page)
        path = unescape(link[1]) if link is not None else ""


def pages(browser: Browser, path: str) -> list[list[str]]:
    """The rows of a page and of all older ones."""
    return [row for page in paged(browser, path) for row in cells(page)]


class Elements(HTMLParser):
    """The elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.fields: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names.add(tag)
        self.attributes |= given.keys()
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag == "label":
            self.labelled.add(given.get("for") or "")
        if tag in ("input", "select") and given.get("type") != "hidden":
            self.fields.add(given.get("id") or "")


class DashboardScene:
    """A ledger, and a browser that shows it."""

    @pytest.fixture
    def ledger(self, ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(ledger_url)

    @pytest.fixture
    def browse(self, ledger_url: str) -> Iterator[Open]:
        """Opens the dashboard for a viewer. Without one, nobody may look."""
        with ExitStack() as stack:

            def browse(viewer: Viewer | None, **options: Any) -> Browser:
                dashboard = app(authorize=lambda _request: viewer, hosts=[HOST], database=ledger_url, **options)
                return stack.enter_context(Browser(dashboard, HOST))

            yield browse

    def claimed(self, ledger: SqlLedger) -> Claim:
        claim = self.claim_or_none(ledger)
        assert claim is not None
        return claim

    def claim_or_none(self, ledger: SqlLedger) -> Claim | None:
        return claim_one(ledger, "legacy", TYPES, "host:7", LEASE)

    def failed(self, ledger: SqlLedger, **changes: Any) -> JobRequest:
        job = ledger.insert(new_job(**changes))
        claim = self.claimed(ledger)
        assert claim.job.id == job.id
        ledger.fail(claim.token, Failure("JobError", "no", "ValueError", "last line", for_good=True), decide=True)
        return job

    def failed_at(self, ledger: SqlLedger, place: str, tail: str = "", **changes: Any) -> JobRequest:
        """A job that failed at a place in its code."""
        job = ledger.insert(new_job(**changes))
        claim = self.claimed(ledger)
        failure = Failure(
            "JobError", "no", "ValueError", tail or f"raised at {place}", for_good=True, fingerprint=place
        )
        ledger.fail(claim.token, failure, decide=True)
        return job

    def alter(self, ledger: SqlLedger, table: Table, *where: ColumnElement[bool], **values: Any) -> None:
        """Write into the rows of a table that fulfil a condition, or into all."""
        with ledger.engine.begin() as connection:
            connection.execute(update(table).where(*where).values(values))

    def events(self, ledger: SqlLedger, action: str) -> list[tuple[str, str]]:
        """Who did something, and its details."""
        found = Queries(ledger.engine).events(9, EventFilter(action=action))
        return [(event.actor, event.detail) for event in found]

    def table(self, page: str, name: str) -> list[list[str]]:
        """The cells of the table of a section."""
        section = re.search(rf'<section aria-labelledby="{name}">.*?</section>', page, re.DOTALL)
        assert section is not None, page
        return cells(section[0])

    def assert_inert(self, page: str) -> None:
        """Check that no text of a job is an element, a script, a control character or a change of direction."""
        found = Elements(page)
        data = r' data-(?:changes="/changes"|search="/jobs#type"|cookie="spoke-jobs-zone" data-path="/")'
        own = rf'<script defer src="/static/[a-z.]+\?v=[0-9a-f]{{12}}"(?:{data})?></script>'
        assert page.count("<script") == len(re.findall(own, page))
        assert not {name for name in found.attributes if name.startswith("on") or name == "style"}
        assert "\x1b" not in page
        assert "\u202e" not in page

    def assert_for_everybody(self, page: str) -> None:
        """Check what people need who cannot see the page."""
        found = Elements(page)
        assert {"main", "header", "nav", "h1"} <= found.names
        assert '<html lang="en">' in page
        assert found.fields <= found.labelled, "each field has a label"
        assert len(found.ids) == len(set(found.ids))
        for name in re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', page):
            assert name in found.ids

    def post(self, browser: Browser, path: str, shown_at: str, **fields: str) -> httpx.Response:
        """Send a form with the token of a page."""
        return browser.post(path, data={"token": token_in(browser.get(shown_at)), **fields})
