"""Each page in a browser: nothing goes wrong in it, and axe-core finds nothing that keeps people out."""

from __future__ import annotations

import dataclasses
import re

import pytest
from tests.conftest import open_ledger
from tests.contract.dashboard_scene import EVERYBODY, HOSTILE, ONE
from tests.contract.dashboard_schedules import APPLICATION
from tests.contract.filled_ledger import PAGES, Filled, fill_with_hostile_texts
from tests.integration.web.browser.browsing import OpenTab
from tests.integration.web.browser.conftest import Serve
from tests.integration.web.browser.tab import Tab
from tests.unit.web.test_cluster_page import published, template

from spoke_jobs.cluster.cluster_view import SpokeJobWaits, WaitingSpokeJob
from spoke_jobs.cluster.namespace_view import NamespaceView, template_view
from spoke_jobs.contract.wait_reasons import Wait

pytestmark = pytest.mark.long

EMPTY = (
    *("/", "/jobs", "/jobs?type=nothing", "/failures", "/queues", "/schedules", "/batches", "/batches?name=nothing"),
    *("/tasks", "/tasks?name=nothing", "/cluster", "/audit", "/audit?by=nobody", "/bulk/cancel?type=nothing"),
)
"""The pages that say what to do next, because there is nothing to show."""
REFUSED = (
    ("/nothing", 404),
    ("/jobs/999999", 404),
    ("/tasks/999999", 404),
    ("/jobs?state=gone&organization=x&type=%00", 400),
    ("/bulk/cancel", 400),
    ("/schedules/backfill", 404),
    ("/schedules/backfill?schedule=nightly%20report&from=2026-03-08T02:30&to=2026-03-09T00:00", 400),
    ("/tasks?state=gone", 400),
    ("/audit?job=x", 400),
)


@pytest.mark.parametrize("path", PAGES)
def test_a_page(tab: Tab, filled: Filled, path: str) -> None:
    tab.open(path.format_map(dataclasses.asdict(filled)))
    assert tab.findings() == []


@pytest.mark.parametrize(("path", "status"), REFUSED)
def test_a_page_that_refuses(tab: Tab, path: str, status: int) -> None:
    tab.open(path, status)
    assert tab.findings() == []


def test_signing_in(open_tab: OpenTab, site: str) -> None:
    tab = open_tab(site)
    tab.open("/jobs?state=failed")
    assert tab.heading() == "Sign in"
    assert tab.findings() == []


def test_dark_is_dark(tab: Tab) -> None:
    """Else the findings of both modes would be those of one."""
    tab.open("/")
    colors = []
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        colors.append(tab.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    assert colors == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


class TestOtherLedgers:
    """Pages that this process serves."""

    @pytest.mark.parametrize("path", EMPTY)
    def test_an_empty_page(self, open_tab: OpenTab, serve: Serve, sqlite_ledger_url: str, path: str) -> None:
        tab = open_tab(serve(sqlite_ledger_url, lambda _request: EVERYBODY))
        tab.open(path)
        assert tab.findings() == []

    def test_hostile_texts(self, open_tab: OpenTab, serve: Serve, sqlite_ledger_url: str) -> None:
        """No text is a script, an element or an address that is asked for, and none makes a page wider."""
        for ledger in open_ledger(sqlite_ledger_url):
            filled = fill_with_hostile_texts(ledger)
        tab = open_tab(serve(sqlite_ledger_url, lambda _request: EVERYBODY, application=APPLICATION))
        shown, found = set(), []
        for path in PAGES:
            tab.open(path.format_map(dataclasses.asdict(filled)))
            found += [f"{path}: {finding}" for finding in tab.findings()]
            if tab.sees("<script>alert(1)</script>"):
                shown.add(path)
            assert tab.page.locator("img, main script").count() == 0
            assert "\u202e" not in tab.page.locator("body").inner_text()
        assert found == []
        assert {"/", "/jobs", "/failures", "/queues", "/schedules", "/batches", "/tasks", "/audit"} <= shown

    def test_somebody_who_sees_one_organization_and_changes_nothing(
        self, open_tab: OpenTab, serve: Serve, sqlite_ledger_url: str
    ) -> None:
        for ledger in open_ledger(sqlite_ledger_url):
            fill_with_hostile_texts(ledger)
        tab = open_tab(serve(sqlite_ledger_url, lambda _request: ONE.read_only()))
        for path in ("/", "/jobs", "/queues", "/schedules"):
            tab.open(path)
            assert tab.findings() == []
            assert tab.page.locator("main form[method=post]").count() == 0
        tab.open("/cluster", 403)
        assert tab.findings() == []

    @pytest.mark.parametrize("text", ["imports", HOSTILE])
    def test_a_namespace_with_an_operator(
        self, open_tab: OpenTab, serve: Serve, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        state = {
            "limits": {"running": 100},
            "namespaceLimits": {f"queue:{text}": {"value": 3, "source": text}},
            "rates": [{"scope": text, "rate": "5/s", "source": text, "tokens": 4}],
            "paused": [{"scope": text, "source": text, "by": text, "note": text, "since": "2026-11-01T10:00:00Z"}],
            "holds": [{"reason": "ClusterFull", "template": text, "short": text, "since": "2026-11-01T10:00:00Z"}],
            "turns": [text],
            "reasons": {text: 1},
        }
        templates = tuple(template_view(template(name)) for name in ("default", text))
        view = NamespaceView(text, published(operator=text, **state), templates, templates_problem=text)
        waits = SpokeJobWaits((WaitingSpokeJob(1, text, Wait(text, object=text, detail=text), None),), more=True)
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.namespace_in", lambda _namespace: view)
        monkeypatch.setattr("spoke_jobs.web.cluster_reads.waits_in", lambda _namespace: waits)
        tab = open_tab(serve(sqlite_ledger_url, lambda _request: EVERYBODY))
        tab.open("/cluster")
        tab.see(re.compile("What holds attempts back"))
        assert tab.findings() == []
