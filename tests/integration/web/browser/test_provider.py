"""Signing in at an OpenID Connect provider on another site: what a browser does with cookies, links and forms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send
from tests.asgi_server import serving
from tests.conftest import open_ledger
from tests.contract.dashboard_scene import EVERYBODY
from tests.contract.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, openid_provider
from tests.integration.web.browser.browsing import OpenTab
from tests.integration.web.browser.tab import Tab

from spoke_jobs.web import app
from spoke_jobs.web.claim_rules import ClaimRules
from spoke_jobs.web.guard import Guard
from spoke_jobs.web.oidc_sign_in import OidcSignIn

pytestmark = pytest.mark.long


class Late:
    """An application that is made when its address is known."""

    dashboard: Guard | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert self.dashboard is not None
            await self.dashboard(scope, receive, send)


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as provider:
        yield provider


@pytest.fixture
def site(provider: OpenIdProvider, sqlite_ledger_url: str) -> Iterator[str]:
    """The dashboard on `localhost`: for browsers, the provider at 127.0.0.1 is another site."""
    for _ in open_ledger(sqlite_ledger_url):
        late = Late()
        with serving(late) as address:
            public = address.replace("127.0.0.1", "localhost")
            sign_in = OidcSignIn(
                issuer=provider.url,
                client_id=CLIENT_ID,
                client_secret=CLIENT_SECRET,
                public_url=public,
                secret="k" * 40,
                rules=ClaimRules(groups=frozenset({"platform"}), read_only_groups=frozenset({"support"})),
                viewer=replace(EVERYBODY, name=""),
            )
            late.dashboard = app(authorize=sign_in, hosts=["localhost"], database=sqlite_ledger_url)
            yield public
            late.dashboard.end_streams()
        late.dashboard.close()


@pytest.fixture
def visitor(site: str, open_tab: OpenTab, provider: OpenIdProvider) -> Tab:
    """The tab of somebody who is yet to sign in."""
    return open_tab(site, provider.url)


def test_people_sign_in_and_out(visitor: Tab, provider: OpenIdProvider) -> None:
    provider.claims["groups"] = ["platform"]
    visitor.open("/jobs?state=failed")
    assert visitor.heading() == "Sign in"
    assert visitor.findings() == []
    visitor.page.get_by_role("link", name="Sign in at").click()
    visitor.page.get_by_role("heading", name="Jobs", exact=True).wait_for()
    assert visitor.path() == "/jobs?state=failed"
    assert visitor.sees("ada@example.com")
    visitor.button("Sign out").click()
    visitor.page.get_by_role("heading", name="Signed out").wait_for()
    assert visitor.findings() == []
    visitor.open("/jobs")
    assert visitor.heading() == "Sign in"


def test_a_link_on_another_site_finds_the_session(visitor: Tab, provider: OpenIdProvider, site: str) -> None:
    """For example, a link in an alert that is read in a browser."""
    provider.claims["groups"] = ["support"]
    visitor.open("/")
    visitor.page.get_by_role("link", name="Sign in at").click()
    visitor.page.get_by_role("heading", name="Overview").wait_for()
    assert visitor.sees("(may only look)")
    provider.answers["/keys"] = lambda: HTMLResponse(f'<a href="{site}/jobs">The jobs</a>')
    visitor.page.goto(f"{provider.url}/keys")
    visitor.link("The jobs").click()
    visitor.page.get_by_role("heading", name="Jobs", exact=True).wait_for()
