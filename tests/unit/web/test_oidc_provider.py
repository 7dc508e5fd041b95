"""What the dashboard asks a provider, over HTTP, and a provider that is away, wrong or has new keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qsl, urlsplit

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse
from tests.contract.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, signing_keys
from tests.unit.web.sign_in_scene import SignInScene

from spoke_jobs.web.claim_rules import ClaimRules
from spoke_jobs.web.oidc_provider import OidcProvider, ProviderFailed, ProviderMetadata, read_metadata


@pytest.mark.parametrize(
    ("known", "scope"),
    [
        (["openid", "email", "groups"], "openid email groups offline"),
        (["openid", "email", "profile"], "openid profile email offline"),
        (None, "openid profile email offline"),
    ],
)
def test_it_asks_for_scopes_that_the_provider_knows(
    scene: Callable[..., SignInScene], provider: OpenIdProvider, known: list[str] | None, scope: str
) -> None:
    provider.metadata["scopes_supported"] = known
    here = scene(ClaimRules(groups=frozenset({"ops"})), scopes=["offline", "email"])
    assert dict(parse_qsl(urlsplit(here.begin()).query))["scope"] == scope


def test_a_secret_that_the_provider_takes_in_the_body_only(
    scene: Callable[..., SignInScene], provider: OpenIdProvider
) -> None:
    provider.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    assert scene().sign_in().status_code == 303


class TestProviderAway:
    @pytest.mark.parametrize(
        ("answer", "logged"),
        [
            (lambda: Response("no", 500), "with no JSON"),
            (lambda: JSONResponse({}, 404), "is this the issuer's URL?"),
            (lambda: JSONResponse({"issuer": "https://evil.test"}), "gives its issuer as 'https://evil.test'"),
            (lambda: Response(b"[" * 300_000), "more than 262144 bytes"),
            (lambda: Response(status_code=302, headers={"location": "https://evil.test"}), "with no JSON"),
        ],
    )
    def test_its_metadata_are_none(
        self,
        scene: Callable[..., SignInScene],
        provider: OpenIdProvider,
        caplog: pytest.LogCaptureFixture,
        answer: Callable[[], Response],
        logged: str,
    ) -> None:
        provider.answers["/.well-known/openid-configuration"] = answer
        here = scene()
        here.assert_refused(here.browser.get("/sign-in/start"), 503, "does not answer as it should")
        assert logged in caplog.text
        here.browser.get("/sign-in/start")
        assert provider.requests == ["/.well-known/openid-configuration"], "a failure is kept for a moment"

    def test_it_hangs(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = scene()
        back = here.callback()
        monkeypatch.setattr(here.authorizer._oidc, "_answer_seconds", 0.2)
        provider.hangs.add("/token")
        here.assert_refused(here.browser.get(back), 503, "does not answer as it should")

    def test_it_answers_without_an_end(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each part comes in time, and the whole answer does not."""

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" "
                await asyncio.sleep(0.1)
            yield b'{"error": "invalid_grant"}'

        here = scene()
        back = here.callback()
        monkeypatch.setattr(here.authorizer._oidc, "_answer_seconds", 0.3)
        provider.answers["/token"] = lambda: StreamingResponse(parts(), 400)
        here.assert_refused(here.browser.get(back), 503, "does not answer as it should")

    def test_nobody_listens(self, scene: Callable[..., SignInScene], caplog: pytest.LogCaptureFixture) -> None:
        here = scene(issuer="http://127.0.0.1:1")
        here.assert_refused(here.browser.get("/sign-in/start"), 503, "does not answer as it should")
        assert "127.0.0.1:1 can't be reached" in caplog.text
        assert "Sign in at 127.0.0.1:1" in here.browser.get("/sign-in").text

    @pytest.mark.parametrize(
        ("status", "body", "expected", "said"),
        [
            (401, {"error": "invalid_client"}, 502, "refuses the dashboard itself (invalid_client)"),
            (400, {"error": "invalid_grant"}, 400, "opened twice"),
            (500, {}, 503, "does not answer as it should"),
            (200, {"access_token": "x"}, 503, "does not answer as it should"),
        ],
    )
    def test_it_gives_no_token(
        self,
        scene: Callable[..., SignInScene],
        provider: OpenIdProvider,
        status: int,
        body: dict[str, str],
        expected: int,
        said: str,
    ) -> None:
        provider.answers["/token"] = lambda: JSONResponse(body, status)
        here = scene()
        here.assert_refused(here.sign_in(), expected, said)

    def test_a_wrong_secret(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider, caplog: pytest.LogCaptureFixture
    ) -> None:
        here = scene(client_secret="a wrong secret")
        here.assert_refused(here.sign_in(), 502, "refuses the dashboard itself")
        assert "a wrong secret" not in caplog.text

    def test_it_has_no_keys(self, scene: Callable[..., SignInScene], provider: OpenIdProvider) -> None:
        provider.answers["/keys"] = lambda: JSONResponse({"keys": "none"})
        here = scene()
        here.assert_refused(here.sign_in(), 403, "is not valid")

    def test_too_many_sign_in_at_once(self, scene: Callable[..., SignInScene], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spoke_jobs.web.oidc_sign_in._MOST_AT_ONCE", 0)
        here = scene()
        here.assert_refused(here.sign_in(), 503, "Too many people")
        monkeypatch.setattr("spoke_jobs.web.oidc_sign_in._MOST_AT_ONCE", 1)
        assert here.browser.get("/sign-in/callback?state=x").status_code == 400
        assert here.sign_in().status_code == 303, "the others have ended"


class TestNewKeys:
    def test_they_are_read_when_an_unknown_one_has_signed(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider
    ) -> None:
        here = scene()
        provider.keys = [signing_keys()[1]]
        here.authorizer._oidc._keys._clock = lambda: 1000.0
        assert here.sign_in().status_code == 403
        provider.keys = [signing_keys()[0]]
        assert here.sign_in().status_code == 403, "they were read a moment ago"
        here.authorizer._oidc._keys._clock = lambda: 1006.0
        assert here.sign_in().status_code == 303

    def test_they_are_kept(self, scene: Callable[..., SignInScene], provider: OpenIdProvider) -> None:
        here = scene()
        for _ in range(3):
            here.browser.cookies.clear()
            here.sign_in()
        assert provider.requests.count("/keys") == 1
        assert provider.requests.count("/.well-known/openid-configuration") == 1

    def test_removed_ones_are_not_trusted_for_long(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider
    ) -> None:
        here = scene()
        here.sign_in()
        provider.keys = [signing_keys()[1]]
        here.browser.cookies.clear()
        here.authorizer._oidc._keys._clock = lambda: time.monotonic() + 3601
        assert here.sign_in().status_code == 403


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8080/", "the issuer's URL with https://"),
        ("http://sso.example.com/", "only for services on the same machine"),
        ("https://sso.example.com/" + "x" * 100_000, "it is not a URL"),
        ("https://[v1.x]/", "it is not a URL"),
    ],
)
def test_a_provider_elsewhere_names_no_service_of_this_machine(name: str, url: str, said: str) -> None:
    """What reaches the dashboard's pod alone may trust whoever reaches it."""
    good = dict.fromkeys(("authorization_endpoint", "token_endpoint", "jwks_uri"), "https://sso.example.com/x")
    assert read_metadata(good, local=False).jwks_uri == good["jwks_uri"]
    with pytest.raises(ProviderFailed, match=f"{name} of the provider can't be used: .*{said}"):
        read_metadata({**good, name: url}, local=False)
    assert read_metadata({**good, "end_session_endpoint": url}, local=False).end_session_endpoint == ""


def test_a_provider_on_this_machine_is_known_by_its_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def metadata(issuer: str, endpoint: str) -> ProviderMetadata:
        async def answer(*_: object) -> tuple[int, dict[str, str]]:
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            return 200, {"issuer": issuer, **dict.fromkeys(names, endpoint)}

        monkeypatch.setattr(OidcProvider, "_answer", answer)
        return await OidcProvider(issuer, CLIENT_ID, CLIENT_SECRET).metadata()

    here = "http://127.0.0.1:5556"
    assert asyncio.run(metadata(here, f"{here}/x")).jwks_uri == f"{here}/x"
    with pytest.raises(ProviderFailed, match="the issuer's URL with https://"):
        asyncio.run(metadata("https://sso.example.com", f"{here}/x"))
