"""Forms as they arrive, and errors as programs get them, where no endpoint of the API answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import Message
from tests.contract.browser import Browser
from tests.contract.dashboard_scene import EVERYBODY, HOST

from spoke_jobs.web import Viewer, app, serve_dashboard
from spoke_jobs.web.api_document import PROBLEM
from spoke_jobs.web.guard import FORM_LIMIT_BYTES, read_form


def form_request(*messages: Message) -> Request:
    """A request whose body arrives so."""
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0)

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_form_arrives_in_parts() -> None:
    assert await read_form(form_request(part(b"a=1&"), part(b"b=", more=False))) == {"a": "1", "b": ""}


async def test_a_form_that_a_browser_has_given_up_is_no_error() -> None:
    """Otherwise anybody could fill the log with tracebacks."""
    assert await read_form(form_request(part(b"a=1&"), {"type": "http.disconnect"})) is None


async def test_a_large_form_is_not_read_to_its_end() -> None:
    assert await read_form(form_request(part(b"a=" + b"x" * FORM_LIMIT_BYTES))) is None


JOBS = "/api/v1/jobs"


def assert_problem(answer: httpx.Response, status: int, detail: str, title: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json() == {"title": title, "status": status, "detail": detail}


def test_a_host_of_another_name(sqlite_ledger_url: str) -> None:
    dashboard = app(authorize=lambda _request: EVERYBODY, hosts=[HOST], database=sqlite_ledger_url)
    said = "The dashboard does not serve this host. Its names are given with --host-name, or as `hosts`."
    with Browser(dashboard, HOST, below=Starlette(routes=[Mount("/ops", dashboard)])) as browser:
        answer = browser.get(f"/ops{JOBS}", headers={"Host": "other.test"})
        assert_problem(answer, 400, said, "Bad Request")
        assert answer.headers["x-content-type-options"] == "nosniff"
        page = browser.get("/ops/jobs", headers={"Host": "other.test"})
        assert (page.headers["content-type"], page.text) == ("text/plain; charset=utf-8", f"{said}\n")


async def test_too_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_dashboard, "_REQUESTS", 0)
    transport = httpx.ASGITransport(app=serve_dashboard._BoundedApp(Starlette()))
    async with httpx.AsyncClient(transport=transport, base_url=f"https://{HOST}") as client:
        said = "Too many requests are in progress."
        assert_problem(await client.get(JOBS), 503, said, "Service Unavailable")
        assert (await client.get("/jobs")).text == f"{said}\n"


@pytest.mark.parametrize(
    ("raised", "title", "detail"),
    [
        (HTTPException(403, "no such tenant"), "Forbidden", "no such tenant"),
        (HTTPException(404, "no such <tenant>"), "Not Found", "no such <tenant>"),
        (HTTPException(499, "went away"), "Error", "went away"),
        (HTTPException(403), "Forbidden", "Forbidden."),
        (HTTPException(404), "Not Found", "There is no such address: /api/v1/openapi.json lists them."),
    ],
)
def test_what_a_function_refuses(sqlite_ledger_url: str, raised: HTTPException, title: str, detail: str) -> None:
    def authorize(_request: Request) -> Viewer | None:
        raise raised

    with Browser(app(authorize=authorize, hosts=[HOST], database=sqlite_ledger_url), HOST) as browser:
        assert_problem(browser.get(JOBS), raised.status_code, detail, title)
        page = browser.get("/jobs")
        assert page.status_code == raised.status_code
        if "address" not in detail:
            assert detail.replace("<", "&lt;").replace(">", "&gt;") in page.text


def test_an_unknown_address_names_the_document_where_it_is(sqlite_ledger_url: str) -> None:
    dashboard = app(authorize=lambda _request: EVERYBODY, hosts=[HOST], database=sqlite_ledger_url)
    site: Any = Starlette(routes=[Mount("/ops", dashboard)])
    with Browser(dashboard, HOST, below=site) as browser:
        answer = browser.get("/ops/api/v1/nothing")
        assert_problem(answer, 404, "There is no such address: /ops/api/v1/openapi.json lists them.", "Not Found")
        assert browser.get(answer.json()["detail"].split()[5]).status_code == 200
