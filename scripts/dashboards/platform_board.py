"""The dashboard of a platform: what the operator sees of the jobs of all namespaces, and the operator itself."""

from __future__ import annotations

from scripts.dashboards.board_model import Board, Query, Row, Unit, Variable, lines, number, quantiles

_JOBS = '@JOBS@,namespace=~"$namespace"'
_OF_JOBS = (("operator", _JOBS),)
_OF_OPERATOR = (("operator", "@OPERATOR@"),)


def _rate(series: str, selector: str) -> str:
    return f"rate(spoke_operator_{series}{{{selector}}}[$__rate_interval])"


_NOW = Row(
    "Now",
    (
        number(
            "Leader",
            "1 if a replica leads. 0: no job starts. See the alert SpokeOperatorNoLeader.",
            Unit.COUNT,
            Query("sum(spoke_operator_leads{@OPERATOR@})"),
        ),
        number(
            "Running",
            "SpokeJobs with a running or starting attempt.",
            Unit.COUNT,
            Query(f"sum(spoke_operator_attempts_running{{{_JOBS}}}) or vector(0)"),
        ),
        number(
            "Waiting", "SpokeJobs that wait.", Unit.COUNT, Query(f"sum(spoke_operator_waiting{{{_JOBS}}}) or vector(0)")
        ),
        number(
            "Oldest waiting",
            "For how long the oldest waiting SpokeJob has waited.",
            Unit.SECONDS,
            Query(f"max(spoke_operator_oldest_waiting_seconds{{{_JOBS}}}) or vector(0)"),
        ),
        number(
            "Paused scopes",
            "`kubectl get spokelimits --all-namespaces` shows which.",
            Unit.COUNT,
            Query(f"count(spoke_operator_paused{{{_JOBS}}}) or vector(0)"),
        ),
        number(
            "Pods without room",
            "Pods of attempts for which no node has room.",
            Unit.COUNT,
            Query("sum(spoke_operator_pods_without_room{@OPERATOR@})"),
        ),
    ),
)
_WAITING = Row(
    "Waiting",
    (
        lines(
            "Waiting, by reason",
            "docs/reference/causes.md says what to do about each reason.",
            Unit.COUNT,
            Query(f"sum by (reason) (spoke_operator_waiting{{{_JOBS}}})", "{{reason}}"),
        ),
        lines(
            "Oldest waiting, by reason",
            "A reason that needs somebody grows in a straight line.",
            Unit.SECONDS,
            Query(f"max by (reason) (spoke_operator_oldest_waiting_seconds{{{_JOBS}}})", "{{reason}}"),
        ),
        lines(
            "Waiting, by namespace",
            "Which tenant waits.",
            Unit.COUNT,
            Query(f"sum by (namespace) (spoke_operator_waiting{{{_JOBS}}})", "{{namespace}}"),
        ),
        lines(
            "From creation to the start",
            "From a SpokeJob's creation until its first attempt runs.",
            Unit.SECONDS,
            *quantiles("spoke_{}_job_start_seconds", _OF_JOBS, of=(0.5, 0.95)),
        ),
        lines(
            "From creation to the Job",
            "Waits for a turn, a limit or a lock. The rest until the start is Kubernetes': scheduling, images.",
            Unit.SECONDS,
            *quantiles("spoke_{}_job_creation_seconds", _OF_JOBS, of=(0.5, 0.95)),
        ),
        lines(
            "To the start, 95 of 100 jobs of a namespace",
            "Which tenant's jobs start late.",
            Unit.SECONDS,
            *quantiles("spoke_{}_job_start_seconds", _OF_JOBS, "namespace", of=(0.95,)),
        ),
    ),
)
_RUNNING = Row(
    "Running and failing",
    (
        lines(
            "Running, by namespace",
            "SpokeJobs with a running or starting attempt.",
            Unit.COUNT,
            Query(f"sum by (namespace) (spoke_operator_attempts_running{{{_JOBS}}})", "{{namespace}}"),
        ),
        lines(
            "Run time",
            "How long the containers of attempts ran.",
            Unit.SECONDS,
            *quantiles("spoke_{}_attempt_run_seconds", _OF_JOBS, of=(0.5, 0.95)),
        ),
        lines(
            "Longest running",
            "Since the oldest running attempt of a namespace began.",
            Unit.SECONDS,
            Query(f"max by (namespace) (spoke_operator_oldest_running_seconds{{{_JOBS}}})", "{{namespace}}"),
        ),
        lines(
            "Finished jobs",
            "By outcome.",
            Unit.PER_SECOND,
            Query(f"sum by (outcome) ({_rate('jobs_finished_total', _JOBS)})", "{{outcome}}"),
        ),
        lines(
            "Failed jobs",
            "By cause. docs/reference/causes.md explains each.",
            Unit.PER_SECOND,
            Query(f"""sum by (cause) ({_rate("jobs_finished_total", _JOBS + ',outcome="Failed"')}) > 0""", "{{cause}}"),
        ),
        lines(
            "Failed attempts",
            "By cause, also those that another attempt follows.",
            Unit.PER_SECOND,
            Query(f"sum by (cause) ({_rate('attempts_failed_total', _JOBS)})", "{{cause}}"),
        ),
    ),
)
_LIMITS = Row(
    "Limits",
    (
        lines(
            "Use of limits",
            "By namespace and scope. At 1, jobs wait for others to end. Without a namespace: all namespaces together.",
            Unit.SHARE,
            Query(f"spoke_operator_limit_used{{{_JOBS}}} / spoke_operator_limit{{{_JOBS}}}", "{{namespace}} {{scope}}"),
        ),
        lines(
            "Tokens of rates",
            "How many attempts may start now. At 0, jobs wait for the rate.",
            Unit.COUNT,
            Query(f"spoke_operator_rate_tokens{{{_JOBS}}}", "{{namespace}} {{scope}}"),
        ),
        lines(
            "Pauses",
            "1 while a scope is paused.",
            Unit.COUNT,
            Query(f"spoke_operator_paused{{{_JOBS}}}", "{{namespace}} {{scope}}: {{source}} {{by}}"),
        ),
    ),
)
_OPERATOR = Row(
    "The operator",
    (
        lines(
            "Reconciled SpokeJobs",
            "Of all replicas; only the leader works.",
            Unit.PER_SECOND,
            Query(f"sum({_rate('reconciles_total', '@OPERATOR@')})", "reconciled"),
        ),
        lines(
            "Duration of a reconcile, and wait for it",
            "99 of 100 took less.",
            Unit.SECONDS,
            Query(quantiles("spoke_{}_reconcile_seconds", _OF_OPERATOR, of=(0.99,))[0].expression, "reconcile"),
            Query(quantiles("spoke_{}_queue_seconds", _OF_OPERATOR, of=(0.99,))[0].expression, "wait"),
        ),
        lines(
            "Queue",
            "SpokeJobs that wait to be reconciled, and pods that are not running yet.",
            Unit.COUNT,
            Query("sum(spoke_operator_queue_depth{@OPERATOR@})", "SpokeJobs"),
            Query("sum(spoke_operator_pods_pending{@OPERATOR@})", "pods"),
        ),
        lines(
            "Errors, answers 429, broken watches",
            "By part of the operator. Its log names each SpokeJob.",
            Unit.PER_SECOND,
            Query(f"sum by (where) ({_rate('errors_total', '@OPERATOR@')})", "errors: {{where}}"),
            Query(f"sum({_rate('throttled_total', '@OPERATOR@')})", "429"),
            Query(f"sum({_rate('stream_restarts_total', '@OPERATOR@')})", "watches"),
        ),
        lines(
            "Writes",
            "That the API server accepted, by kind.",
            Unit.PER_SECOND,
            Query(f"sum by (what) ({_rate('writes_total', '@OPERATOR@')})", "{{what}}"),
        ),
        lines(
            "Kubernetes Events",
            "Sent, by type, and dropped, by reason.",
            Unit.PER_SECOND,
            Query(f"sum by (type) ({_rate('kubernetes_events_total', '@OPERATOR@')})", "{{type}}"),
            Query(f"sum by (reason) ({_rate('kubernetes_events_dropped_total', '@OPERATOR@')})", "dropped: {{reason}}"),
        ),
        lines(
            "Processor time",
            "Of each replica.",
            Unit.COUNT,
            Query("rate(process_cpu_seconds_total{@OPERATOR@}[$__rate_interval])", "{{pod}}{{instance}}"),
        ),
        lines(
            "Memory",
            "Of each replica.",
            Unit.BYTES,
            Query("process_resident_memory_bytes{@OPERATOR@}", "{{pod}}{{instance}}"),
        ),
    ),
)

PLATFORM = Board(
    "platform",
    "Spoke jobs: platform @NAMESPACE@/@NAME@",
    "The jobs of all namespaces, as the operator sees them, and the operator.",
    (_NOW, _WAITING, _RUNNING, _LIMITS, _OPERATOR),
    (Variable("namespace", "Namespace", "label_values(spoke_operator_jobs_finished_total{@JOBS@}, namespace)"),),
)
