"""A dashboard where people sign in at an OpenID Connect provider."""

from __future__ import annotations

import html
import re
import time

import httpx
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import HOST
from tests.contract.openid_provider import OpenIdProvider

from spoke_jobs.web.oidc_sign_in import OidcSignIn
from spoke_jobs.web.signed_sessions import Session, Signer

PUBLIC = f"https://{HOST}"


class SignInScene:
    """A dashboard, its provider and a browser."""

    def __init__(self, provider: OpenIdProvider, browser: Browser, sign_in: OidcSignIn) -> None:
        self.provider = provider
        self.browser = browser
        self.authorizer = sign_in

    def begin(self, page: str = "/") -> str:
        """Ask for a page, and follow the links to the provider: the address there."""
        asked = self.browser.get(page)
        assert asked.status_code == 303, asked.text
        link = re.search(r'<a class="button" href="([^"]+)"', self.browser.get(asked.headers["location"]).text)
        assert link is not None
        answer = self.browser.get(html.unescape(link[1]))
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def callback(self, page: str = "/") -> str:
        """Sign in at the provider: the address to which it sends the browser back."""
        back = self.provider.sign_in(self.begin(page))
        assert back.startswith(f"{PUBLIC}/sign-in/callback?")
        return back.removeprefix(PUBLIC)

    def sign_in(self, page: str = "/") -> httpx.Response:
        return self.browser.get(self.callback(page))

    @property
    def session(self) -> Session:
        found = Signer(self.authorizer.signing_key()).session(
            self.browser.cookies["__Host-spoke_jobs_session"], time.time()
        )
        assert found is not None
        return found

    def assert_refused(self, answer: httpx.Response, status: int, said: str) -> None:
        """Check that the page says why, shows the way on, and that nobody has signed in."""
        assert answer.status_code == status, answer.text
        assert said in html.unescape(answer.text)
        assert '<a href="/sign' in answer.text
        assert not self.session.signed_in
        assert self.browser.get("/").status_code == 303
