"""The pictures of the dashboard, docs/pictures/dashboard*.png, taken by Chromium from a ledger of an invented shop, and
the page that shows them, docs/pictures/README.md. Each page is taken on a light and a dark screen and on a phone."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from unittest.mock import patch

from sqlalchemy import update
from tests.asgi_server import serving
from tests.conftest import open_ledger
from tests.contract.dashboard_scene import EVERYBODY
from tests.contract.dashboard_schedules import APPLICATION
from tests.contract.filled_ledger import LONG_LEASE, Filled, fill
from tests.contract.ledger import claim_one, new_job
from tests.integration.web.browser.browsing import launched
from tests.unit.web.test_cluster_page import published, template

from spoke_jobs.cluster.cluster_view import SpokeJobWaits, WaitingSpokeJob
from spoke_jobs.cluster.namespace_view import NamespaceView, template_view
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.web import app

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parents[2] / "docs/pictures"
_ENDED = 120
"""Jobs of the last hour, so that the charts show one."""
PAGES = {
    "": ("Overview", "/"),
    "-jobs": ("Jobs", "/jobs?state=waiting"),
    "-job": ("Job", "/jobs/{failed}"),
    "-preview": ("Preview of a change of many jobs", "/bulk/retry?state=failed"),
    "-failures": ("Failures", "/failures"),
    "-queues": ("Queues and limits", "/queues"),
    "-schedules": ("Schedules", "/schedules"),
    "-backfill": ("Backfill", "/schedules/backfill?schedule={schedule}&from=2026-03-01T00:00&to=2026-03-20T00:00"),
    "-batches": ("Batches", "/batches"),
    "-tasks": ("Tasks", "/tasks"),
    "-task": ("Task", "/tasks/{task}"),
    "-cluster": ("Cluster", "/cluster"),
    "-audit": ("Audit", "/audit"),
}
"""The pages: the names of their pictures, what they are called, and their addresses with fields of :class:`Filled`."""


class Screen(NamedTuple):
    """A screen on which pages are taken."""

    text: str
    dark: bool
    width: int
    height: int
    whole: bool
    """Whether the picture shows what is below the edge of the screen, too."""


SCREENS = {
    "": Screen("on a light screen", dark=False, width=1200, height=800, whole=True),
    "-dark": Screen("on a dark screen", dark=True, width=1200, height=800, whole=False),
    "-phone": Screen("on a phone", dark=False, width=390, height=844, whole=False),
}
"""By the end of the pictures' names."""
_LONG = frozenset({"-jobs", "-audit"})
"""Pages that are taken as far as the screen shows them."""


def main() -> None:
    """Take the pictures."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        url = f"sqlite:///{folder}/shop.sqlite3"
        for ledger in open_ledger(url):
            migrate(ledger.engine)
            last_hour(ledger)
            filled = fill(ledger)
        stack.enter_context(a_cluster(filled))
        shown = app(
            authorize=lambda _request: EVERYBODY,
            hosts=["127.0.0.1"],
            database=url,
            application=APPLICATION,
            secure_cookies=False,
        )
        site = stack.enter_context(serving(shown))
        stack.callback(shown.end_streams)  # the server waits for open connections
        take(site, filled)
    (FOLDER / "README.md").write_text(gallery())


@contextmanager
def a_cluster(filled: Filled) -> Iterator[None]:
    """Make up what pages read of the shop's namespace."""
    since = f"{datetime.now(UTC) - timedelta(minutes=14):%Y-%m-%dT%H:%M:%SZ}"
    state = published(
        operator="spoke-operator-7d9c5b-x2k4q",
        limits={"running": 100},
        namespaceLimits={
            "all": {"value": 20, "source": "SpokeLimit shop"},
            "queue:warehouse": {"value": 3, "source": "SpokeLimit warehouse"},
        },
        rates=[{"scope": "type:send_message", "rate": "5/s", "source": "SpokeLimit messages", "tokens": 4}],
        paused=[
            {
                "scope": "queue:mail",
                "source": "SpokeLimit mail",
                "by": "grace",
                "since": since,
                "note": "the mail provider is down",
            }
        ],
        running={"all": 31, "namespace": 12},
        queues={"warehouse": 3},
        waiting=7,
        starting=2,
        holds=[{"reason": "ClusterFull", "template": "large", "short": "memory", "since": since}],
        turns=[f"sync-inventory-{number}-0a1b2c3d" for number in range(4812, 4819)],
    )
    full = Wait(WaitReason.CLUSTER_FULL, object="memory")
    waiting = tuple(
        WaitingSpokeJob(number, "", full, datetime.now(UTC) - timedelta(minutes=14), job_type="sync_inventory")
        for number in range(filled.waiting, filled.waiting + 5)
    )
    templates = tuple(template_view(template(name)) for name in ("default", "large"))
    view = NamespaceView("shop", state, templates)
    with (
        patch("spoke_jobs.web.cluster_reads.namespace_in", lambda _namespace: view),
        patch(
            "spoke_jobs.web.cluster_reads.waits_in",
            lambda _namespace: SpokeJobWaits(waiting, nodes=(("worker-1", 7), ("worker-2", 5))),
        ),
    ):
        yield


def last_hour(ledger: SqlLedger) -> None:
    """Write jobs that ended in the last hour."""
    now = datetime.now(UTC)
    for number in range(_ENDED):
        job = ledger.insert(new_job(job_type="send_message"))
        claim = claim_one(ledger, "legacy", ["send_message"], "worker-7f9c:12", LONG_LEASE)
        assert claim is not None
        ledger.succeed(None, claim.token, None)
        ended = now - timedelta(minutes=59 * (1 + math.sin(number * number)) / 2)
        started = ended - timedelta(seconds=4 + number % 17)
        due = started - timedelta(seconds=1 + number % 7)
        times = {"created_at": due, "started_at": started, "finished_at": ended}
        of_attempt = {"due_at": due, "finished_at": ended}
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).where(job_request.c.id == job.id).values(**times))
            connection.execute(update(job_attempt).where(job_attempt.c.job_id == job.id).values(**of_attempt))


def take(site: str, filled: Filled) -> None:
    """Take a picture of each page on each screen."""
    for end, screen in SCREENS.items():
        with browser_page(site, screen) as page:
            for name, (_, path) in PAGES.items():
                page.goto(path.format_map(asdict(filled)))
                page.screenshot(path=FOLDER / f"dashboard{name}{end}.png", full_page=screen.whole and name not in _LONG)


@contextmanager
def browser_page(site: str, screen: Screen) -> Iterator[Page]:
    """Open a page in a browser."""
    scheme: Literal["dark", "light"] = "dark" if screen.dark else "light"
    with launched() as browser:
        yield browser.new_page(
            base_url=site,
            viewport={"width": screen.width, "height": screen.height},
            color_scheme=scheme,
            locale="en-GB",
        )


def gallery() -> str:
    """Return the page that shows the pictures there are."""
    return "\n".join(
        [
            "<!-- written by scripts/pictures/draw dashboard -->",
            "# Pictures of the dashboard",
            "",
            "Each page of the [dashboard](../how-to/dashboard.md), on a light and a dark screen and on a phone, with",
            "the jobs of an invented shop. `make pictures` takes them.",
            *(text for name, (title, _) in PAGES.items() for text in _shown(name, title)),
            "",
        ]
    )


def _shown(name: str, title: str) -> Iterable[str]:
    yield from ("", f"## {title}", "")
    for end, screen in SCREENS.items():
        file = f"dashboard{name}{end}.png"
        if (FOLDER / file).exists():
            yield f"![{title}, {screen.text}]({file})"


if __name__ == "__main__":
    main()
