"""`spoke-jobs web` signs people in at the server of zitadel/oidc, a certified OpenID Connect library.

That server knows the client `web` with the secret `secret`, and the user `test-user2`, whose id is `id2`. Its ID tokens
have no names and no groups, but say that people sign in with a password (`amr`). It names itself with a slash at the
end.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from tests import plain_http
from tests.conftest import open_ledger
from tests.ports import free_port
from tests.waiting import eventually, patient

ROOT = Path(__file__).parents[3]
TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


@dataclass(frozen=True)
class Provider:
    """The server, which sends browsers back to one dashboard only."""

    url: str
    dashboard_port: int


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    script = [ROOT / "scripts/go-program", "openid-provider"]
    built = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=False)
    assert built.returncode == 0, "the server of zitadel/oidc could not be built"
    port, dashboard_port = free_port(), free_port()
    callback = f"http://127.0.0.1:{dashboard_port}/sign-in/callback"
    environment = os.environ | {"PORT": str(port), "REDIRECT_URI": callback}
    process = subprocess.Popen([built.stdout.strip()], env=environment, stderr=subprocess.DEVNULL)
    found = Provider(f"http://localhost:{port}/", dashboard_port)
    try:
        eventually(lambda: _answers(f"{found.url}.well-known/openid-configuration"), "the provider answers")
        yield found
    finally:
        process.terminate()
        process.wait(patient(30))


@contextmanager
def dashboard(provider: Provider, ledger_url: str, folder: Path, *options: str) -> Iterator[httpx.Client]:
    """Run the dashboard with these options until the end of the block, and open a browser that follows no redirect."""
    (folder / "secret").write_text("secret")
    (folder / "key").write_text("k" * 40)
    url = f"http://127.0.0.1:{provider.dashboard_port}"
    command = [
        *(sys.executable, "-m", "spoke_jobs", "web", "--port", str(provider.dashboard_port), "--public-url", url),
        *("--oidc-issuer", provider.url, "--oidc-client-id", "web", "--session-key-file", str(folder / "key")),
        *("--oidc-client-secret-file", str(folder / "secret"), *options),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | {"SPOKE_DATABASE_URL": ledger_url}, stderr=log)
    try:
        eventually(lambda: _answers(f"{url}/healthz"), "the dashboard answers")
        with httpx.Client(base_url=url, trust_env=False, timeout=patient(60)) as browser:
            yield browser
    finally:
        process.terminate()
        process.wait(patient(30))
    assert "Traceback" not in (folder / "log").read_text()


def sign_in(browser: httpx.Client, page: str) -> httpx.Response:
    """Ask for a page, sign in at the provider, and come back."""
    form = browser.get(browser.get(page).headers["location"])
    link = re.search(r'class="button" href="([^"]+)"', form.text)
    assert link is not None, form.text
    answer = browser.get(html.unescape(link[1]))
    answer = _followed(browser, answer, ("/login/",))
    entered = {"id": answer.request.url.params["authRequestID"], "username": "test-user2", "password": "verysecure"}
    answer = browser.post(urljoin(str(answer.request.url), "/login/username"), data=entered)
    return _followed(browser, answer, ("/sign-in/callback",))


def _followed(browser: httpx.Client, answer: httpx.Response, until: Sequence[str]) -> httpx.Response:
    """Follow redirects to a path that begins so."""
    for _ in range(5):
        assert answer.is_redirect, answer.text
        url = answer.request.url.join(answer.headers["location"])
        answer = browser.get(url)
        if url.path.startswith(tuple(until)):
            return answer
    raise AssertionError(f"it does not lead to {until}")


def _answers(url: str) -> bool:
    try:
        return plain_http.get(url).status_code == 200
    except httpx.ConnectError:
        return False


def test_somebody_signs_in_and_out(provider: Provider, sqlite_ledger_url: str, tmp_path: Path) -> None:
    for _ in open_ledger(sqlite_ledger_url):
        pass
    with dashboard(provider, sqlite_ledger_url, tmp_path, "--oidc-anyone") as browser:
        answer = sign_in(browser, "/jobs?state=failed")
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed"), answer.text
        page = browser.get("/jobs?state=failed")
        assert page.status_code == 200
        assert "<span>id2</span>" in page.text
        token = TOKEN.search(page.text)
        assert token is not None
        assert browser.post("/sign-out", data={"token": token[1]}).headers["location"] == "/signed-out"
        assert browser.get("/jobs").status_code == 303
        assert f'href="{provider.url}end_session?client_id=web&amp;' in browser.get("/signed-out").text
    assert "id2 has signed in" in (tmp_path / "log").read_text()


def test_a_claim_admits_people(provider: Provider, sqlite_ledger_url: str, tmp_path: Path) -> None:
    for _ in open_ledger(sqlite_ledger_url):
        pass
    options = ("--oidc-group-claim", "amr", "--oidc-read-only-group", "pwd")
    with dashboard(provider, sqlite_ledger_url, tmp_path, *options) as browser:
        sign_in(browser, "/")
        assert "may only look" in browser.get("/").text
