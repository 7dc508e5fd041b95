"""examples/recipes/gunicorn: workers forked from a process that has dispatched already."""

from __future__ import annotations

import pytest
from tests.integration.recipes.stage import GUNICORN, MakeRecipe
from tests.waiting import eventually

from spoke_jobs.model import JobState

A_CONNECTION_EACH = {"Connection": "close"}


@pytest.mark.parametrize("same_process", [False, True], ids=["worker", "same process"])
def test_dispatched_before_and_after_the_fork_all_is_run(
    recipe: MakeRecipe, postgres_ledger_url: str, same_process: bool
) -> None:
    stage = recipe("gunicorn", postgres_ledger_url)
    with stage.served(*GUNICORN, JOBS_SAME_PROCESS="1" if same_process else "") as client:
        asked: list[int] = []

        def both_workers_have_answered() -> bool:
            asked.append(client.post("/", headers=A_CONNECTION_EACH).json())  # whichever worker is free takes it
            return len(set(asked)) == 2

        eventually(both_workers_have_answered)
        expected = sorted(["before the fork"] + [f"of {process}" for process in asked])
        if not same_process:
            assert {job.state for job in stage.jobs()} == {JobState.WAITING}
            stage.work()

        def lines() -> list[tuple[str, int]] | None:
            found = [(text, process) for text, process in client.get("/").json()]
            return found if len(found) >= 2 * len(expected) else None

        found = eventually(lines)
    for kind in ("job", "task"):
        assert sorted(text.removeprefix(f"{kind} ") for text, _ in found if text.startswith(kind)) == expected
    for text, process in found:
        if text.startswith("task of"):
            assert text == f"task of {process}", "a task runs in the process that dispatched it"
        elif text.startswith("task"):
            assert process not in asked
    jobs = stage.jobs()
    assert {(job.state, job.attempt) for job in jobs} == {(JobState.SUCCEEDED, 1)}
    assert len(jobs) == len(expected)
