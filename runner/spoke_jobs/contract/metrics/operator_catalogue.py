"""The metrics of the operator."""

from __future__ import annotations

from spoke_jobs.contract.limit_scopes import EACH_FORMS
from spoke_jobs.contract.metrics.metric_spec import Label, counter, gauge, histogram, traced_histogram

_STARTS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_RUNS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_QUEUES = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)
_ASSIGNMENTS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECONCILES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_NAMESPACE = Label("namespace", "the namespaces that have had a SpokeJob within the last hour")
_WHERE_JOBS_ARE = (
    _NAMESPACE,
    *(
        Label(
            name,
            "only if `operator.metricLabels` names it; beyond `operator.metricLabelLimit` combinations in a namespace "
            "`other`",
            optional=True,
        )
        for name in ("type", "queue")
    ),
)
_REASON = Label("reason", "the reasons to wait, and the causes that a job may wait for")
_CAUSE = Label("cause", "the causes; `Other` for those that this release does not know")
_LIMITED = Label("namespace", "the namespaces with jobs or limits; empty for the limit of all namespaces")
_SCOPE = Label(
    "scope", "as SpokeLimits name them; of each namespace and form (`queue`, `type`, and so on) at most 50 with a name"
)

OPERATOR = (
    gauge(
        "spoke_operator_attempts_running",
        "SpokeJobs with a running or starting attempt, by namespace.",
        *_WHERE_JOBS_ARE,
    ),
    gauge(
        "spoke_operator_oldest_running_seconds",
        "Seconds since the oldest running attempt began, by namespace.",
        *_WHERE_JOBS_ARE,
    ),
    gauge("spoke_operator_waiting", "Waiting SpokeJobs, by namespace and reason.", *_WHERE_JOBS_ARE, _REASON),
    gauge(
        "spoke_operator_oldest_waiting_seconds",
        "Seconds that the oldest waiting SpokeJob has waited, since its creation or its last attempt, by namespace and "
        "reason.",
        *_WHERE_JOBS_ARE,
        _REASON,
    ),
    gauge(
        "spoke_operator_limit",
        "The most attempts at a time, by namespace and scope. The limit of all namespaces has an empty namespace.",
        _LIMITED,
        _SCOPE,
    ),
    gauge(
        "spoke_operator_limit_used",
        f"Attempts that count towards the limit, by namespace and scope. For {EACH_FORMS}: of the busiest one.",
        _LIMITED,
        _SCOPE,
    ),
    gauge(
        "spoke_operator_rate_per_second",
        "How many attempts may start in a second on average, by namespace and scope.",
        _LIMITED,
        _SCOPE,
    ),
    gauge(
        "spoke_operator_rate_tokens",
        "How many attempts may start now under the rate, by namespace and scope. For each-queue and the like: of the "
        "one that has the fewest.",
        _LIMITED,
        _SCOPE,
    ),
    gauge(
        "spoke_operator_paused",
        "1 for each scope in which no attempt starts, by namespace, scope, object or setting, and who set it.",
        _LIMITED,
        _SCOPE,
        Label("source", "the object or the setting with the pause: one for each scope"),
        Label("by", "who set the pause: one for each scope"),
    ),
    counter(
        "spoke_operator_jobs_finished",
        "SpokeJobs that became final, by namespace, outcome and cause.",
        *_WHERE_JOBS_ARE,
        Label("outcome", "`Succeeded`, `Failed`"),
        _CAUSE,
    ),
    counter(
        "spoke_operator_attempts_failed", "Attempts that failed, by namespace and cause.", *_WHERE_JOBS_ARE, _CAUSE
    ),
    traced_histogram(
        "spoke_operator_job_creation_seconds",
        "From a SpokeJob's creation to the creation of its first Job, by namespace.",
        _STARTS,
        *_WHERE_JOBS_ARE,
    ),
    traced_histogram(
        "spoke_operator_job_start_seconds",
        "From a SpokeJob's creation until its first attempt is observed running, by namespace.",
        _STARTS,
        *_WHERE_JOBS_ARE,
    ),
    traced_histogram(
        "spoke_operator_attempt_run_seconds",
        "How long a container ran an attempt, by namespace.",
        _RUNS,
        *_WHERE_JOBS_ARE,
    ),
    counter("spoke_operator_reconciles", "SpokeJobs reconciled."),
    histogram("spoke_operator_reconcile_seconds", "How long one reconcile took, including its writes.", _RECONCILES),
    counter(
        "spoke_operator_errors",
        "Failures that are retried.",
        Label("where", "the parts of the operator: `reconcile`, `compare`, `store`, `admit`, `limits`, `publish`"),
    ),
    counter(
        "spoke_operator_compare_failures",
        "Comparisons with the cluster that failed, by namespace.",
        Label("namespace", "the namespaces that the operator watches; empty if it watches all"),
    ),
    counter(
        "spoke_operator_writes",
        "Writes that the API server accepted.",
        Label("what", "the operator's kinds of writes"),
    ),
    counter(
        "spoke_operator_status_writes_unchanged",
        "Status writes that changed nothing: the installed CRD is older than the operator.",
    ),
    counter(
        "spoke_operator_events",
        "Events received.",
        Label("kind", "the kinds of objects that the operator watches"),
    ),
    counter(
        "spoke_operator_kubernetes_events",
        "Kubernetes Events sent, by type.",
        Label("type", "`Normal`, `Warning`"),
    ),
    counter(
        "spoke_operator_kubernetes_events_dropped",
        "Kubernetes Events that were not sent: beyond the rate, the queue was full, or the call failed.",
        Label("reason", "`rate`, `queue`, `failure`"),
    ),
    gauge("spoke_operator_queue_depth", "SpokeJobs that wait to be reconciled."),
    histogram("spoke_operator_queue_seconds", "How long a SpokeJob waits until it is reconciled.", _QUEUES),
    counter("spoke_operator_jobs_adopted", "Jobs of an earlier leader or process that were adopted."),
    gauge("spoke_operator_pods_pending", "Pods of attempts that have no node yet, or that their node is starting."),
    gauge("spoke_operator_pods_without_room", "Pods of attempts for which no node has room."),
    gauge(
        "spoke_operator_standby_pods",
        "Standby pods, by namespace and state: starting, free, or assigned (with an attempt).",
        Label("namespace", "the namespaces with standby pods, or with PodTemplates that want some"),
        Label("state", "`starting`, `free`, `assigned`"),
    ),
    counter(
        "spoke_operator_standby_attempts",
        "Attempts of the lane standby, by namespace and result: hit if a standby pod got it, else why not.",
        _NAMESPACE,
        Label("result", "`hit`, `no_pool`, `resources`, `labels`, `memory`, `lost`, `none_free`"),
    ),
    histogram(
        "spoke_operator_standby_seconds",
        "Seconds from the assignment of an attempt to a standby pod until the pod accepted it.",
        _ASSIGNMENTS,
    ),
    counter(
        "spoke_operator_undiagnosable",
        "SpokeJobs that ended as Undiagnosable, because each decision about them raised an error.",
    ),
    gauge("spoke_operator_leads", "1 while this replica leads."),
    counter("spoke_operator_throttled", "Answers 429 of the API server."),
    counter("spoke_operator_stream_restarts", "Restarts of the event streams."),
)
