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
SLOW: tuple[Slow, ...] = (
    # the other database
    Slow("tests/integration/runners/test_legacy_runner.py", (), "worker", _UNIT),
    Slow("tests/integration/runners/test_legacy_runner.py", (), "same_process", _UNIT),
    Slow("tests/integration/texting/", (), "postgresql", "the same cases on SQLite"),
    Slow("tests/integration/ledger/test_sql_ledger.py", ("TestSameStatements",), "", _UNIT),
    Slow(
        "tests/integration/ledger/test_queries.py",
        (
            "test_jobs_by_id",
            "test_when_the_holder",
            "test_what_a_limit_holds_back",
            "test_what_r",
            "test_how_long",
            "test_a_job_that_runs",
            "test_of_",
            "test_waiting_jobs_differ",
            "test_the_wait",
            "test_the_first",
            "test_the_batch",
            "test_the_last",
            "test_who_has",
            "test_a_job_is_not_due",
            "test_suspended",
            "test_deleting",
            "test_an_event",
            "test_events",
            "test_statistics_count",
            "test_without",
        ),
        "",
        _UNIT,
    ),
    Slow(
        "tests/integration/ledger/test_outbox.py",
        (
            "test_replicas",
            "test_a_task_keeps",
            "test_only_known",
            "test_a_fail",
            "test_a_name",
            "test_what_a_replica",
            "test_many_tasks",
            "test_what_was",
        ),
        "",
        _UNIT,
    ),
    Slow("tests/integration/ledger/test_reference_code.py", (), "sqlite", _POSTGRESQL),
    # pages that are typed whole
    Slow("tests/integration/docs/test_tutorial.py", (), "", "tests/unit/docs/test_typed_blocks.py, tests/e2e"),
    Slow("tests/integration/docs/test_kubectl.py", (), "", "tests/unit/docs, tests/e2e/test_why_page.py"),
    # more cases of one kind
    Slow("tests/integration/charts/test_slo_alerts.py", ("test_in_a_week",), "all", "the few cases of each alert"),
    Slow("tests/integration/charts/test_slo_alerts.py", ("test_in_a_week",), "Start", _WEEK),
    Slow("tests/integration/charts/test_slo_alerts.py", ("test_in_a_week",), "few-Success-spoke-app", _WEEK),
    Slow("tests/integration/charts/test_slo_alerts.py", ("test_a_few_jobs_of_an_idle",), "", _WEEK),
    Slow("tests/integration/sync/test_kills.py", (), "is_deleted", "the case of a second attempt"),
    Slow("tests/integration/sync/test_kills.py", (), "is_cancelled", "the case of a second attempt"),
    Slow("tests/integration/sync/test_databases.py", ("test_what_was_retried",), "", "the other moments of a backup"),
    Slow("tests/integration/worker/test_ends.py", ("test_however_a_job_ends",), "async_", _ONE_KIND),
    Slow("tests/integration/recipes/test_web_frameworks.py", (), "sqlite", _POSTGRESQL),
    Slow(
        "tests/e2e/test_why_page.py", ("test_a_limit", "test_no_operator", "test_a_timeout"), "", "tests/unit/explain"
    ),
    Slow("tests/integration/release/test_release.py", (), "", "`make release` itself"),
    Slow(
        "tests/integration/web/test_certified_provider.py", (), "", "tests/unit/web, with a provider of the tests' own"
    ),
    Slow("tests/unit/contract/test_fuzzing.py", (), "", "test_total_readers.py, by properties; the long series here"),
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
            "test_a_function_may_take",
            "test_a_job_goes_on_at_its_checkpoint",
            "test_a_step_that_is_done",
            "test_a_job_is_read_as",
            "test_a_savepoint_rolled_back",
            "test_a_task_of_a_scoped_session",
            "test_closing_",
            "test_committed_with",
            "test_it_is_committed_with",
            "test_jobs_of_one_transaction",
            "test_the_caller_s_transaction",
            "test_what_a_task_has_not_committed",
        ),
        "",
        _CONTRACT,
    ),
    Slow(
        "tests/e2e/test_why_page.py",
        (
            "test_a_payload_of",
            "test_an_image_that",
            "test_the_quota",
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
        "tests/integration/sync/test_databases.py",
        ("test_what_ran_when", "test_what_had_been_launched"),
        "",
        "the other moments of a backup",
    ),
    Slow("tests/integration/sync/test_faults.py", ("test_sigterm_ends_it",), "API server hangs", "the other fault"),
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
