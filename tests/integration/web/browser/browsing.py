"""Chromium and its tabs, for the tests of several folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.web.browser.tab import Tab
from tests.waiting import patient

from spoke_jobs.web.page_rendering import COOKIE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[4]
SCREENSHOTS = ROOT / "build/browser"
"""What tabs show when a test has failed."""
_FAILED: pytest.StashKey[bool] = pytest.StashKey()
ZONE = "Pacific/Auckland"
"""Where the person at the browser is: far from UTC, in which the server runs."""
OpenTab = Callable[..., Tab]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test has failed. For the conftest of a folder whose tests open tabs."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


def printed_by(*command: str) -> Path:
    """Run a script of this repository; return the path that it prints."""
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(
        [ROOT / "scripts" / command[0], *command[1:]], stdout=subprocess.PIPE, text=True, env=environment, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)} failed: its output is above"
    return Path(done.stdout.strip())


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let packages of another virtual environment be imported, unless this one has them."""
    (packages,) = folder.glob("lib/python*/site-packages")
    sys.path.append(str(packages))
    try:
        yield
    finally:
        sys.path.remove(str(packages))


@contextmanager
def launched() -> Iterator[Browser]:
    """Run the browser until the end of the block."""
    program = printed_by("chromium")
    with importable(printed_by("locked-environment", "browser")):
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program)
            yield browser
            browser.close()


@contextmanager
def tabs(chromium: Browser, axe: Path, test: pytest.Item) -> Iterator[OpenTab]:
    """Open tabs. Nothing may go wrong in them until the end of the block.

    :param test: whose tabs they are.
    """
    opened: list[Tab] = []
    with ExitStack() as stack:

        def open_tab(site: str, *others: str, knows_zone: bool = True, **options: Any) -> Tab:
            context = chromium.new_context(base_url=site, locale="en-NZ", timezone_id=ZONE, **options)
            stack.callback(context.close)
            context.set_default_timeout(patient(30) * 1000)
            if knows_zone:
                context.add_cookies([{"name": COOKIE, "value": ZONE, "url": site}])
            opened.append(Tab(context.new_page(), site, others, axe))
            return opened[-1]

        yield open_tab
        problems = [problem for tab in opened for problem in tab.problems]
        if problems or test.stash.get(_FAILED, False):
            for number, tab in enumerate(opened, 1):
                name = re.sub(r"[^\w.-]+", "-", test.name).strip("-")[:100]
                tab.page.screenshot(path=SCREENSHOTS / f"{name}-{number}.png", full_page=True)
        assert problems == []
