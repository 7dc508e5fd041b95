"""What is said of one job: its facts, its options and its attempts."""

from __future__ import annotations

from datetime import UTC

import pytest
from tests.unit.explain.situations import NOW, a_job, after, an_attempt, before
from tests.unit.explain.test_in_cluster import a_spokejob

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.explain import job_details
from spoke_jobs.ledger.reading.dependency_queries import Link
from spoke_jobs.model import Attempt, AttemptReport, AttemptState, JobOptions, JobState


class TestDetails:
    def shown(self, **changes: object) -> job_details.Details:
        attempts = [
            an_attempt(
                state=AttemptState.FAILED,
                finished_at=before(seconds=10),
                cause="JobError",
                error_type="KeyError",
                output_tail="Traceback\n\x1b[2JKeyError: 'a'",
            ),
            an_attempt(number=2),
        ]
        return job_details.details(a_job(**changes), attempts, NOW, zone=UTC)

    def test_what_says_nothing_is_left_out(self) -> None:
        names = {name for name, _ in self.shown().facts}
        assert names == {"state", "runner", "attempt", "dispatched"}

    def test_when_it_was_suspended_is_said_until_it_ends(self) -> None:
        assert "suspended" in dict(self.shown(suspended_at=before(minutes=3)).facts)
        ended = self.shown(suspended_at=before(minutes=3), state=JobState.FAILED, finished_at=before(minutes=1))
        assert "suspended" not in dict(ended.facts)

    def test_what_says_something_is_there(self) -> None:
        facts = dict(
            self.shown(
                queue_name="q",
                locks_queue=True,
                organization_id=0,
                priority=-5,
                unique_key="k",
                run=3,
                run_after=after(hours=2),
                runner="kubernetes",
            ).facts
        )
        assert facts["organization"] == "0"
        assert facts["priority"] == "-5"
        assert facts["run after"] == "2026-03-01 14:00:00 UTC (in 2 h)"
        assert facts["run"] == "3 (retried by hand 2 times)"
        assert facts["spokejob"] == "report-12-00000000-r3"
        assert "run one at a time" in facts["queue"]

    def test_a_job_in_a_worker_of_kubernetes_has_a_lane_and_no_spokejob(self) -> None:
        facts = dict(self.shown(runner="kubernetes-worker", options=JobOptions(lane="worker")).facts)
        assert facts["lane"] == "worker"
        assert "spokejob" not in facts
        assert "lane" not in dict(self.shown(options=JobOptions(lane="worker")).facts), "legacy has no lanes"

    def test_a_job_of_the_lane_standby_has_both(self) -> None:
        facts = dict(self.shown(runner="kubernetes", options=JobOptions(lane="standby")).facts)
        assert facts["lane"] == "standby (a standby pod if one is free)"
        assert "spokejob" in facts
        assert "lane" not in dict(self.shown(options=JobOptions(lane="standby")).facts), "legacy has no lanes"

    @pytest.mark.parametrize(
        ("run", "words"), [(2, "2 (moved to a pod)"), (4, "4 (moved to a pod, retried by hand 2 times)")]
    )
    def test_a_job_that_moved_to_a_pod(self, run: int, words: str) -> None:
        facts = dict(self.shown(runner="kubernetes", run=run, options=JobOptions(lane="worker")).facts)
        assert (facts["lane"], facts["run"]) == ("pod, moved from worker", words)

    @pytest.mark.parametrize(
        ("attempts", "why"),
        [
            ([an_attempt(runner="kubernetes-worker", cause="OutOfMemory")], "OutOfMemory"),
            ([an_attempt(runner="kubernetes-worker", cause="JobError")], "no worker was free within 30 s"),
            ([], "no worker was free within 30 s"),
        ],
    )
    def test_why_it_moved(self, attempts: list[Attempt], why: str) -> None:
        job = a_job(runner="kubernetes", run=2, options=JobOptions(lane="worker", overflow_seconds=30))
        assert dict(job_details.details(job, attempts, NOW).facts)["lane"] == f"pod, moved from worker ({why})"

    def test_what_it_runs_after_is_a_tree(self) -> None:
        links = [
            Link(12, 9, "merge", JobState.RUNNING, 40),
            Link(12, 10, "merge", JobState.FAILED, 0, "JobError"),
            Link(9, 7, "import", JobState.SUCCEEDED, 100),
            Link(10, 7, "import", JobState.SUCCEEDED, 100),
            Link(7, 3, "fetch", JobState.SUCCEEDED, 100),
        ]
        shown = job_details.details(a_job(state=JobState.BLOCKED), [], NOW, links=links)
        found = [(depth, link and link.needs_id) for depth, link in shown.needs]
        assert found == [(0, 9), (1, 7), (2, 3), (0, 10), (1, 7)], "what two jobs depend on is opened once"

    def test_options(self) -> None:
        budget = {CauseClass.ERROR: 5, CauseClass.TIMEOUT: 1, CauseClass.OOM: 5}
        policy = RetryPolicy(budget=budget, never=(KeyError,))
        options = JobOptions(retry=policy, timeout_seconds=90, start_timeout_seconds=600, on_failure="tell")
        found = dict(self.shown(options=options).options)
        assert (found["timeout"], found["start timeout"], found["on failure"]) == ("1 min 30 s", "10 min", "tell")
        assert found["failed attempts"] == (
            "at most 5 with: errors of its code, too much memory; at most 1 with: a timeout; none after KeyError"
        )
        assert "template" not in found, "elsewhere it is ignored"

    def test_the_payload_is_shown_when_it_is_asked_for(self) -> None:
        assert "s3cr3t" not in str(self.shown().facts + self.shown().options) + self.shown().payload
        assert "s3cr3t" in job_details.details(a_job(), [], NOW, with_payload=True).payload

    def test_attempts_and_the_output_of_the_last_one_that_left_some(self) -> None:
        shown = self.shown()
        assert shown.attempts[0] == (
            *("1", "1", "failed", "host:1", "2026-03-01 11:59:30"),
            *("20 s", "JobError", "KeyError", "-", "-"),
        )
        assert (shown.tail_of, shown.tail) == (1, ("Traceback", "\\x1b[2JKeyError: 'a'"))

    def test_what_attempts_used_as_far_as_it_was_measured(self) -> None:
        attempts = [
            an_attempt(number=1, peak_memory_bytes=61_000_000, cpu_milliseconds=4_800, wall_milliseconds=5_000),
            an_attempt(number=2, wall_milliseconds=5_000),
            an_attempt(number=3, peak_memory_bytes=3 * 2**30),
        ]
        shown = job_details.details(a_job(), attempts, NOW)
        assert shown.used == ((1, "58 MiB of memory, 4.8 s of CPU time"), (3, "3,072 MiB of memory"))
        assert shown.measured == (("58 MiB", "4.8 s"), ("", ""), ("3,072 MiB", ""))

    def test_the_time_of_several_attempts_is_not_taken_for_that_of_one(self) -> None:
        def took(**changes: object) -> str:
            job = a_job(state=JobState.FAILED, started_at=before(seconds=75), finished_at=NOW, **changes)
            return dict(job_details.details(job, [], NOW).facts)["took"]

        assert took(attempt=1) == "1 min 15 s"
        assert took(attempt=2) == "1 min 15 s, from its first start, with the waits between attempts"
        assert took(attempt=1, run=2) == took(attempt=2)

    def test_why_a_job_with_attempts_left_was_not_tried_again(self) -> None:
        def said(*causes: str, state: JobState = JobState.FAILED) -> str | None:
            attempts = [
                an_attempt(
                    number=number,
                    state=AttemptState.FAILED,
                    finished_at=before(seconds=1),
                    cause=cause,
                    error_type="KeyError",
                )
                for number, cause in enumerate(causes, 1)
            ]
            job = a_job(state=state, cause=causes[-1], attempt=len(causes))
            return dict(job_details.details(job, attempts, NOW).facts).get("not tried again")

        assert said("JobError") == "KeyError is one of the errors after which the job fails for good"
        assert said("Drained", "JobError") == said("JobError")
        assert said("JobError", "JobError", "JobError") is None, "it had no attempt left"
        assert said("JobError", state=JobState.WAITING) is None
        assert said("Cancelled") is None

    def test_attempts_that_count_against_no_budget_are_named_apart(self) -> None:
        causes = {1: "JobError", 2: "Drained", 3: "Drained", 4: "QueueHeld"}
        attempts = [
            an_attempt(number=number, state=AttemptState.FAILED, finished_at=before(seconds=10), cause=cause)
            for number, cause in causes.items()
        ]
        attempts.append(an_attempt(run=2, state=AttemptState.FAILED, finished_at=before(seconds=1), cause="JobError"))
        assert dict(job_details.details(a_job(), attempts, NOW).facts)["not charged"] == "Drained 2, QueueHeld 1"
        assert "not charged" not in dict(job_details.details(a_job(run=2), attempts, NOW).facts)

    @pytest.mark.parametrize(("state", "said"), [(JobState.WAITING, "none yet"), (JobState.FAILED, "none")])
    def test_a_job_without_an_attempt(self, state: JobState, said: str) -> None:
        assert dict(job_details.details(a_job(state=state), [], NOW).facts)["attempt"] == said


class TestInTheCluster:
    def shown(
        self, spokejob: SpokeJob | None = None, problem: str = "", state: JobState = JobState.RUNNING
    ) -> job_details.Details:
        job = a_job(runner="kubernetes", state=state)
        attempts = [an_attempt(worker="pod-1", state=AttemptState.FAILED, finished_at=before(seconds=10))]
        view = ClusterView("report-12-00000000", "shop", spokejob, problem=problem)
        return job_details.details(job, attempts, NOW, view, zone=UTC)

    def test_pods_nodes_and_exit_codes_come_from_the_spokejob(self) -> None:
        seen = [
            {"number": 1, "job": "j-1", "pod": "pod-1", "node": "w1", "cause": "OutOfMemory", "exitCode": 137},
            {"number": 2, "job": "j-2", "pod": "pod-2", "node": "w2", "startedAt": before(seconds=5).isoformat()},
        ]
        shown = self.shown(a_spokejob({"outcome": "Waiting", "cause": "Unschedulable", "attempts": seen}))
        first, second = (dict(zip(job_details.ATTEMPT_HEADINGS, cells, strict=True)) for cells in shown.attempts)
        assert (first["NODE"], first["EXIT"], first["CAUSE"]) == ("w1", "137", "OutOfMemory")
        assert (second["STATE"], second["WORKER"], second["TOOK"]) == ("starting", "pod-2", "5 s")
        assert dict(shown.facts)["cluster"] == "Waiting: Unschedulable"

    def test_what_could_not_be_asked_is_said_and_the_ledger_s_word_is_there(self) -> None:
        shown = self.shown(problem="no answer from the API server: ConnectTimeoutError")
        assert dict(shown.facts)["cluster"].endswith("no answer from the API server: ConnectTimeoutError")
        assert shown.attempts[0][3] == "pod-1"
        assert "does not exist" in dict(self.shown().facts)["cluster"]

    def test_attempts_whose_pods_never_ran_are_counted(self) -> None:
        """The row has no number of theirs: only a claim writes it."""
        reports = [AttemptReport(1, number, "ImageUnavailable", "not found", "pod") for number in (1, 2, 3)]
        job = a_job(runner="kubernetes", state=JobState.FAILED, cause="ImageUnavailable")
        shown = job_details.details(job, [], NOW, reports=reports)
        assert [cells[1] for cells in shown.attempts] == ["1", "2", "3"]
        assert dict(shown.facts)["attempt"] == "3"
        assert dict(job_details.details(job.evolve(run=2), [], NOW, reports=reports).facts)["attempt"] == "none"

    def test_for_how_long_an_attempt_has_been_waiting_for_its_pod(self) -> None:
        seen = [{"number": 2, "job": "j-2", "pod": "pod-2", "startedAt": before(minutes=18).isoformat()}]

        def starting(outcome: str, state: JobState = JobState.WAITING) -> str:
            spokejob = a_spokejob({"outcome": outcome, "cause": "ImageUnavailable", "attempts": seen})
            shown = self.shown(spokejob, state=state)
            assert dict(shown.facts)["attempt"] == "2"
            return shown.starting

        assert starting("Waiting") == "attempt 2 has been waiting for its pod for 18 min"
        assert starting("Running") == "attempt 2 has been starting for 18 min"
        assert starting("Running", JobState.FAILED) == ""
        assert self.shown(state=JobState.WAITING).starting == ""
