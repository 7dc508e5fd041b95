"""Chromium, the process of the dashboard that all tests share, and tabs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from tests.asgi_server import serving as serving_app
from tests.conftest import open_ledger
from tests.contract.dashboard_scene import TOKEN
from tests.contract.dashboard_schedules import APPLICATION
from tests.contract.filled_ledger import Filled, fill
from tests.contract.progress import KEY
from tests.integration.web.browser.browsing import (
    OpenTab,
    launched,
    printed_by,
    pytest_runtest_makereport,  # noqa: F401 (pytest looks for it here)
    tabs,
)
from tests.integration.web.browser.tab import Tab
from tests.integration.web.dashboard_process import serving

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.web import app
from spoke_jobs.web.authorizers import Authorize

if TYPE_CHECKING:
    from playwright.sync_api import Browser, StorageState


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser. Not for the whole session: meanwhile, no test of this process can run an event loop."""
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def axe() -> Path:
    """The file of axe-core."""
    return printed_by("npm-package", "axe-core") / "axe.min.js"


@pytest.fixture(scope="package")
def ledger(_migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLedger]:
    """The ledger that the process shows. Each test has jobs of a type of its own."""
    file = tmp_path_factory.mktemp("browser") / "jobs.sqlite3"
    shutil.copyfile(_migrated_file, file)
    yield from open_ledger(f"sqlite:///{file}")


@pytest.fixture(scope="package")
def filled(ledger: SqlLedger) -> Filled:
    """What the ledger has from the beginning."""
    return fill(ledger)


@dataclass
class Embedding:
    """A page of an application, on a server of its own, that shows the progress of a job."""

    url: str
    html: str = ""
    policy: str = ""


@pytest.fixture(scope="package")
def embedding() -> Iterator[Embedding]:
    """Serves what a test has put into it."""

    async def page(_request: Request) -> Response:
        return HTMLResponse(embedding.html, headers={"Content-Security-Policy": embedding.policy})

    embedding = Embedding("")
    with serving_app(Starlette(routes=[Route("/", page)])) as url:
        embedding.url = url
        yield embedding


@pytest.fixture(scope="package")
def site(
    ledger: SqlLedger, filled: Filled, embedding: Embedding, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The origin of `spoke-jobs web`, where people sign in with a token."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "token").write_text(TOKEN)
    url = ledger.engine.url.render_as_string(hide_password=False)
    progress = ("--progress", "--progress-messages", "--progress-origin", embedding.url)
    own = {name: "" for name in os.environ if name.startswith("SPOKE_") and not name.startswith("SPOKE_TEST_")}
    environment = {"SPOKE_APP": APPLICATION, "SPOKE_PROGRESS_KEY": KEY, "KUBECONFIG": str(folder / "none")}
    access = ("--token-file", str(folder / "token"))
    with serving(url, "--payloads", *progress, access=access, **(own | environment)) as served:
        yield served.url


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves the dashboard on another ledger or to another viewer, in this process."""
    with ExitStack() as stack:

        def serve(url: str, authorize: Authorize, **options: Any) -> str:
            dashboard = app(authorize=authorize, hosts=["127.0.0.1"], database=url, secure_cookies=False, **options)
            address = stack.enter_context(serving_app(dashboard))
            stack.callback(dashboard.end_streams)  # the server waits for open connections
            return address

        yield serve


@pytest.fixture
def open_tab(chromium: Browser, axe: Path, serve: Serve, request: pytest.FixtureRequest) -> Iterator[OpenTab]:
    """Opens tabs. Nothing may go wrong in them until the end of the test."""
    with tabs(chromium, axe, request.node) as open_tab:
        yield open_tab


@pytest.fixture(scope="package")
def session(chromium: Browser, site: str) -> StorageState:
    """The cookies of somebody who has signed in."""
    context = chromium.new_context(base_url=site)
    page = context.new_page()
    page.goto("/sign-in")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def tab(open_tab: OpenTab, site: str, session: StorageState) -> Tab:
    """A tab in which somebody has signed in."""
    return open_tab(site, storage_state=session)
