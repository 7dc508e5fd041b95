"""People sign in at an OpenID Connect provider, over HTTP, and are refused for each reason that there is."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import EVERYBODY, HOST, TOKEN, token_in
from tests.contract.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from tests.unit.web.sign_in_scene import PUBLIC, SignInScene

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import SecretFile
from spoke_jobs.web import ReadOnly, app
from spoke_jobs.web.claim_rules import ClaimRules
from spoke_jobs.web.signed_sessions import LASTING_SECONDS as SESSION_SECONDS
from spoke_jobs.web.signed_sessions import Session, Signer


def test_somebody_signs_in_and_gets_the_page_that_they_asked_for(scene: Callable[..., SignInScene]) -> None:
    here = scene()
    page = "/jobs?type=a%2Fb%5C*&state=failed"
    here.browser.get("/")
    before = here.browser.cookies["__Host-spoke_jobs_session"]
    answer = here.sign_in(page)
    assert answer.status_code == 303
    assert answer.headers["location"] == page
    cookie = answer.headers["set-cookie"].lower()
    for word in ("secure", "httponly", "samesite=lax", "path=/", f"max-age={SESSION_SECONDS}"):
        assert word in cookie
    assert here.session.id != before.partition(".")[0], "a new id"
    shown = here.browser.get(page)
    assert shown.status_code == 200
    assert "ada@example.com" in shown.text


def test_it_asks_the_provider_as_the_code_flow_says(scene: Callable[..., SignInScene]) -> None:
    here = scene()
    address = here.begin()
    asked = dict(parse_qsl(urlsplit(address).query))
    assert asked["redirect_uri"] == f"{PUBLIC}/sign-in/callback"
    assert asked["scope"] == "openid profile email"
    assert len(asked["nonce"]) == 64
    assert len(asked["code_challenge"]) == 43
    other = dict(parse_qsl(urlsplit(here.begin()).query))
    for name in ("state", "nonce", "code_challenge"):
        assert asked[name] != other[name], "each attempt has its own"
    assert "verifier" not in address


def test_two_tabs_may_sign_in_at_the_same_time(scene: Callable[..., SignInScene]) -> None:
    here = scene()
    first, second = here.callback("/jobs"), here.callback("/audit")
    assert here.browser.get(first).headers["location"] == "/audit"
    assert here.browser.get(second).headers["location"] == "/", "who has signed in needs no other session"
    assert here.browser.get("/").status_code == 200


@pytest.mark.parametrize("wanted", ["//evil.test", "/\\evil.test", "https://evil.test/", "/\n/evil.test", "/../x"])
def test_it_leads_to_no_other_site(scene: Callable[..., SignInScene], provider: OpenIdProvider, wanted: str) -> None:
    here = scene()
    query = urlencode({"next": wanted})
    assert "next=" not in here.browser.get(f"/sign-in?{query}").text
    address = here.browser.get(f"/sign-in/start?{query}").headers["location"]
    assert address.startswith(f"{provider.url}/auth?")
    answer = here.browser.get(provider.sign_in(address).removeprefix(PUBLIC))
    assert answer.headers["location"] == "/"


def test_replicas_share_what_they_need(scene: Callable[..., SignInScene]) -> None:
    one, other = scene(), scene()
    back = one.callback("/jobs")
    other.browser.cookies.update(one.browser.cookies)
    assert other.browser.get(back).headers["location"] == "/jobs"
    one.browser.cookies.update(other.browser.cookies)
    assert "ada@example.com" in one.browser.get("/").text


class TestGroups:
    rules = ClaimRules(groups=frozenset({"ops", "dev"}), read_only_groups=frozenset({"support"}))

    @pytest.mark.parametrize("groups", [["x", "ops"], "dev", ["support", "dev"]])
    def test_members_may_act(self, scene: Callable[..., SignInScene], provider: OpenIdProvider, groups: object) -> None:
        provider.claims["groups"] = groups
        here = scene(self.rules)
        assert here.sign_in().status_code == 303
        assert "may only look" not in here.browser.get("/").text

    def test_members_of_others_may_only_look(self, scene: Callable[..., SignInScene], provider: OpenIdProvider) -> None:
        provider.claims["groups"] = ["support"]
        here = scene(self.rules)
        assert here.sign_in().status_code == 303
        assert "may only look" in here.browser.get("/").text

    @pytest.mark.parametrize("groups", [None, ["Ops"]])  # tests/unit/web/test_claim_rules.py has the others
    def test_nobody_else_may_look(
        self,
        scene: Callable[..., SignInScene],
        provider: OpenIdProvider,
        groups: object,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        provider.claims["groups"] = groups
        here = scene(self.rules)
        here.assert_refused(here.sign_in(), 403, "signed you in as ada@example.com, who may not look")
        assert "ada@example.com is in none of the groups" in caplog.text
        other = here.browser.get("/signed-out").text
        assert f"{provider.url}/end?" in html.unescape(other), "the way to another account"

    def test_other_rules_end_sessions(self, scene: Callable[..., SignInScene], provider: OpenIdProvider) -> None:
        provider.claims["groups"] = ["dev"]
        here = scene(self.rules)
        here.sign_in()
        stricter = scene(replace(self.rules, groups=frozenset({"ops"})))
        stricter.browser.cookies.update(here.browser.cookies)
        assert stricter.browser.get("/").status_code == 303


class TestTokens:
    """ID tokens that are refused. tests/unit/web/test_id_tokens.py has the other reasons."""

    @pytest.mark.parametrize(
        "claims",
        [{"iss": "https://evil.test"}, {"aud": "another"}, {"nonce": "0" * 64}],
        ids=str,
    )
    def test_one_with_wrong_claims(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider, claims: dict[str, Any]
    ) -> None:
        provider.claims |= claims
        here = scene()
        here.assert_refused(here.sign_in(), 403, "is not valid")


class TestAnswers:
    """Browsers that come back with something else."""

    def test_a_state_of_nobody(self, scene: Callable[..., SignInScene], provider: OpenIdProvider) -> None:
        here = scene()
        code = dict(parse_qsl(urlsplit(here.callback()).query))["code"]
        provider.requests.clear()
        for state in ("", "x", "0" * 32 + ".1." + "0" * 64):
            answer = here.browser.get(f"/sign-in/callback?{urlencode({'code': code, 'state': state})}")
            here.assert_refused(answer, 400, "This sign-in has ended")
        assert provider.requests == [], "the code was not used"

    def test_the_state_of_another_session(self, scene: Callable[..., SignInScene], provider: OpenIdProvider) -> None:
        """Somebody's own answer, sent to others as a link, would sign them in as that one."""
        eve, ada = scene(), scene()
        link = eve.callback()
        ada.begin()
        provider.requests.clear()
        ada.assert_refused(ada.browser.get(link), 400, "This sign-in has ended")
        assert provider.requests == []

    def test_an_answer_that_comes_twice(self, scene: Callable[..., SignInScene], provider: OpenIdProvider) -> None:
        here = scene()
        back = here.callback()
        anonymous = here.browser.cookies["__Host-spoke_jobs_session"]
        assert here.browser.get(back).status_code == 303
        provider.requests.clear()
        again = here.browser.get(back)
        assert (again.status_code, again.headers["location"]) == (303, "/")
        assert provider.requests == []
        here.browser.cookies.clear()
        here.browser.cookies.set("__Host-spoke_jobs_session", anonymous)
        here.assert_refused(here.browser.get(back), 400, "its address was opened twice")

    def test_a_code_of_another_attempt(self, scene: Callable[..., SignInScene]) -> None:
        """A code that was stolen is of no use: the verifier is another one."""
        here = scene()
        codes = [dict(parse_qsl(urlsplit(here.callback()).query)) for _ in range(2)]
        answer = here.browser.get(
            f"/sign-in/callback?{urlencode({'code': codes[0]['code'], 'state': codes[1]['state']})}"
        )
        here.assert_refused(answer, 400, "This sign-in has ended")

    @pytest.mark.parametrize(
        ("callback", "status", "said"),
        [
            ({"error": "access_denied", "code": None}, 403, "you or its rules refused"),
            ({"error": "server_error", "error_description": "<b>\x1b", "code": None}, 502, "(server_error)"),
            ({"error": "<script>alert(1)</script>", "code": None}, 502, "could not sign you in."),
            ({"code": None}, 400, "sent no code"),
            ({"code": "x" * 4097}, 400, "sent no code"),
            ({"iss": "https://evil.test"}, 400, "is not one of"),
        ],
    )
    def test_errors_of_the_provider(
        self,
        scene: Callable[..., SignInScene],
        provider: OpenIdProvider,
        caplog: pytest.LogCaptureFixture,
        callback: dict[str, Any],
        status: int,
        said: str,
    ) -> None:
        provider.callback = callback
        here = scene()
        answer = here.sign_in()
        here.assert_refused(answer, status, said)
        assert "<script" not in answer.text
        assert "\x1b" not in caplog.text

    def test_a_provider_that_promises_to_name_itself(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider
    ) -> None:
        provider.metadata["authorization_response_iss_parameter_supported"] = True
        here = scene()
        here.assert_refused(here.sign_in(), 400, "is not one of")
        provider.callback = {"iss": provider.url}
        assert here.sign_in().status_code == 303

    def test_who_only_looks_at_the_link_does_not_use_it_up(self, scene: Callable[..., SignInScene]) -> None:
        here = scene()
        back = here.callback()
        assert here.browser.request("HEAD", back).status_code == 405
        assert here.browser.get(back).status_code == 303


class TestSessions:
    def test_they_end_with_the_key(self, scene: Callable[..., SignInScene], tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text(TOKEN)
        here = scene(secret=SecretFile(str(file)))
        here.sign_in()
        assert here.browser.get("/").status_code == 200
        file.write_text("short")
        forged = Session.begin(time.time(), signed_in=True, name="eve")
        here.browser.cookies.clear()
        here.browser.cookies.set("__Host-spoke_jobs_session", Signer(here.authorizer.signing_key()).cookie(forged))
        assert here.browser.get("/").status_code == 303

    def test_they_end_after_twelve_hours(self, scene: Callable[..., SignInScene]) -> None:
        here = scene()
        signer = Signer(here.authorizer.signing_key())
        for age, status in ((SESSION_SECONDS - 60, 200), (SESSION_SECONDS, 303)):
            here.browser.cookies.clear()
            old = Session.begin(time.time() - age, signed_in=True, name="ada")
            here.browser.cookies.set("__Host-spoke_jobs_session", signer.cookie(old))
            assert here.browser.get("/").status_code == status

    def test_no_other_way_leads_in(self, scene: Callable[..., SignInScene]) -> None:
        here = scene()
        form = {"token": "x", "secret": TOKEN}
        assert here.browser.post("/sign-in", data=form).status_code == 403
        here.browser.get("/sign-in")
        form["token"] = Signer(here.authorizer.signing_key()).form_token(here.session, "")
        assert here.browser.post("/sign-in", data=form).status_code != 303
        assert here.browser.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 401
        assert here.browser.get("/").status_code == 303

    def test_signing_out(self, scene: Callable[..., SignInScene], provider: OpenIdProvider) -> None:
        here = scene()
        here.sign_in()
        assert here.browser.get("/signed-out").headers["location"] == "/", "nobody has"
        page = here.browser.get("/")
        assert here.browser.post("/sign-out", data={"token": "x"}).status_code == 403
        answer = here.browser.post("/sign-out", data={"token": token_in(page)})
        assert answer.headers["location"] == "/signed-out"
        assert here.browser.get("/").status_code == 303
        left = html.unescape(here.browser.get("/signed-out").text)
        back = urlencode({"client_id": CLIENT_ID, "post_logout_redirect_uri": f"{PUBLIC}/sign-in"})
        assert f'href="{provider.url}/end?{back}"' in left

    @pytest.mark.parametrize("end", [None, "javascript:alert(1)", "http://evil.test/", 7])
    def test_a_provider_without_a_page_for_signing_out(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider, end: object
    ) -> None:
        provider.metadata["end_session_endpoint"] = end
        text = scene().browser.get("/signed-out").text
        assert "too</a>" not in text
        assert "evil" not in text

    def test_read_only_still_signs_in(
        self, scene: Callable[..., SignInScene], provider: OpenIdProvider, shared_sqlite_ledger_url: str
    ) -> None:
        here = scene()
        dashboard = app(authorize=ReadOnly(here.authorizer), hosts=[HOST], database=shared_sqlite_ledger_url)
        with Browser(dashboard, HOST) as browser:
            looking = SignInScene(provider, browser, here.authorizer)
            assert looking.sign_in().status_code == 303
            assert "may only look" in browser.get("/").text


def test_it_works_below_a_path(
    scene: Callable[..., SignInScene], provider: OpenIdProvider, shared_sqlite_ledger_url: str
) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    authorizer = scene(public_url=f"{PUBLIC}/ops/").authorizer
    dashboard = app(authorize=authorizer, hosts=[HOST], database=shared_sqlite_ledger_url)
    site = Starlette(routes=[Mount("/ops", dashboard)])
    with Browser(dashboard, HOST, below=site) as browser:
        assert browser.get("/ops/jobs").headers["location"] == "/ops/sign-in?next=%2Fjobs"
        assert 'href="/ops/sign-in/start?next=%2Fjobs"' in browser.get("/ops/sign-in?next=%2Fjobs").text
        back = provider.sign_in(browser.get("/ops/sign-in/start?next=%2Fjobs").headers["location"])
        assert back.startswith(f"{PUBLIC}/ops/sign-in/callback?")
        assert browser.get(back.removeprefix(PUBLIC)).headers["location"] == "/ops/jobs"
        assert list(browser.cookies) == ["spoke_jobs_session"], "the prefix is for cookies of all paths"


@pytest.mark.parametrize("path", ["/sign-in/start", "/sign-in/callback", "/signed-out"])
def test_other_ways_have_no_such_pages(shared_sqlite_ledger_url: str, path: str) -> None:
    dashboard = app(authorize=lambda _request: EVERYBODY, hosts=[HOST], database=shared_sqlite_ledger_url)
    with Browser(dashboard, HOST) as browser:
        assert browser.get(path).status_code == 404


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": "http://sso.example.com"}, "only for services on the same machine"),
        ({"issuer": "sso.example.com"}, "does not begin with https://"),
        ({"issuer": "https://sso.example.com?x"}, "a query or a fragment"),
        ({"issuer": "https://dashboard:secret@sso.example.com"}, "it has a user name"),
        ({"public_url": "http://jobs.example.com"}, "only for services on the same machine"),
        ({"public_url": "https://jobs.example.com#x"}, "a query or a fragment"),
        ({"secret": ""}, "a key for sessions is missing"),
        ({"secret": "x" * 31}, "fewer than 32 characters"),
        ({"ca_file": "/none"}, "name a PEM file"),
    ],
)
def test_what_cannot_be_used(scene: Callable[..., SignInScene], changes: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        scene(**changes)


def test_the_log_names_who_signs_in_and_no_secret(
    scene: Callable[..., SignInScene], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    here = scene()
    back = here.callback()
    here.browser.get(back)
    assert "ada@example.com has signed in" in caplog.text
    ours = "\n".join(each.getMessage() for each in caplog.records if each.name.startswith("spoke_jobs"))
    assert dict(parse_qsl(urlsplit(back).query))["code"] not in ours
    assert CLIENT_SECRET not in ours
