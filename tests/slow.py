"""The tests that `make test` leaves to `make test SLOW=1`: each repeats elsewhere what a quicker test shows.

A release and a weekly run of CI run all of them.
"""

from __future__ import annotations

from typing import NamedTuple


class Slow(NamedTuple):
    """Tests that are slow for one reason."""

    path: str
    """Of a module, or of a folder that ends with a slash."""
    functions: tuple[str, ...]
    """How their names, or those of their classes, begin; all of the path if empty."""
    case: str
    """A word of the case in brackets; every case if empty."""
    shown_by: str
    """What shows the same in `make test`."""


_UNIT = "the same suite in tests/unit, on SQLite"
_POSTGRESQL = "the same cases on PostgreSQL"
_WEEK = "the week of successes of the operator's chart; the same template makes the rules of both charts"
_ONE_KIND = "the case of the other kind of function"
_CONTRACT = "the same suite on the legacy runner; its other cases here"
_STAND_IN = "tests/integration/operator/causes, with a stand-in for the application"
_CAUSES = "tests/unit/operator/core, from pods and events that were recorded; other cases here"
SLOW: tuple[Slow, ...] = (
    # the other database
    Slow("tests/integration/worker/test_supervisor.py", ("TestWorker",), "", _UNIT),
    Slow("tests/integration/runners/test_legacy_runner.py", (), "worker", _UNIT),
    Slow("tests/integration/runners/test_legacy_runner.py", (), "same_process", _UNIT),
    Slow("tests/integration/cli/test_watch.py", (), "", _UNIT),
    Slow("tests/integration/texting/", (), "postgresql", "the same cases on SQLite"),
    Slow("tests/integration/ledger/test_reference_code.py", (), "sqlite", _POSTGRESQL),
    Slow("tests/integration/ledger/test_hostile_rows.py", (), "sqlite", _POSTGRESQL),
    Slow("tests/integration/ledger/test_hostile_dependents.py", (), "sqlite", _POSTGRESQL),
    Slow("tests/integration/ledger/test_dependencies.py", (), "sqlite", _POSTGRESQL),
    # pages that are typed whole
    Slow("tests/integration/docs/test_tutorial.py", (), "", "tests/unit/docs/test_typed_blocks.py, tests/e2e"),
    Slow("tests/integration/docs/test_kubectl.py", (), "", "tests/unit/docs, tests/e2e/test_why_page.py"),
    # more cases of one kind
    Slow("tests/integration/charts/test_slo_alerts.py", ("test_in_a_week",), "all", "the few cases of each alert"),
    Slow("tests/integration/charts/test_slo_alerts.py", ("test_in_a_week",), "Start", _WEEK),
    Slow("tests/integration/charts/test_slo_alerts.py", ("test_in_a_week",), "few-Success-spoke-app", _WEEK),
    Slow("tests/integration/charts/test_slo_alerts.py", ("test_a_few_jobs_of_an_idle",), "", _WEEK),
    Slow("tests/integration/cli/test_check.py", ("test_each_right",), "sync", "the case of the runner"),
    Slow("tests/integration/cli/test_check.py", ("test_each_right",), "reader", "the case of the runner"),
    Slow("tests/integration/sync/test_kills.py", (), "is_deleted", "the case of a second attempt"),
    Slow("tests/integration/sync/test_kills.py", (), "is_cancelled", "the case of a second attempt"),
    Slow("tests/integration/sync/test_databases.py", ("test_what_was_retried",), "", "the other moments of a backup"),
    Slow("tests/integration/worker/test_database.py", ("test_jobs_that_lose",), "hang", "the case of a cut connection"),
    Slow("tests/integration/worker/test_supervisor.py", ("TestEnds",), "async_", _ONE_KIND),
    Slow("tests/integration/tracing/test_traces.py", ("test_in_workers",), "aimport_contacts", _ONE_KIND),
    Slow("tests/integration/sync/test_faults.py", ("test_sigterm_ends_it",), "all is well", "the cases with a fault"),
    Slow("tests/integration/recipes/test_web_frameworks.py", (), "sqlite", _POSTGRESQL),
    Slow("tests/integration/execution/test_pod_timeout.py", (), "", "tests/unit/operator/core/test_build_job.py"),
    Slow("tests/integration/runners/test_dns_outage.py", ("test_a_pod_waits",), "no such name", "the other answer"),
    Slow("tests/integration/operator/test_policies.py", ("test_a_job_that_breaks",), "limits", "the case of labels"),
    Slow("tests/integration/operator/test_policies.py", ("test_a_job_that_breaks",), "hostPath", "the case of labels"),
    Slow("tests/integration/operator/test_policies.py", ("test_a_job_that_breaks",), "registry", "the case of labels"),
    Slow("tests/integration/operator/causes/test_containers.py", (), "init-hang", _CAUSES),
    Slow("tests/integration/operator/causes/test_sequences.py", ("test_kueue",), "", "tests/unit/operator/core"),
    Slow("tests/integration/operator/test_quota.py", ("test_a_quota_at_zero",), "", "the burst beyond a quota"),
    Slow(
        "tests/integration/operator/test_draining.py", ("test_an_operator_that_was_away",), "", "test_three_evictions"
    ),
    Slow("tests/integration/operator/test_bad_input.py", ("test_any_job_type",), "", "unit/contract/test_names.py"),
    Slow("tests/e2e/test_applications.py", (), "", "tests/integration/worker/test_two_applications.py"),
    Slow(
        "tests/e2e/test_why_page.py", ("test_a_limit", "test_no_operator", "test_a_timeout"), "", "tests/unit/explain"
    ),
    Slow("tests/integration/release/test_release.py", ("TestVerification",), "", "`make release` itself"),
    # on the cluster, where each case has pods or an operator of its own
    Slow(
        "tests/e2e/test_runner_contract.py",
        (
            "test_plain_json",
            "test_joined_to",
            "test_an_async",
            "test_async_twins",
            "test_a_flush_that_fails",
            "test_a_released_savepoint",
            "test_a_scoped_session",
            "test_one_session",
            "test_labels_are_kept",
            "test_dispatched_as",
            "test_a_job_may_succeed",
            "test_a_job_retried_by_hand",
            "test_a_job_follows_a_batch_of_an_event_loop",
        ),
        "",
        _CONTRACT,
    ),
    Slow("tests/e2e/test_runner_contract.py", (), "astep", _CONTRACT),
    Slow(
        "tests/e2e/test_why_page.py",
        (
            "test_a_payload_of",
            "test_an_image_that_could_not",
            "test_suspended",
            "test_cancelled",
            "test_running",
            "test_its_pod_deleted",
            "test_a_template_that",
            "test_backing_off",
            "test_due_later",
            "test_behind_the_job",
            "test_an_exception",
        ),
        "",
        "tests/unit/explain; the other situations here",
    ),
    Slow(
        "tests/e2e/test_logs.py",
        ("test_ctrl_c", "test_a_connection_that_breaks"),
        "",
        "tests/unit/cli/test_dispatch_check_logs.py",
    ),
    Slow("tests/e2e/test_causes.py", ("test_sys_exit", "test_a_job_that_runs_too_long"), "", _STAND_IN),
    Slow("tests/e2e/test_causes.py", ("test_what_no_repetition_mends",), "UnknownJobType", "the other error"),
    Slow("tests/e2e/test_crash.py", (), "", "the same kill in tests/integration/runners, without an application"),
    Slow("tests/e2e/test_helm.py", ("test_an_application_that_declares_no_task",), "", "tests/integration/charts"),
    Slow("tests/integration/operator/test_faults.py", ("test_events_that_cannot",), "REFUSED", "the case of late ones"),
    Slow(
        "tests/integration/operator/test_faults.py", ("test_events_that_cannot",), "THROTTLED", "the case of late ones"
    ),
    Slow(
        "tests/integration/operator/test_faults.py", ("test_writes_of_an_attempt",), "", "test_lifecycle.py counts them"
    ),
    Slow(
        "tests/integration/operator/test_spokelimits.py",
        ("test_a_namespace_of_many_urgent", "test_timeouts_of_a_namespace"),
        "",
        "tests/unit/operator/core",
    ),
    Slow(
        "tests/integration/sync/test_databases.py",
        ("test_what_ran_when", "test_what_had_been_launched"),
        "",
        "the other moments of a backup",
    ),
    Slow("tests/integration/sync/test_faults.py", ("test_sigterm_ends_it",), "API server hangs", "the other fault"),
    Slow(
        "tests/integration/sync/test_following.py",
        ("test_progress_keeps",),
        "",
        "tests/unit/sync",
    ),
    Slow(
        "tests/integration/sync/test_interleavings.py", ("test_what_is_dispatched_while",), "after", "the other order"
    ),
    # in a worker with all its processes
    Slow(
        "tests/integration/worker/test_steering.py",
        ("test_a_server_that_fails",),
        "",
        "tests/unit/worker: a paused scope, limits and rates",
    ),
    Slow(
        "tests/integration/worker/test_database.py", ("test_after_an_outage",), "hang", "the case of a cut connection"
    ),
    Slow(
        "tests/integration/worker/test_database.py",
        ("test_jobs_that_are_unblocked", "test_a_failed_jobs_follower"),
        "",
        "test_a_job_is_started, by the same notification",
    ),
    Slow("tests/integration/texting/test_demo.py", ("test_interrupted",), "15", "the other signal"),
    # the test run itself
    Slow(
        "tests/unit/second_chance/test_two_runs.py",
        ("test_one_that_ends_its_process", "test_records"),
        "",
        "test_verdict.py, from records; the other endings of runs here",
    ),
    *(
        Slow("tests/unit/second_chance/test_two_runs.py", ("test_a_run_ends",), case, "test_verdict.py, from records")
        for case in ("one fails twice", "a fixture of a test's own fails", "no test")
    ),
    Slow("tests/unit/second_chance/test_two_runs.py", ("test_marks_among",), "", "those marked alone, without `-m`"),
)


def is_slow(nodeid: str) -> bool:
    """Whether `make test` leaves this test out."""
    module, _, rest = nodeid.partition("::")
    name, _, case = rest.partition("[")
    function = name.rpartition("::")[2]
    return any(
        module.startswith(slow.path)
        and (not slow.functions or name.startswith(slow.functions) or function.startswith(slow.functions))
        and slow.case in case.rstrip("]")
        for slow in SLOW
    )
