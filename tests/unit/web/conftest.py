"""An OpenID Connect provider, and dashboards where people sign in at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import EVERYBODY, HOST, TOKEN
from tests.contract.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, openid_provider
from tests.unit.web.sign_in_scene import PUBLIC, SignInScene

from spoke_jobs.web import app
from spoke_jobs.web.claim_rules import ClaimRules
from spoke_jobs.web.oidc_sign_in import OidcSignIn

ANYONE = ClaimRules(anyone=True)


@pytest.fixture(scope="module")
def _served() -> Iterator[OpenIdProvider]:
    with openid_provider() as provider:
        yield provider


@pytest.fixture
def provider(_served: OpenIdProvider) -> OpenIdProvider:
    """The provider, as if it were new."""
    url = _served.url
    _served.__init__()  # type: ignore[misc]
    _served.url = url
    return _served


@pytest.fixture
def scene(provider: OpenIdProvider, shared_sqlite_ledger_url: str) -> Iterator[Callable[..., SignInScene]]:
    """Opens a dashboard with these rules, and a browser."""
    with ExitStack() as stack:

        def scene(rules: ClaimRules = ANYONE, **changes: Any) -> SignInScene:
            authorizer = OidcSignIn(
                **{
                    "issuer": provider.url,
                    "client_id": CLIENT_ID,
                    "client_secret": CLIENT_SECRET,
                    "public_url": PUBLIC,
                    "secret": TOKEN,
                    "rules": rules,
                    "viewer": EVERYBODY,
                    **changes,
                }
            )
            dashboard = app(authorize=authorizer, hosts=[HOST], database=shared_sqlite_ledger_url)
            return SignInScene(provider, stack.enter_context(Browser(dashboard, HOST)), authorizer)

        yield scene


@pytest.fixture
def ledger_url(sqlite_ledger_url: str) -> str:
    """The database of suites that run on others, too."""
    return sqlite_ledger_url
