"""`spoke-jobs web` starts only once somebody has decided who may look."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import TOKEN, token_in
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.contract.progress import KEY, report
from tests.unit.cli.conftest import Run, ledger, run

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.web import serve_dashboard
from spoke_jobs.web.guard import Guard
from spoke_jobs.web.serve_dashboard import WithProgress

__all__ = ["ledger", "run"]
Served = list[tuple[Guard | WithProgress, str, int]]
OIDC = [
    *("--oidc-issuer", "https://sso.test", "--oidc-client-id", "dashboard", "--oidc-client-secret-file", "FILE"),
    *("--session-key-file", "FILE", "--public-url", "https://jobs.test"),
]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """What the command would serve, and where."""
    found: Served = []
    monkeypatch.setattr(serve_dashboard, "serve", lambda app, host, port: found.append((app, host, port)))
    yield found
    for app, *_ in found:
        app.close()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return str(file)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "decide who may look"),
        (["--read-only"], "decide who may look"),
        (["--insecure-local", "--token-file", "FILE"], "decide who may look"),
        (["--trusted-proxy", "10.0.0.0/8"], "need each other"),
        (["--insecure-local", "--user-header", "X-User"], "need each other"),
        (["--trusted-proxy", "10.0.0.0.0", "--user-header", "X-User"], "is no address and no range"),
        (["--insecure-local", "--host", "0.0.0.0"], "needs a loopback address"),
        (["--insecure-local", "--host", "192.0.2.7"], "needs a loopback address"),
        (["--token-file", "FILE", "--host", "0.0.0.0"], "--host-name is missing"),
        (["--token-file", "FILE", "--session-key-file", "FILE"], "the token signs sessions"),
        (["--insecure-local", "--organization", "99999999999"], "is not a whole number"),
        (["--insecure-local", "--progress-origin", "https://app.test"], "are for --progress"),
        (["--insecure-local", "--progress-messages"], "are for --progress"),
        (["--insecure-local", "--session-key-file", "FILE"], "is for --trusted-proxy and --oidc-issuer"),
        (["--insecure-local", "--oidc-group", "ops"], "--oidc-group is for --oidc-issuer"),
        (["--token-file", "FILE", "--oidc-anyone"], "--oidc-anyone is for --oidc-issuer"),
        (["--token-file", "FILE", "--public-url", "https://jobs.test"], "--public-url is for --oidc-issuer"),
        ([*OIDC, "--oidc-anyone", "--token-file", "FILE"], "decide who may look"),
        (["--oidc-issuer", "https://sso.test"], "needs --oidc-client-id, --oidc-client-secret-file, --public-url, --s"),
        (OIDC, "decide who may look: --oidc-group NAME"),
        ([*OIDC, "--oidc-anyone", "--oidc-group", "ops"], "decide who may look: --oidc-group NAME"),
        ([*OIDC[:-1], "http://jobs.test", "--oidc-anyone"], "--public-url can't be used: it begins with http://"),
        ([*OIDC[:-1], "https://jobs.test/ops", "--oidc-anyone"], "--public-url has a path"),
    ],
)
def test_what_is_not_decided(run: Run, served: Served, token_file: str, arguments: list[str], said: str) -> None:
    result = run("web", *(token_file if each == "FILE" else each for each in arguments), code=2)
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert served == []


def test_an_identity_provider_says_who_it_is(run: Run, served: Served, token_file: str) -> None:
    arguments = [token_file if each == "FILE" else each for each in OIDC]
    run("web", *arguments, "--oidc-group", "ops", "--host", "0.0.0.0", "--oidc-user-claim", "upn")
    ((app, host, _),) = served
    assert host == "0.0.0.0"
    with Browser(app, "jobs.test") as browser:
        answer = browser.get("/jobs")
        assert answer.headers["location"] == "/sign-in?next=%2Fjobs"
        assert "secure" in answer.headers["set-cookie"].lower()
        assert "Sign in at sso.test" in browser.get("/sign-in").text
        assert browser.get("/", headers={"Host": "127.0.0.1:8081"}).status_code == 400


def test_what_an_identity_provider_needs(run: Run, served: Served, token_file: str, tmp_path: Path) -> None:
    arguments = [*(token_file if each == "FILE" else each for each in OIDC), "--oidc-anyone"]
    said = run("web", *arguments, "--oidc-client-secret-file", tmp_path / "none", code=1).stderr
    assert "--oidc-client-secret-file" in said
    said = run("web", *arguments, "--oidc-issuer", "http://sso.test", code=1).stderr
    assert "the issuer's URL can't be used: it begins with http://" in " ".join(said.split())
    assert served == []


def test_a_short_token_and_a_file_that_is_not_there(run: Run, served: Served, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short")
    assert "fewer than 32 characters" in run("web", "--token-file", tmp_path / "token", code=1).stderr
    assert "No such file" in run("web", "--token-file", tmp_path / "none", code=1).stderr
    assert served == []


def test_without_a_ledger_it_does_not_start(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOKE_DATABASE_URL", f"sqlite:///{tmp_path}/none.sqlite3")
    assert "spoke-jobs migrate" in run("web", "--insecure-local", code=1).stderr
    assert served == []


def test_a_missing_package_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_jinja(name: str, *rest: Any, **more: Any) -> Any:
        if name == "spoke_jobs.web":
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_jinja)
    assert "pip install 'spoke-jobs[web]'" in run("web", "--insecure-local", code=1).stderr


def test_the_missing_package_of_openid_connect_is_named(
    run: Run, token_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)
    for name in ("oidc_sign_in", "oidc_provider", "id_tokens"):
        monkeypatch.delitem(sys.modules, f"spoke_jobs.web.{name}", raising=False)
    arguments = [token_file if each == "FILE" else each for each in OIDC]
    assert "pip install 'spoke-jobs[web,oidc]'" in run("web", *arguments, "--oidc-anyone", code=1).stderr


def test_on_a_laptop_it_is_open_to_this_machine(run: Run, served: Served, ledger: SqlLedger) -> None:
    job = ledger.insert(new_job())
    run("web", "--insecure-local")
    ((app, host, port),) = served
    assert (host, port) == ("127.0.0.1", 8081)
    with Browser(app, "localhost:8081", scheme="http", peer="127.0.0.1") as browser:
        page = browser.get(f"/jobs/{job.id}")
        assert "local user" in page.text
        assert "secure" not in page.headers["set-cookie"].lower(), "some browsers keep no such cookie without TLS"
        assert browser.post(f"/jobs/{job.id}/cancel", data={"token": token_in(page)}).status_code == 303
        assert browser.get("/", headers={"Host": "rebound.test"}).status_code == 400


def test_the_options_narrow_what_is_shown(run: Run, served: Served, ledger: SqlLedger, token_file: str) -> None:
    for organization, name in ((1, "first"), (2, "second"), (3, "third")):
        ledger.insert(new_job(job_type=name, organization_id=organization, payload='"the payload"'))
    options = ("--organization", 1, "--organization", 2, "--read-only", "--host", "0.0.0.0", "--host-name", "jobs.test")
    run("web", "--token-file", token_file, *options)
    run("web", "--token-file", token_file, "--payloads", "--hide-output")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with Browser(served[0][0], "jobs.test") as browser:
        listed = browser.get("/jobs", headers=headers).text
        assert ("first" in listed, "second" in listed, "third" in listed) == (True, True, False)
        page = browser.get("/jobs/1", headers=headers).text
        assert "the payload" not in page
        assert "Cancel" not in page
    with Browser(served[1][0], "127.0.0.1:8081") as browser:
        page = browser.get("/jobs/3", headers=headers).text
        assert "the payload" in page
        assert "Cancel" in page


def test_a_proxy_names_who_it_is(run: Run, served: Served, token_file: str) -> None:
    proxy = ("--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "fd00::/8", "--user-header", "X-User")
    run("web", *proxy, "--host-name", "jobs.test", "--session-key-file", token_file)
    run("web", *proxy, "--host-name", "jobs.test", "--session-key-file", token_file)
    (one, *_), (other, *_) = served
    with Browser(one, "jobs.test", peer="10.0.0.1") as first, Browser(other, "jobs.test", peer="10.0.0.1") as second:
        assert "grace" in first.get("/", headers={"X-User": "grace"}).text
        second.cookies.update(first.cookies)
        answer = second.get("/", headers={"X-User": "grace"})
        assert "set-cookie" not in answer.headers, "a replica with the same key knows the session"


def test_progress_needs_a_token_and_no_sign_in(
    run: Run, served: Served, ledger: SqlLedger, token_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOKE_PROGRESS_KEY", KEY)
    job = ledger.insert(new_job())
    claim = claim_one(ledger, "legacy", ["report"], "w", LEASE)
    assert claim is not None
    report(ledger, claim, 40, "a text")
    options = ("--progress", "--progress-origin", "https://app.test", "--progress-messages")
    run("web", "--token-file", token_file, *options)
    run("web", "--token-file", token_file)
    path = f"/progress/{job.progress_token()}"
    with Browser(served[0][0], "127.0.0.1:8081") as browser:
        answer = browser.get(path, headers={"Origin": "https://app.test"})
        assert answer.json() == {"state": "running", "percent": 40, "message": "a text", "ended": False}
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
        assert "access-control-allow-origin" not in browser.get(path, headers={"Origin": "https://evil.test"}).headers
        assert browser.get("/progress/progress.js").status_code == 200
        assert browser.get("/progress/nonsense").status_code == 404
        for each in ("/", "/jobs", f"/jobs/{job.id}"):
            assert browser.get(each).headers["location"].startswith("/sign-in"), "all else needs a sign-in"
        for each in ("/progress", "/progressive", "/progressive/x"):
            assert "There is no such page" in browser.get(each).text, "the dashboard answers"
    with Browser(served[1][0], "127.0.0.1:8081") as browser:
        assert browser.get(path).status_code == 404, "it is off by default"


def test_progress_without_a_key_is_not_served(run: Run, served: Served, ledger: SqlLedger) -> None:
    assert "SPOKE_PROGRESS_KEY is not set" in run("web", "--insecure-local", "--progress", code=1).stderr
    assert served == []
