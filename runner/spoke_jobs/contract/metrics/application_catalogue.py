"""The metrics of an application's processes: of sync, of workers and of the task server."""

from __future__ import annotations

from spoke_jobs.contract.limit_scopes import EACH_FORMS
from spoke_jobs.contract.metrics.metric_spec import (
    Label,
    MetricSource,
    MetricSpec,
    counter,
    gauge,
    histogram,
    traced_histogram,
)

MOST_TYPES = 50
"""How many types have values of their own in the labels of one process."""
MOST_COMBINATIONS = 50
"""How many combinations of type and queue, and how many types beyond them."""
MOST_SCOPES = 50
"""How many limits and how many pauses of the ledger have values of their own."""
_MEBI = 2**20
_SECONDS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
_BYTES = tuple(float(_MEBI * size) for size in (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384))
_RATIO = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.0, 4.0)
_WAITS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_LAGS = (0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
_TASKS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_KIND = Label("kind", "the actions of sync")
_WORKERS = Label("workers", "the sets of workers of the chart's `workers`")
_USED = (
    Label("type", f"the first {MOST_TYPES} types whose attempts ended; `other` for the rest"),
    Label("lane", "`pod`, `worker`"),
)
_OF_ATTEMPTS = (
    Label("type", f"those of the first {MOST_COMBINATIONS} combinations with `queue`, and as many more; then `other`"),
    Label("queue", f"the first {MOST_COMBINATIONS} combinations with `type`; `other` for the rest"),
    Label("lane", "`pod` of sync, `worker` of workers; empty under `legacy`, which has no lanes"),
)
_ORGANIZATION = Label(
    "organization",
    "the first `SPOKE_METRICS_ORGANIZATIONS`; `other` for the rest, `none` for jobs of no organization",
)
_BY = Label("by", "who paused the scope: one for each scope")
_SCOPE = Label("scope", f"as `spoke-jobs limits ls` shows them, at most {MOST_SCOPES}")


def _schedules(process: MetricSource) -> tuple[MetricSpec, ...]:
    """Return the metrics of schedules, which each process reports that dispatches their jobs."""
    return (
        gauge(
            f"spoke_{process}_schedules",
            "Schedules of the runner, by state.",
            Label("state", "`active`, `paused`, `orphaned`, `late`, `failing`, `over`"),
        ),
        gauge(
            f"spoke_{process}_oldest_due_schedule_seconds",
            "Seconds for which the oldest due schedule has been due, of those that are neither paused nor orphaned.",
        ),
        histogram(
            f"spoke_{process}_schedule_lag_seconds",
            "Seconds from a schedule's due time to the dispatch of its job by this process.",
            _LAGS,
        ),
    )


def _attempts(process: MetricSource, waited: str) -> tuple[MetricSpec, ...]:
    """Return the metrics of ended attempts.

    :param waited: what the first attempt of a job has waited for, from when to when.
    """
    return (
        traced_histogram(f"spoke_{process}_job_wait_seconds", f"Seconds {waited}.", _WAITS, *_OF_ATTEMPTS),
        traced_histogram(
            f"spoke_{process}_attempt_run_seconds", "Seconds for which an attempt ran.", _SECONDS, *_OF_ATTEMPTS
        ),
        counter(
            f"spoke_{process}_attempts_failed", "Attempts that failed, also if another one follows.", *_OF_ATTEMPTS
        ),
        counter(
            f"spoke_{process}_organization_attempts",
            "Ended attempts by organization; only with `SPOKE_METRICS_ORGANIZATIONS`.",
            _ORGANIZATION,
            Label("outcome", "`succeeded`, `failed`"),
        ),
        counter(
            f"spoke_{process}_organization_run_seconds",
            "Seconds for which attempts ran, by organization; only with `SPOKE_METRICS_ORGANIZATIONS`.",
            _ORGANIZATION,
        ),
    )


def _database(process: MetricSource, whose: str) -> tuple[MetricSpec, ...]:
    """Return the metrics of a pool of connections."""
    return (
        gauge(
            f"spoke_{process}_database_connections",
            f"Connections to the database in the pool of {whose}, by whether they are in use.",
            Label("state", "`used`, `idle`"),
        ),
        gauge(f"spoke_{process}_database_connections_limit", "The most connections that this pool opens."),
    )


SYNC = (
    gauge("spoke_sync_active", "1 while this sync is the active one."),
    gauge("spoke_sync_seconds_since_turn", "Seconds since the last turn of sync's loop."),
    gauge(
        "spoke_sync_seconds_since_compare",
        "Seconds since the last full comparison of ledger and cluster, or the first try; absent for a standby.",
    ),
    gauge("spoke_sync_compare_seconds", "Seconds that the last full comparison took."),
    counter("spoke_sync_comparisons", "Full comparisons of ledger and cluster."),
    counter("spoke_sync_actions", "Actions that made ledger and cluster agree, by kind.", _KIND),
    counter(
        "spoke_sync_failed_decisions",
        "Decisions, actions and routines that raised an unexpected error, and are repeated.",
    ),
    counter(
        "spoke_sync_undiagnosable",
        "Jobs that ended as Undiagnosable, because each decision about them raised an error.",
    ),
    counter(
        "spoke_sync_repairs",
        "Actions that a full comparison found, by kind: due to a crash or an outage, or missed by the watch.",
        _KIND,
    ),
    gauge("spoke_sync_jobs_unlaunched", "Due jobs that have no SpokeJob yet."),
    gauge("spoke_sync_oldest_unlaunched_seconds", "Seconds for which the oldest job without a SpokeJob has been due."),
    gauge("spoke_sync_lane_jobs_due", "Jobs of the lane `worker` that free workers would start now.", _WORKERS),
    gauge("spoke_sync_lane_jobs_running", "Attempts that run in workers of the lane `worker`.", _WORKERS),
    gauge(
        "spoke_sync_lane_oldest_due_seconds",
        "Seconds for which the oldest of these due jobs has been due.",
        _WORKERS,
    ),
    traced_histogram("spoke_sync_attempt_peak_memory_bytes", "Peak memory of an attempt.", _BYTES, *_USED),
    traced_histogram(
        "spoke_sync_attempt_memory_ratio",
        "Peak memory of an attempt, divided by what its option `resources` requests.",
        _RATIO,
        *_USED,
    ),
    traced_histogram("spoke_sync_attempt_cpu_seconds", "CPU time of an attempt.", _SECONDS, *_USED),
    traced_histogram("spoke_sync_attempt_wall_seconds", "Wall time of an attempt.", _SECONDS, *_USED),
    *_attempts(MetricSource.SYNC, "from the creation of a job's SpokeJob until its first attempt has claimed it"),
    *_schedules(MetricSource.SYNC),
)

WORKER = (
    gauge("spoke_worker_running", "Attempts that run now."),
    gauge("spoke_worker_held_back_types", "Types held back by this worker, whose jobs take down their processes."),
    gauge("spoke_worker_seconds_since_poll", "Seconds since the ledger last answered."),
    counter("spoke_worker_claimed", "Jobs claimed."),
    counter("spoke_worker_died", "Child processes that exited while running an attempt."),
    counter("spoke_worker_reaped", "Attempts ended because their lease had lapsed."),
    counter(
        "spoke_worker_attempts",
        "Ended attempts, by the end that their process reported.",
        Label("end", "the exit codes of attempts, such as `done`, `failed` and `not_started` (released, not charged)"),
    ),
    gauge("spoke_worker_jobs_due", "Jobs that are due, including those whose queue is locked."),
    gauge("spoke_worker_oldest_due_seconds", "Seconds for which the oldest due job has been due."),
    *_attempts(MetricSource.WORKER, "for which a job was due until this worker has claimed its first attempt"),
    counter(
        "spoke_worker_jobs_failed",
        "Jobs of the worker's runner that failed, cancelled ones excluded, since this process was first scraped. Each "
        "worker counts those of all.",
    ),
    gauge(
        "spoke_worker_limit",
        "The most attempts at a time that the ledger's limits allow, by scope: of the limits with the least room.",
        _SCOPE,
    ),
    gauge(
        "spoke_worker_limit_used",
        f"Attempts that count towards these limits, by scope. For {EACH_FORMS}: of the busiest one.",
        _SCOPE,
    ),
    gauge("spoke_worker_paused", "1 for each scope that is paused in the ledger, by who paused it.", _SCOPE, _BY),
    *_schedules(MetricSource.WORKER),
    *_database(MetricSource.WORKER, "the worker's main process; its child processes have further ones"),
)

TASKS = (
    gauge("spoke_tasks_unfinished", "Accepted tasks that have not ended."),
    gauge("spoke_tasks_queued", "Accepted tasks that have not started."),
    gauge("spoke_tasks_running", "Slots in use."),
    gauge("spoke_tasks_slots", "Slots for `def` tasks, and as many for `async def` ones."),
    gauge("spoke_tasks_slots_hung", "Slots in use by tasks beyond their timeout."),
    counter("spoke_tasks_accepted", "Tasks accepted."),
    counter("spoke_tasks_joined", "Redeliveries of tasks that had not ended."),
    counter("spoke_tasks_recalled", "Redeliveries of tasks that had ended here."),
    counter(
        "spoke_tasks_refused",
        "Tasks that failed for good without being run here, by cause.",
        Label("cause", "the causes of tasks that are not run"),
    ),
    counter("spoke_tasks_timed_out", "Tasks that exceeded their timeout and did not end."),
    counter(
        "spoke_tasks_ended",
        "Tasks by how they ended.",
        Label("outcome", "the outcomes of a task's delivery"),
    ),
    traced_histogram("spoke_tasks_wait_seconds", "Seconds from a task's dispatch to its start.", _TASKS),
    traced_histogram("spoke_tasks_run_seconds", "Seconds from a task's start to its end.", _TASKS),
    gauge("spoke_tasks_draining", "1 while the replica is stopping."),
    counter("spoke_tasks_requests", "Requests with tasks that were accepted."),
    counter(
        "spoke_tasks_requests_refused",
        "Requests refused, by status and reason.",
        Label("status", "the HTTP statuses of refusals"),
        Label("reason", "the reasons of refusals: `key`, `full` and so on"),
    ),
    gauge(
        "spoke_tasks_connections",
        "Connections, by whether they have shown valid credentials.",
        Label("proven", "`true`, `false`"),
    ),
    counter(
        "spoke_tasks_connections_closed",
        "Connections that the server closed: because of a limit, or because a phase took too long.",
        Label("reason", "the limits and the phases of a connection"),
    ),
    gauge("spoke_tasks_outbox_held", "Claims that this replica holds."),
    counter("spoke_tasks_outbox", "Claims and their ends, by event.", Label("event", "the events of a claim")),
    gauge("spoke_tasks_outbox_due", "Due tasks without a claim."),
    gauge("spoke_tasks_outbox_oldest_due_seconds", "Seconds for which the oldest due task has been due."),
    gauge("spoke_tasks_outbox_failed", "Failed tasks that are kept."),
    *_database(MetricSource.TASKS, "the task server"),
)
