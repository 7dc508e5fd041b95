"""The pictures of the dashboard, docs/pictures/dashboard*.png, taken by Chromium from a ledger of an invented shop."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import update
from tests.conftest import open_ledger
from tests.contract.dashboard_schedules import APPLICATION
from tests.contract.ledger import claim_one, new_job
from tests.integration.web.browser.conftest import importable, printed_by
from tests.integration.web.browser.filled_ledger import LONG_LEASE, Filled, fill
from tests.integration.web.dashboard_process import serving

from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parents[2] / "docs/pictures"
_ENDED = 120
"""Jobs of the last hour, so that the charts show one."""


def main() -> None:
    """Take the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/shop.sqlite3"
        for ledger in open_ledger(url):
            migrate(ledger.engine)
            last_hour(ledger)
            filled = fill(ledger)
        with serving(url, "--payloads", SPOKE_APP=APPLICATION, KUBECONFIG=f"{folder}/none") as served:
            take(served.url, filled)


def last_hour(ledger: SqlLedger) -> None:
    """Write jobs that ended in the last hour."""
    now = datetime.now(UTC)
    for number in range(_ENDED):
        job = ledger.insert(new_job(job_type="send_message"))
        claim = claim_one(ledger, "legacy", ["send_message"], "worker-7f9c:12", LONG_LEASE)
        assert claim is not None
        ledger.succeed(None, claim.token, None)
        ended = now - timedelta(minutes=59 * (1 + math.sin(number * number)) / 2)
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).where(job_request.c.id == job.id).values(finished_at=ended))
            connection.execute(update(job_attempt).where(job_attempt.c.job_id == job.id).values(finished_at=ended))


def take(site: str, filled: Filled) -> None:
    """Take a picture of each page, one of them with a dark screen, and one on a phone."""
    pages = {
        "dashboard": "/",
        "dashboard-jobs": "/jobs?state=waiting",
        "dashboard-job": f"/jobs/{filled.failed}",
        "dashboard-failures": "/failures",
        "dashboard-queues": "/queues",
        "dashboard-schedules": "/schedules",
        "dashboard-batches": "/batches",
        "dashboard-tasks": "/tasks",
        "dashboard-audit": "/audit",
    }
    with browser_page(site, width=1200, height=800) as page:
        for name, path in pages.items():
            page.goto(path)
            page.screenshot(path=FOLDER / f"{name}.png", full_page=path != pages["dashboard-jobs"])
        page.emulate_media(color_scheme="dark")
        page.goto("/")
        page.screenshot(path=FOLDER / "dashboard-dark.png")
    with browser_page(site, width=390, height=844) as page:
        page.goto(pages["dashboard-job"])
        page.screenshot(path=FOLDER / "dashboard-phone.png")


@contextmanager
def browser_page(site: str, *, width: int, height: int) -> Iterator[Page]:
    """Open a page in a browser."""
    program = printed_by("chromium")
    with importable(printed_by("locked-environment", "browser")):
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program)
            yield browser.new_page(base_url=site, viewport={"width": width, "height": height}, locale="en-GB")
            browser.close()


if __name__ == "__main__":
    main()
