"""The built-in ways to say who looks at the dashboard."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.requests import Request
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import EVERYBODY, HOST, TOKEN, token_in

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import SecretFile
from spoke_jobs.web import Authorizer, LocalOnly, ReadOnly, TokenSignIn, TrustedProxy, Viewer, app
from spoke_jobs.web.signed_sessions import Session, Signer, session_key

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
Admit = Callable[..., Browser]


@pytest.fixture
def admit(sqlite_ledger_url: str) -> Iterator[Admit]:
    """Opens the dashboard for whom this authorizer admits, from this address."""
    with ExitStack() as stack:

        def admit(authorizer: Authorizer, peer: str) -> Browser:
            dashboard = app(authorize=authorizer, hosts=[HOST], database=sqlite_ledger_url)
            return stack.enter_context(Browser(dashboard, HOST, peer=peer))

        yield admit


@pytest.mark.parametrize("hosts", [[], ["*"]])
def test_hosts_have_to_be_named(sqlite_ledger_url: str, hosts: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="name the hosts"):
        app(authorize=lambda _request: EVERYBODY, hosts=hosts, database=sqlite_ledger_url)


def test_a_viewer_sees_and_does_nothing_by_default() -> None:
    viewer = Viewer(name="eve")
    assert viewer.organizations == frozenset()
    assert viewer.actions == frozenset()
    assert not viewer.may_see_payloads


def test_a_function_may_be_a_coroutine_function(sqlite_ledger_url: str) -> None:
    async def authorize(request: Request) -> Viewer | None:
        return EVERYBODY if request.headers.get("x-key") == "k" else None

    with Browser(app(authorize=authorize, hosts=[HOST], database=sqlite_ledger_url), HOST) as browser:
        assert browser.get("/").status_code == 401
        assert browser.get("/", headers={"X-Key": "k"}).status_code == 200


class TestTrustedProxy:
    authorizer = TrustedProxy(PROXIES, "X-Forwarded-User", EVERYBODY)

    @pytest.mark.parametrize("peer", ["10.1.2.3", "fd00::7", "::ffff:10.1.2.3"])
    def test_who_it_names_is_admitted(self, admit: Admit, peer: str) -> None:
        page = admit(self.authorizer, peer).get("/", headers={"X-Forwarded-User": "grace"})
        assert page.status_code == 200
        assert "grace" in page.text

    @pytest.mark.parametrize("peer", ["11.0.0.1", "127.0.0.1", "2001:db8::1", "unix"])
    def test_another_peer_may_not_name_anybody(self, admit: Admit, peer: str) -> None:
        browser = admit(self.authorizer, peer)
        headers = {"X-Forwarded-User": "grace", "X-Forwarded-For": "10.1.2.3"}
        assert browser.get("/", headers=headers).status_code == 401

    @pytest.mark.parametrize("name", [b"", b"  ", b"a\x1bb", b"x" * 201, "a\u00adb".encode("latin-1")])
    def test_a_name_that_is_none(self, admit: Admit, name: bytes) -> None:
        assert admit(self.authorizer, "10.1.2.3").get("/", headers={b"X-Forwarded-User": name}).status_code == 401

    def test_two_names_are_none(self, admit: Admit) -> None:
        headers = [("X-Forwarded-User", "eve"), ("X-Forwarded-User", "grace")]
        assert admit(self.authorizer, "10.1.2.3").get("/", headers=headers).status_code == 401
        assert admit(self.authorizer, "10.1.2.3").get("/").status_code == 401

    def test_without_an_address_it_trusts_nobody(self) -> None:
        with pytest.raises(ConfigurationError, match="no proxy is trusted"):
            TrustedProxy([], "X-Forwarded-User", EVERYBODY)

    def test_there_is_nothing_to_sign_in_to(self, admit: Admit) -> None:
        browser = admit(self.authorizer, "10.1.2.3")
        assert browser.get("/sign-in").status_code == 404
        assert browser.post("/sign-in", data={"secret": ""}).status_code == 403


class TestLocalOnly:
    @pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1"])
    def test_this_machine_is_admitted(self, admit: Admit, peer: str) -> None:
        assert admit(LocalOnly(EVERYBODY), peer).get("/").status_code == 200

    def test_other_machines_are_refused(self, admit: Admit) -> None:
        assert admit(LocalOnly(EVERYBODY), "192.0.2.7").get("/").status_code == 401

    @pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP"])
    def test_who_comes_through_a_proxy_on_this_machine_is_refused(self, admit: Admit, header: str) -> None:
        assert admit(LocalOnly(EVERYBODY), "127.0.0.1").get("/", headers={header: "192.0.2.7"}).status_code == 401


class TestTokenSignIn:
    @pytest.mark.parametrize("token", ["", "x" * 31])
    def test_a_short_token_is_refused(self, token: str) -> None:
        with pytest.raises(ConfigurationError, match="fewer than 32 characters"):
            TokenSignIn(token, EVERYBODY)

    def test_a_short_key_of_sessions_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="fewer than 32 characters"):
            TrustedProxy(PROXIES, "X-User", EVERYBODY, "x" * 31)

    def test_a_new_token_ends_sessions(self, admit: Admit, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(TOKEN)
        browser = admit(TokenSignIn(SecretFile(str(file)), EVERYBODY), "192.0.2.7")
        form = {"token": token_in(browser.get("/sign-in")), "secret": TOKEN}
        assert browser.post("/sign-in", data=form).status_code == 303
        assert browser.get("/").status_code == 200
        file.write_text("u" * 40)
        assert browser.get("/").headers["location"] == "/sign-in"

    def test_a_file_that_becomes_short_admits_nobody(self, admit: Admit, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(TOKEN)
        browser = admit(TokenSignIn(SecretFile(str(file)), EVERYBODY), "192.0.2.7")
        file.write_text("short")
        assert browser.get("/", headers={"Authorization": "Bearer short"}).status_code == 401
        forged = Signer(session_key("short")).cookie(Session.begin(time.time(), signed_in=True))
        browser.cookies.set("__Host-spoke_jobs_session", forged)
        assert browser.get("/").headers["location"] == "/sign-in"

    def test_read_only_still_signs_in(self, admit: Admit) -> None:
        browser = admit(ReadOnly(TokenSignIn(TOKEN, EVERYBODY)), "192.0.2.7")
        form = {"token": token_in(browser.get("/sign-in")), "secret": TOKEN}
        assert browser.post("/sign-in", data=form).status_code == 303
        assert "may only look" in browser.get("/").text
