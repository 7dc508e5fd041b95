"""The dashboard of an application's jobs: of its workers and its sync."""

from __future__ import annotations

from scripts.dashboards.board_model import Board, Query, Row, Unit, lines, number, quantiles

_BOTH = (("worker", "@WORKERS@"), ("sync", "@SYNC@"))
_BAD = 'state=~"late|failing|orphaned"'


def _of_both(series: str, more: str = "") -> str:
    """Return a metric of workers and of sync.

    :param more: further conditions on labels.
    """
    return " or ".join(f"spoke_{process}_{series}{{{labels}{more and f',{more}'}}}" for process, labels in _BOTH)


def _rate(series: str) -> str:
    """Return a counter of workers and of sync, per second."""
    return " or ".join(f"rate(spoke_{process}_{series}{{{labels}}}[$__rate_interval])" for process, labels in _BOTH)


def _rate_by(series: str, label: str) -> Query:
    return Query(f"sum by ({label}) ({_rate(series)})", f"{{{{{label}}}}}")


_NOW = Row(
    "Now",
    (
        number(
            "Oldest due job",
            "For how long the oldest due job has waited for a worker.",
            Unit.SECONDS,
            Query("max(spoke_worker_oldest_due_seconds{@WORKERS@})"),
        ),
        number(
            "Oldest job without a SpokeJob",
            "More than a minute: sync does not launch jobs. See the alert SpokeJobsNotLaunched.",
            Unit.SECONDS,
            Query("max(spoke_sync_oldest_unlaunched_seconds{@SYNC@})"),
        ),
        number(
            "Running in workers",
            "Attempts that run in workers now.",
            Unit.COUNT,
            Query("sum(spoke_worker_running{@WORKERS@})"),
        ),
        number(
            "Failed jobs in an hour",
            "Jobs of workers that failed for good. `spoke-jobs why` groups them by their causes.",
            Unit.COUNT,
            Query("max(increase(spoke_worker_jobs_failed_total{@WORKERS@}[1h]))"),
        ),
        number(
            "Schedules that dispatch nothing",
            "`spoke-jobs schedules ls` says which, and why.",
            Unit.COUNT,
            Query(f"sum(max by (state) ({_of_both('schedules', _BAD)}))"),
        ),
        number(
            "Paused scopes",
            "`spoke-jobs limits ls` says since when, by whom and why.",
            Unit.COUNT,
            Query("count(max by (scope) (spoke_worker_paused{@WORKERS@})) or vector(0)"),
        ),
    ),
)
_WAITING = Row(
    "Waiting",
    (
        lines(
            "Wait for the start",
            "From due to the first attempt in a worker; from the SpokeJob's creation to the first attempt in a pod.",
            Unit.SECONDS,
            *quantiles("spoke_{}_job_wait_seconds", _BOTH, of=(0.5, 0.95)),
        ),
        lines(
            "Wait for the start, 95 of 100 jobs of a type",
            "One type that waits long: a limit, a lock of a queue, or workers that do not take it.",
            Unit.SECONDS,
            *quantiles("spoke_{}_job_wait_seconds", _BOTH, "type", of=(0.95,)),
        ),
        lines(
            "Wait for the start, 95 of 100 jobs of a queue",
            "One queue that waits long: its limit or its lock.",
            Unit.SECONDS,
            *quantiles("spoke_{}_job_wait_seconds", _BOTH, "queue", of=(0.95,)),
        ),
        lines(
            "Due jobs",
            "Due jobs of workers, and due jobs that have no SpokeJob.",
            Unit.COUNT,
            Query("max(spoke_worker_jobs_due{@WORKERS@})", "for workers"),
            Query("max(spoke_sync_jobs_unlaunched{@SYNC@})", "without a SpokeJob"),
        ),
        lines(
            "Due jobs of the lane worker",
            "By worker deployment: jobs that free workers would start now.",
            Unit.COUNT,
            Query("max by (workers) (spoke_sync_lane_jobs_due{@SYNC@})", "{{workers}}"),
        ),
        lines(
            "Oldest due job of the lane worker",
            "By worker deployment. If it grows, add replicas.",
            Unit.SECONDS,
            Query("max by (workers) (spoke_sync_lane_oldest_due_seconds{@SYNC@})", "{{workers}}"),
        ),
    ),
)
_RUNNING = Row(
    "Running and failing",
    (
        lines("Ended attempts", "By type.", Unit.PER_SECOND, _rate_by("attempt_run_seconds_count", "type")),
        lines(
            "Run time, 95 of 100 attempts of a type",
            "A type that takes longer than before.",
            Unit.SECONDS,
            *quantiles("spoke_{}_attempt_run_seconds", _BOTH, "type", of=(0.95,)),
        ),
        lines(
            "Failed attempts",
            "By type, also those that another attempt follows.",
            Unit.PER_SECOND,
            _rate_by("attempts_failed_total", "type"),
        ),
        lines(
            "Share of failed attempts",
            "By type.",
            Unit.SHARE,
            Query(
                f"sum by (type) ({_rate('attempts_failed_total')})"
                f" / sum by (type) ({_rate('attempt_run_seconds_count')})",
                "{{type}}",
            ),
        ),
        lines(
            "Ended attempts by lane",
            "In pods and in workers.",
            Unit.PER_SECOND,
            _rate_by("attempt_run_seconds_count", "lane"),
        ),
        lines(
            "Ends of attempts in workers",
            "By what their process reported. `superseded`: another process had the claim. `not_started`: given back "
            "uncharged, too late for a rate or because of a pause.",
            Unit.PER_SECOND,
            Query("sum by (end) (rate(spoke_worker_attempts_total{@WORKERS@}[$__rate_interval]))", "{{end}}"),
        ),
        lines(
            "Memory, 95 of 100 attempts of a type",
            "Peak memory divided by what the job requests. Above 1, nodes may run out of memory.",
            Unit.SHARE,
            *quantiles("spoke_{}_attempt_memory_ratio", _BOTH[1:], "type", of=(0.95,)),
        ),
        lines(
            "CPU time",
            "CPU seconds per second, by type: how many cores attempts keep busy.",
            Unit.COUNT,
            Query("sum by (type) (rate(spoke_sync_attempt_cpu_seconds_sum{@SYNC@}[$__rate_interval]))", "{{type}}"),
        ),
        lines(
            "Killed and lost attempts",
            "Child processes that exited while they ran an attempt, and attempts whose worker was lost.",
            Unit.PER_SECOND,
            Query("sum(rate(spoke_worker_died_total{@WORKERS@}[$__rate_interval]))", "child process exited"),
            Query("sum(rate(spoke_worker_reaped_total{@WORKERS@}[$__rate_interval]))", "worker lost"),
        ),
        lines(
            "Types held back",
            "By worker: types whose jobs take down their processes.",
            Unit.COUNT,
            Query("spoke_worker_held_back_types{@WORKERS@}", "{{pod}}{{instance}}"),
        ),
    ),
)
_LIMITS = Row(
    "Limits and schedules",
    (
        lines(
            "Use of limits",
            "By scope. At 1, jobs wait for others to end.",
            Unit.SHARE,
            Query(
                "max by (scope) (spoke_worker_limit_used{@WORKERS@}) / max by (scope) (spoke_worker_limit{@WORKERS@})",
                "{{scope}}",
            ),
        ),
        lines("Schedules", "By state.", Unit.COUNT, Query(f"max by (state) ({_of_both('schedules')})", "{{state}}")),
        lines(
            "Schedules: delay of the dispatch",
            "From a due time to the dispatch of its job.",
            Unit.SECONDS,
            *quantiles("spoke_{}_schedule_lag_seconds", _BOTH, of=(0.5, 0.95)),
        ),
    ),
)
_ORGANIZATIONS = Row(
    "Organizations (with SPOKE_METRICS_ORGANIZATIONS)",
    (
        lines(
            "Busiest organizations",
            "How many attempts of an organization run at a time, on average.",
            Unit.COUNT,
            Query(f"topk(10, sum by (organization) ({_rate('organization_run_seconds_total')}))", "{{organization}}"),
        ),
        lines(
            "Failed attempts",
            "By organization.",
            Unit.PER_SECOND,
            Query(
                "topk(10, sum by (organization) ("
                + " or ".join(
                    f'rate(spoke_{process}_organization_attempts_total{{{labels},outcome="failed"}}[$__rate_interval])'
                    for process, labels in _BOTH
                )
                + "))",
                "{{organization}}",
            ),
        ),
    ),
)
_PROCESSES = Row(
    "Processes",
    (
        lines(
            "Connections to the database",
            "Share of each worker's pool that is in use. At 1, its threads wait for a connection.",
            Unit.SHARE,
            Query(
                'spoke_worker_database_connections{@WORKERS@,state="used"}'
                " / ignoring (state) spoke_worker_database_connections_limit{@WORKERS@}",
                "{{pod}}{{instance}}",
            ),
        ),
        lines(
            "Since the last answer of the ledger",
            "By worker. A worker is unhealthy after 30 s.",
            Unit.SECONDS,
            Query("spoke_worker_seconds_since_poll{@WORKERS@}", "{{pod}}{{instance}}"),
        ),
        lines(
            "Sync",
            "Seconds since the last comparison of ledger and cluster, and how long it took.",
            Unit.SECONDS,
            Query("min(spoke_sync_seconds_since_compare{@SYNC@})", "since the last one"),
            Query("max(spoke_sync_compare_seconds{@SYNC@})", "duration"),
        ),
        lines(
            "Actions of sync",
            "By kind. Repairs: what a comparison found that no event had announced.",
            Unit.PER_SECOND,
            Query("sum by (kind) (rate(spoke_sync_actions_total{@SYNC@}[$__rate_interval]))", "{{kind}}"),
            Query("sum(rate(spoke_sync_repairs_total{@SYNC@}[$__rate_interval]))", "repairs"),
        ),
        lines(
            "Processor time",
            "Of the main process of each worker, and of sync.",
            Unit.COUNT,
            Query(
                "rate(process_cpu_seconds_total{@WORKERS@}[$__rate_interval])"
                " or rate(process_cpu_seconds_total{@SYNC@}[$__rate_interval])",
                "{{pod}}{{instance}}",
            ),
        ),
        lines(
            "Memory",
            "Of the main process of each worker, and of sync.",
            Unit.BYTES,
            Query(
                "process_resident_memory_bytes{@WORKERS@} or process_resident_memory_bytes{@SYNC@}",
                "{{pod}}{{instance}}",
            ),
        ),
    ),
)

APPLICATIONS = Board(
    "applications",
    "Spoke jobs: application @NAMESPACE@/@NAME@",
    "The jobs of one application: what waits, runs and fails, in workers and in pods.",
    (_NOW, _WAITING, _RUNNING, _LIMITS, _ORGANIZATIONS, _PROCESSES),
)
