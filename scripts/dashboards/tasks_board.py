"""The dashboard of an application's tasks: of its task server."""

from __future__ import annotations

from scripts.dashboards.board_model import Board, Query, Row, Unit, lines, number, quantiles

_TASKS = (("tasks", "@TASKS@"),)


def _rate(series: str) -> str:
    return f"rate(spoke_tasks_{series}_total{{@TASKS@}}[$__rate_interval])"


def _sum(series: str) -> str:
    return f"sum(spoke_tasks_{series}{{@TASKS@}})"


_NOW = Row(
    "Now",
    (
        number("Replicas", "That answer.", Unit.COUNT, Query("sum(up{@TASKS@})")),
        number(
            "Slots in use",
            "At 1, tasks wait for a slot. A server has as many slots for `async def` tasks again.",
            Unit.SHARE,
            Query(f"{_sum('running')} / {_sum('slots')}"),
        ),
        number("Queued", "Accepted tasks that have not started.", Unit.COUNT, Query(_sum("queued"))),
        number(
            "Hung",
            "Slots in use by tasks beyond their timeout. The server's log shows where they are.",
            Unit.COUNT,
            Query(_sum("slots_hung")),
        ),
        number(
            "Oldest in the outbox",
            "For how long the oldest due task has been due.",
            Unit.SECONDS,
            Query("max(spoke_tasks_outbox_oldest_due_seconds{@TASKS@})"),
        ),
        number(
            "Failed in the outbox",
            "Failed tasks that are kept. `spoke-jobs outbox ls --failed` lists them.",
            Unit.COUNT,
            Query("max(spoke_tasks_outbox_failed{@TASKS@})"),
        ),
    ),
)
_TASKS_ROW = Row(
    "Tasks",
    (
        lines(
            "Ended tasks", "By outcome.", Unit.PER_SECOND, Query(f"sum by (outcome) ({_rate('ended')})", "{{outcome}}")
        ),
        lines(
            "Wait for the start",
            "From a task's dispatch to its start.",
            Unit.SECONDS,
            *quantiles("spoke_{}_wait_seconds", _TASKS, of=(0.5, 0.95, 0.99)),
        ),
        lines(
            "Run time",
            "From a task's start to its end.",
            Unit.SECONDS,
            *quantiles("spoke_{}_run_seconds", _TASKS, of=(0.5, 0.95, 0.99)),
        ),
        lines(
            "Unfinished tasks",
            "Running and queued, with the slots.",
            Unit.COUNT,
            Query(_sum("running"), "running"),
            Query(_sum("queued"), "queued"),
            Query(_sum("slots"), "slots"),
        ),
        lines(
            "Failed without being run",
            "By cause. docs/reference/causes.md explains each.",
            Unit.PER_SECOND,
            Query(f"sum by (cause) ({_rate('refused')})", "{{cause}}"),
            Query(f"sum({_rate('timed_out')})", "did not end at its timeout"),
        ),
        lines(
            "Deliveries",
            "Accepted tasks, and redeliveries of tasks that the server had.",
            Unit.PER_SECOND,
            Query(f"sum({_rate('accepted')})", "accepted"),
            Query(f"sum({_rate('joined')})", "had not ended"),
            Query(f"sum({_rate('recalled')})", "had ended"),
        ),
    ),
)
_REQUESTS = Row(
    "Requests and connections",
    (
        lines(
            "Requests",
            "Accepted, and refused by status.",
            Unit.PER_SECOND,
            Query(f"sum({_rate('requests')})", "accepted"),
            Query(f"sum by (status) ({_rate('requests_refused')})", "refused: {{status}}"),
        ),
        lines(
            "Connections",
            "By whether they have shown valid credentials.",
            Unit.COUNT,
            Query("sum by (proven) (spoke_tasks_connections{@TASKS@})", "proven: {{proven}}"),
        ),
        lines(
            "Closed connections",
            "By reason: a limit, or a phase that took too long.",
            Unit.PER_SECOND,
            Query(f"sum by (reason) ({_rate('connections_closed')})", "{{reason}}"),
        ),
    ),
)
_OUTBOX = Row(
    "Outbox",
    (
        lines(
            "Due tasks",
            "Due tasks without a claim, and claims that replicas hold.",
            Unit.COUNT,
            Query("max(spoke_tasks_outbox_due{@TASKS@})", "due"),
            Query(_sum("outbox_held"), "held"),
        ),
        lines(
            "Claims and their ends",
            "By event.",
            Unit.PER_SECOND,
            Query(f"sum by (event) ({_rate('outbox')})", "{{event}}"),
        ),
        lines(
            "Connections to the database",
            "Share of each replica's pool that is in use. At 1, its threads wait for a connection.",
            Unit.SHARE,
            Query(
                'spoke_tasks_database_connections{@TASKS@,state="used"}'
                " / ignoring (state) spoke_tasks_database_connections_limit{@TASKS@}",
                "{{pod}}{{instance}}",
            ),
        ),
    ),
)
_PROCESSES = Row(
    "Replicas",
    (
        lines(
            "Processor time",
            "Of each replica.",
            Unit.COUNT,
            Query("rate(process_cpu_seconds_total{@TASKS@}[$__rate_interval])", "{{pod}}{{instance}}"),
        ),
        lines(
            "Memory",
            "Of each replica.",
            Unit.BYTES,
            Query("process_resident_memory_bytes{@TASKS@}", "{{pod}}{{instance}}"),
        ),
        lines(
            "Stopping",
            "1 while a replica drains.",
            Unit.COUNT,
            Query("spoke_tasks_draining{@TASKS@}", "{{pod}}{{instance}}"),
        ),
    ),
)

TASKS = Board(
    "tasks",
    "Spoke jobs: tasks @NAMESPACE@/@NAME@",
    "The tasks of one application: its task server and its outbox.",
    (_NOW, _TASKS_ROW, _REQUESTS, _OUTBOX, _PROCESSES),
)
