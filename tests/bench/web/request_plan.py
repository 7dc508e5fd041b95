"""The addresses that are asked for: each page, each filter alone, usual pairs, patterns, and pages far from the newest.

Pure. For each filter there are values that many jobs have, that few old ones have, and that none has: the last two are
the worst cases of a search that reads jobs from the newest one down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from tests.bench.web.figures import ALL, FILTER, ONE, PAGE, SMALL
from tests.bench.web.fill import ORGANIZATION_AT, RARE_ACTOR
from tests.bench.web.layout import (
    RARE_CAUSE,
    RARE_FINGERPRINT,
    RARE_QUEUE,
    RARE_TYPE,
    RUNNING,
    SMALL_ORGANIZATION,
    TASKS,
    Lane,
    Layout,
    runs_in_pods,
)

from spoke_jobs.web.job_search import address, encoded

VIEWERS: Mapping[str, int | None] = {ALL: None, ONE: 2_500, SMALL: SMALL_ORGANIZATION}
"""The organizations of the viewers; None: all."""
NOT_ASKED: Mapping[str, str] = {
    "/changes": "live updates are a part of their own",
    "/sign-in": "there is none on this machine alone",
    "/sign-in/start": "there is none on this machine alone",
    "/sign-in/callback": "there is none on this machine alone",
    "/signed-out": "there is none on this machine alone",
    "/healthz": "it reads nothing",
    "/api/v1/openapi.json": "it reads nothing",
}
"""Routes that are left out, and why."""


@dataclass(frozen=True, slots=True)
class Address:
    """A page or a filter that is asked for."""

    viewer: str
    kind: str
    route: str
    """The dashboard's route that answers."""
    name: str
    """What people call it."""
    path: str
    status: int = 200
    """That of its answer."""

    @property
    def key(self) -> str:
        """Identify it among all."""
        return f"{self.viewer} {self.path}"


def plan(layout: Layout) -> tuple[Address, ...]:
    """Return all addresses."""
    return tuple(
        chain(
            _pages(layout),
            _job_filters(layout),
            _other_filters(),
            *(_of_some_organization(layout, viewer) for viewer in (ONE, SMALL)),
            *(_api(layout, viewer) for viewer in (ALL, ONE)),
        )
    )


def _page(route: str, name: str, path: str | None = None, viewer: str = ALL) -> Address:
    return Address(viewer, PAGE, route, name, route if path is None else path)


def _filter(route: str, name: str, viewer: str = ALL, /, **query: object) -> Address:
    return Address(viewer, FILTER, route, name, address(route, **query))


def _pages(layout: Layout) -> Iterator[Address]:
    yield _page("/", "Overview")
    yield from _longer_overviews(ALL)
    yield _page("/jobs", "Jobs")
    for part in (2, 50):
        before = layout.history // part
        yield _page("/jobs", f"Jobs before {before:,}", address("/jobs", before=before))
    yield _page("/jobs", "Jobs after the middle one", address("/jobs", after=layout.history // 2))
    for name, job_id in _jobs(layout).items():
        yield _page("/jobs/{job_id}", f"Job, {name}", f"/jobs/{job_id}")
        if name in ("finished", "running"):
            yield _page("/jobs/{job_id}/output", f"Output, {name}", f"/jobs/{job_id}/output")
    for within in ("1h", "1d", "7d", "30d"):
        yield _page("/failures", f"Failures of {within}", address("/failures", within=within))
    yield _page("/queues", "Queues and limits")
    yield _page("/schedules", "Schedules")
    yield _page("/schedules", "Schedules, the last ones", address("/schedules", after=encoded("schedule-0899")))
    preview = {"schedule": encoded("schedule-0003"), "from": "2026-01-01", "to": "2026-01-03"}
    yield _page("/schedules/backfill", "Backfill, two days", address("/schedules/backfill", **preview))
    yield _page("/batches", "Batches")
    oldest = layout.batch_of(layout.first_batched) + 60
    yield _page("/batches", "Batches, the oldest ones", address("/batches", before=oldest))
    yield _page("/tasks", "Tasks")
    yield _page("/tasks", "Tasks, the oldest ones", address("/tasks", before=100))
    yield _page("/tasks/{task_id}", "Task, failed", "/tasks/8")
    yield _page("/cluster", "Cluster")
    yield _page("/audit", "Audit")
    yield _page("/audit", "Audit, the oldest events", address("/audit", before=100))
    yield _page("/bulk/cancel", "Cancel all waiting jobs", address("/bulk/cancel", state="waiting"))
    yield _page("/bulk/cancel", "Cancel all of an area", address("/bulk/cancel", type="mail.*"))
    yield _page("/bulk/retry", "Retry all failed jobs", address("/bulk/retry", state="failed"))
    yield _page("/bulk/retry", "Retry all of an area", address("/bulk/retry", type="mail.*"))
    yield _page("/bulk/retry", "Retry all of a cause", address("/bulk/retry", cause="JobError"))
    yield _page("/static/{name}", "Style sheet", "/static/dashboard.css")


def _longer_overviews(viewer: str) -> Iterator[Address]:
    for within in ("1d", "7d"):
        yield _page("/", f"Overview, charts of {within}", address("/", within=within), viewer)


def _jobs(layout: Layout) -> dict[str, int]:
    """Return the ids of jobs that the page Job shows, by what they are."""

    def of_worker(numbers: Iterable[int]) -> int:
        ids = (layout.recent_id(Lane.WAITING, number) for number in numbers)
        return next(job_id for job_id in ids if not runs_in_pods(job_id))

    return {
        "finished": layout.history,
        "the oldest": 1,
        "waiting, the first": of_worker(range(layout.waiting)),
        "waiting, the last": of_worker(reversed(range(layout.waiting))),
        "running": layout.recent_id(Lane.RUNNING, RUNNING - 1),
        "blocked": layout.recent_id(Lane.BLOCKED, 0),
    }


VALUES: Mapping[str, Mapping[str, object]] = {
    "state": {name: name for name in ("blocked", "waiting", "running", "succeeded", "failed")},
    "type": {
        "many": "mail.task0",
        "some": "mail.task504",
        "few, old": RARE_TYPE,
        "none": "mail.tusk0",
        "pattern, many": "mail.*",
        "pattern, few": "retired.*",
        "pattern, from its end": "*.task777",
        "pattern, none": "*tusk*",
    },
    "queue": {"many": "queue5", "few, old": RARE_QUEUE, "none": "quoue5", "pattern": "queue1*"},
    "organization": {"many": 1, "some": VIEWERS[ONE], "few, old": SMALL_ORGANIZATION, "none": 999_999},
    "cause": {"many": "JobError", "some": "WorkerLost", "few, old": RARE_CAUSE, "none": "NodeLost"},
    "key": {"one": "order:13", "none": "order:none"},
    "fingerprint": {
        "many": "ValueError@shop.orders.step0",
        "few, old": RARE_FINGERPRINT,
        "none": "KeyError@shop.orders.step0",
    },
    "batch": {"none": 1},
    "lane": {"many": "pod", "none among many pods": "standby", "none": "worker"},
    "schedule": {"many": "schedule-0003", "none": "no schedule"},
    "since": {"many": "2000-01-01T00:00Z", "none": "2100-01-01T00:00Z"},
    "until": {"many": "2100-01-01T00:00Z", "none": "2000-01-01T00:00Z"},
}
"""By filter of the page Jobs, a value for each case. `batch` and `id` have more, which depend on the number of rows."""
PAIRS: tuple[Mapping[str, object], ...] = (
    {"state": "failed", "type": "mail.task0"},
    {"state": "failed", "type": RARE_TYPE},
    {"state": "waiting", "type": "mail.task504"},
    {"state": "running", "type": "mail.*"},
    {"state": "succeeded", "type": RARE_TYPE},
    {"state": "failed", "cause": "JobError"},
    {"state": "failed", "cause": RARE_CAUSE},
    {"state": "failed", "organization": VIEWERS[ONE]},
    {"state": "waiting", "organization": VIEWERS[ONE]},
    {"state": "waiting", "queue": "queue5"},
    {"state": "waiting", "lane": "standby"},
    {"state": "failed", "queue": RARE_QUEUE},
    {"type": "mail.task0", "organization": VIEWERS[ONE]},
    {"type": "mail.task0", "cause": "JobError"},
    {"cause": "JobError", "fingerprint": "ValueError@shop.orders.step0"},
    {"cause": "JobError", "fingerprint": RARE_FINGERPRINT},
    {"organization": VIEWERS[ONE], "queue": "queue5"},
)
"""What people look for together."""


def _job_filters(layout: Layout) -> Iterator[Address]:
    for name, values in _values(layout).items():
        for case, value in values.items():
            shown = str(value) if name == "state" else case
            yield _filter("/jobs", f"{name}: {shown}", **{name: value})
    yield Address(ALL, FILTER, "/jobs", "id", address("/jobs", id=layout.history), 303)
    for pair in PAIRS:
        yield _filter("/jobs", ", ".join(f"{name}={value}" for name, value in pair.items()), **pair)
    before = layout.history // 2
    for far in ({"state": "failed"}, {"type": "mail.task0"}, {"cause": "JobError"}, {"organization": VIEWERS[ONE]}):
        (name,) = far
        yield _filter("/jobs", f"{name}={far[name]} before {before:,}", **far, before=before)


def _values(layout: Layout) -> dict[str, Mapping[str, object]]:
    last = layout.batch_of(layout.history) - 1
    return {**VALUES, "batch": {"some": last, **VALUES["batch"]}}


def _other_filters() -> Iterator[Address]:
    for state in ("due", "later", "claimed", "failed"):
        yield _filter("/tasks", f"Tasks, state: {state}", state=state)
    for case, name in {"many": "deliver.task0", "none": "deliver.tusk0", "pattern": "*task4*"}.items():
        yield _filter("/tasks", f"Tasks, name: {case}", name=name)
    for case, cause in {"many": "TaskError", "none": "UnknownTask"}.items():
        yield _filter("/tasks", f"Tasks, cause: {case}", cause=cause)
    yield _filter("/tasks", "Tasks, failed, before the middle one", state="failed", before=TASKS // 2)
    for case, action in {"many": "retry", "none": "close batch"}.items():
        yield _filter("/audit", f"Audit, action: {case}", action=action)
    for case, by in {"many": "user0@example.com", "few, old": RARE_ACTOR, "pattern, none": "nobody@*"}.items():
        yield _filter("/audit", f"Audit, by: {case}", by=by)
    for case, job_type in {"many": "mail.task0", "none": "mail.tusk0", "pattern": "mail.*"}.items():
        yield _filter("/audit", f"Audit, type: {case}", type=job_type)
    yield _filter("/audit", "Audit, job", job=13)
    for case, name in {"many": "nightly*", "few": "nightly of customer 17", "none": "weekly*"}.items():
        yield _filter("/batches", f"Batches, name: {case}", name=name)


def _api(layout: Layout, viewer: str) -> Iterator[Address]:
    """The JSON API reads what the pages read. Its lists may be longer."""
    api = "/api/v1"
    yield _page(f"{api}/jobs", "API: jobs", address(f"{api}/jobs", limit=100), viewer)
    pattern = {"type": "mail.*", "limit": 100}
    yield _page(f"{api}/jobs", "API: jobs of an area", address(f"{api}/jobs", **pattern), viewer)
    if viewer == ALL:
        for name, job_id in _jobs(layout).items():
            yield _page(f"{api}/jobs/{{job_id}}", f"API: job, {name}", f"{api}/jobs/{job_id}")
            yield _page(f"{api}/jobs/{{job_id}}/why", f"API: why, {name}", f"{api}/jobs/{job_id}/why")
        batch = layout.batch_of(layout.first_batched)
        yield _page(f"{api}/batches/{{batch_id}}", "API: batch", f"{api}/batches/{batch}")
        for name in ("limits", "mutes"):
            yield _page(f"{api}/{name}", f"API: {name}", viewer=viewer)
    for name in ("why", "failures"):
        for within in ("1d", "30d"):
            path = address(f"{api}/{name}", within=within)
            yield _page(f"{api}/{name}", f"API: {name} within {within}", path, viewer)
    for name in ("schedules", "batches", "events"):
        yield _page(f"{api}/{name}", f"API: {name}", address(f"{api}/{name}", limit=100), viewer)
    dispatched = {"since": "2026-01-01T00:00Z", "until": "2026-01-02T00:00Z"}
    for name in ("batches", "events"):
        yield _page(f"{api}/{name}", f"API: {name} of a day", address(f"{api}/{name}", **dispatched), viewer)


def _of_some_organization(layout: Layout, viewer: str) -> Iterator[Address]:
    """The pages and filters of somebody who sees the jobs of one organization."""
    yield _page("/", "Overview", viewer=viewer)
    yield from _longer_overviews(viewer)
    yield _page("/jobs", "Jobs", viewer=viewer)
    before = layout.history // 2
    yield _page("/jobs", f"Jobs before {before:,}", address("/jobs", before=before), viewer)
    if viewer == SMALL:
        yield _page("/jobs/{job_id}", "Job, finished", f"/jobs/{layout.rare_id(ORGANIZATION_AT)}", viewer)
    for within in ("1d", "30d"):
        yield _page("/failures", f"Failures of {within}", address("/failures", within=within), viewer)
    yield _page("/queues", "Queues and limits", viewer=viewer)
    yield _page("/schedules", "Schedules", viewer=viewer)
    yield _page("/batches", "Batches", viewer=viewer)
    yield _page("/audit", "Audit", viewer=viewer)
    yield _page("/bulk/cancel", "Cancel all of a type", address("/bulk/cancel", type="*"), viewer)
    yield _page("/bulk/retry", "Retry all of a type", address("/bulk/retry", type="*"), viewer)
    for name, case in (
        *(("state", state) for state in VALUES["state"]),
        *(("type", "many"), ("type", "few, old"), ("type", "pattern, many")),
        *(("queue", "many"), ("cause", "many"), ("cause", "none"), ("fingerprint", "many"), ("key", "one")),
    ):
        value = VALUES[name][case]
        shown = str(value) if name == "state" else case
        yield _filter("/jobs", f"{name}: {shown}", viewer, **{name: value})
    yield _filter("/audit", "Audit, action: many", viewer, action="retry")
