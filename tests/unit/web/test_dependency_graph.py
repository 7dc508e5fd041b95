"""The drawing of what a job runs after and what runs after it."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.explain.situations import NOW, a_job

from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.dependency_queries import Dependent, Link
from spoke_jobs.model import JobState
from spoke_jobs.web.dependency_graph import BOX_HEIGHT, BOX_WIDTH, COLUMNS_BEFORE, ROWS, Box, Graph, dependency_graph

THIS = a_job(id=50)


def link(job_id: int, needs_id: int, state: JobState = JobState.WAITING, job_type: str = "load") -> Link:
    return Link(job_id, needs_id, job_type, state, 40)


def dependent(job_id: int, state: JobState = JobState.BLOCKED) -> Dependent:
    return Dependent(job_id, "mail", state, 0)


def a_batch(**changes: Any) -> Batch:
    return Batch(**{"id": 7, "name": "invoices", "total": 5, "succeeded": 2, "created_at": NOW} | changes)


def drawn(*args: Any, **options: Any) -> Graph:
    graph = dependency_graph(THIS, *args, **options)
    assert graph is not None
    return graph


def boxes(graph: Graph) -> dict[str, Box]:
    """By the ids that they name."""
    return {re.findall(r"\d+", box.whole)[0]: box for box in graph.boxes}


def arrows(graph: Graph) -> set[tuple[str, str]]:
    """Which box each arrow leaves and which it reaches."""
    right = {(box.x + BOX_WIDTH, box.y + BOX_HEIGHT // 2): name for name, box in boxes(graph).items()}
    left = {(box.x, box.y + BOX_HEIGHT // 2): name for name, box in boxes(graph).items()}
    found = set()
    for arrow in graph.arrows:
        numbers = list(map(int, re.findall(r"-?\d+", arrow.line)))
        assert f"L{numbers[-2]} {numbers[-1]}L" in arrow.head
        found.add((right[numbers[0], numbers[1]], left[numbers[-2], numbers[-1]]))
    return found


def test_a_job_that_stands_alone_is_not_drawn() -> None:
    assert dependency_graph(THIS, []) is None


def test_what_is_before_stands_on_the_left_and_what_is_after_on_the_right() -> None:
    graph = drawn([link(50, 40), link(50, 41, JobState.RUNNING), link(40, 30)], [dependent(60)])
    found = boxes(graph)
    assert arrows(graph) == {("40", "50"), ("41", "50"), ("30", "40"), ("50", "60")}
    assert found["30"].x < found["40"].x == found["41"].x < found["50"].x < found["60"].x
    assert found["41"].whole == "load, 41: running, 40 %"
    assert (found["41"].state, found["41"].path) == ("running", "/jobs/41")
    assert (found["50"].whole, found["50"].path) == ("report, 50: this job", "")
    assert graph.note == ""


def test_a_job_stands_to_the_right_of_all_that_it_waits_for() -> None:
    """Also of what it waits for directly and by way of another job."""
    graph = drawn([link(50, 40), link(50, 30), link(40, 30)])
    found = boxes(graph)
    assert found["30"].x < found["40"].x < found["50"].x
    assert arrows(graph) == {("40", "50"), ("30", "50"), ("30", "40")}


def test_batches_are_between_their_jobs_and_what_follows() -> None:
    follows = drawn([], [], [a_batch(then_id=50, failed=1)])
    assert arrows(follows) == {("7", "50")}
    assert boxes(follows)["7"].whole == "batch 7: invoices, 3 of 5 ended"
    assert (boxes(follows)["7"].path, boxes(follows)["7"].state) == ("/batches?id=7", "failed")
    member = drawn([], [], [a_batch(then_id=60)], {60})
    assert arrows(member) == {("50", "7"), ("7", "60")}
    assert boxes(member)["60"].path == "/jobs/60"
    assert arrows(drawn([], [], [a_batch(then_id=60)])) == {("50", "7")}, "that job may be of others"
    both = drawn([], [dependent(60)], [a_batch(then_id=60)], {60})
    assert arrows(both) == {("50", "60"), ("50", "7"), ("7", "60")}
    assert boxes(both)["60"].whole == "mail, 60: blocked"


def test_long_names_are_cut_in_the_box_alone() -> None:
    (box,) = [box for box in drawn([link(50, 40, job_type="x" * 500)]).boxes if box.path]
    assert len(box.name) <= 20
    assert box.whole.startswith("x" * 500)


def test_of_many_the_most_important_ones_are_drawn() -> None:
    ended = [link(50, number, JobState.SUCCEEDED) for number in range(10, 40)]
    graph = drawn([*ended, link(50, 5), link(50, 6, JobState.FAILED)], [dependent(number) for number in range(60, 100)])
    assert {"5", "6", "39", "38"} <= boxes(graph).keys()
    assert len(graph.boxes) == 1 + 2 * ROWS
    assert graph.note == f"{32 + 40 - 2 * ROWS} further jobs are not drawn."
    assert drawn([link(50, 40)], more=True).note == "More than 0 further jobs are not drawn."
    chain = drawn([link(number + 1, number) for number in range(49, 29, -1)])
    assert len(chain.boxes) == 1 + COLUMNS_BEFORE
    assert chain.note == f"{20 - COLUMNS_BEFORE} further jobs are not drawn."


LINKS = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=60)


@given(LINKS, st.lists(st.integers(51, 99), max_size=60, unique=True))
def test_whatever_is_read_no_boxes_overlap_and_all_are_within_the_image(
    pairs: list[tuple[int, int]], after: list[int]
) -> None:
    """Also if other code has written rows that no dispatch writes."""
    graph = dependency_graph(THIS, [link(*pair) for pair in pairs], [dependent(number) for number in after])
    if graph is None:
        return
    places = [(box.x, box.y) for box in graph.boxes]
    assert len(set(places)) == len(places)
    rows = {y for x, y in places if x == places[0][0]}
    assert all(abs(one - other) >= BOX_HEIGHT for one in rows for other in rows if one != other)
    assert all(0 <= x <= graph.width - BOX_WIDTH and 0 <= y <= graph.height - BOX_HEIGHT for x, y in places)
    assert len(graph.boxes) <= (COLUMNS_BEFORE + 2) * ROWS
    assert sum(not box.path for box in graph.boxes) == 1
