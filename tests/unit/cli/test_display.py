"""What a person reads on a terminal: pure up to rich's own drawing."""

from __future__ import annotations

import pytest
from rich.console import Console, RenderableType
from tests.unit.explain.situations import NOW, a_job, after, before

from spoke_jobs.cli.rendering import details_output, job_table, progress_view
from spoke_jobs.explain import job_details
from spoke_jobs.ledger.reading.dependency_queries import Link
from spoke_jobs.model import JobState


def drawn(what: RenderableType, width: int) -> list[str]:
    """What a terminal so wide shows."""
    console = Console(width=width, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        console.print(what)
    return [line.rstrip() for line in capture.get().splitlines()]


JOBS = [
    a_job(id=31415, job_type="import_contacts_of_an_organization", queue_name="organization:1:contacts"),
    a_job(id=2, state=JobState.RUNNING, status=42, attempt=1, started_at=before(seconds=30), result_message="half-way"),
    a_job(id=3, state=JobState.FAILED, status=-1, attempt=3, cause="InvalidPayload", result_message="no name"),
]


def test_what_a_job_runs_after_is_drawn_as_a_tree() -> None:
    def needs(job: int, number: int, state: JobState = JobState.SUCCEEDED) -> Link:
        return Link(job, number, "clean", state, 40)

    links = [needs(9, 7), needs(9, 8), needs(7, 3), needs(7, 4), needs(3, 1, JobState.RUNNING)]
    assert drawn(details_output.needs_tree([*job_details.tree(9, links), (0, None)]), 60) == [
        "job 7  clean  succeeded",
        "├── job 3  clean  succeeded",
        "│   └── job 1  clean  running, 40 %",
        "└── job 4  clean  succeeded",
        "job 8  clean  succeeded",
        "... and more than 200 in all",
    ]


class TestJobTable:
    @pytest.mark.parametrize("width", [60, 80, 100, 140])
    def test_ids_states_and_causes_are_whole_at_any_width(self, width: int) -> None:
        lines = drawn(job_table.job_table(JOBS, NOW, ages=True, width=width), width)
        assert len(lines) == 4
        assert max(map(len, lines)) <= width
        for words in (("31415", "waiting"), ("running",), ("failed", "InvalidPayload")):
            assert any(all(word in line for word in words) for line in lines)

    def test_a_wide_terminal_shows_all(self) -> None:
        lines = drawn(job_table.job_table(JOBS, NOW, ages=True, width=200), 200)
        assert lines[0].split() == list(job_table.HEADINGS)
        assert "import_contacts_of_an_organization  organization:1:contacts" in lines[1]

    def test_when_it_is_due_and_that_it_was_asked_to_stop(self) -> None:
        assert job_table.result_text(a_job(run_after=after(minutes=5)), NOW) == "due in 5 min"
        stopping = a_job(state=JobState.RUNNING, cancel_requested_at=NOW, result_message="half-way")
        assert job_table.result_text(stopping, NOW) == "asked to stop: half-way"


class TestProgressView:
    def test_a_small_screen_shows_what_runs_or_failed(self) -> None:
        jobs = [a_job(id=number, state=JobState.SUCCEEDED) for number in range(1, 6)]
        jobs += [a_job(id=6, state=JobState.FAILED), a_job(id=7, state=JobState.RUNNING), a_job(id=8)]
        shown = progress_view.progress_view(jobs, 3)
        assert [job.id for job in shown.shown] == [6, 7, 8]
        assert shown.summary == "1 waiting, 1 running, 5 succeeded, 1 failed; 5 not shown"
        assert len(progress_view.progress_view(jobs, 20).shown) == 8

    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_it_is_as_wide_as_the_terminal_and_says_how_far_each_is(self, width: int) -> None:
        lines = drawn(progress_view.render(progress_view.progress_view(JOBS, 10), NOW, width), width)
        assert max(map(len, lines)) <= width
        for words in (("42 %", "running", "half-"), ("failed", "Invalid"), ("1 waiting, 1 running, 1 failed",)):
            assert any(all(word in line for word in words) for line in lines), lines

    def test_only_news_is_told(self) -> None:
        first = a_job(state=JobState.RUNNING, status=1)
        assert progress_view.changes([], [first]) == [first]
        assert progress_view.changes([first], [first.evolve(updated_at=NOW)]) == []
        further = first.evolve(status=2)
        assert progress_view.changes([first], [further]) == [further]
        assert progress_view.change_line(further, NOW).split("\t")[:5] == [
            *("2026-03-01T12:00:00Z", "12", "report"),
            *("running", "2"),
        ]
