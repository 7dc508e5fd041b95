"""Draw what a job runs after and what runs after it, batches included, as an SVG image. Pure.

An arrow leads from what ends first to what starts then. Each box is in a column to the right of all that it waits for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from spoke_jobs.explain.words import agreeing, count, line
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.dependency_queries import Dependent, Link
from spoke_jobs.model import JobRequest
from spoke_jobs.web.job_search import address

COLUMNS_BEFORE = 3
"""How many columns there are before that of the job. Only a batch that it is in has two after it."""
ROWS = 6
"""The most boxes in a column."""
BOX_WIDTH, BOX_HEIGHT = 152, 44
_BETWEEN_COLUMNS, _BETWEEN_ROWS = 40, 12
_MARGIN = 3
_NAME_LIMIT = 20
_TEXT_LIMIT = 24

Key = tuple[str, int]
"""``job`` or ``batch``, and an id."""


@dataclass(frozen=True, slots=True)
class Box:
    """A job or a batch."""

    x: int
    y: int
    name: str
    text: str
    whole: str
    """All that the box says, without an end cut off."""
    state: str
    """A class of the style sheet."""
    path: str
    """The address of its page; empty of the job that the page is about."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """A line between two boxes, with its head."""

    line: str
    head: str
    """Both are paths of SVG."""


@dataclass(frozen=True, slots=True)
class Graph:
    """The drawing."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    note: str
    """What is not drawn; empty if all is."""
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class _Node:
    column: int
    """Negative before the job, positive after it."""
    name: str
    text: str
    state: str
    path: str


def dependency_graph(
    job: JobRequest,
    links: Sequence[Link],
    dependents: Sequence[Dependent] = (),
    batches: Sequence[Batch] = (),
    visible: Collection[int] = (),
    *,
    more: bool = False,
) -> Graph | None:
    """Draw what stands around a job; None if nothing does.

    :param links: what it depends on, directly or not, as far as the viewer may see all of the way.
    :param dependents: the jobs that depend on it directly, likewise.
    :param batches: those that it is in or follows, likewise.
    :param visible: those of the jobs that follow batches which the viewer may see.
    :param more: whether there are further jobs around it.
    """
    this = ("job", job.id)
    nodes: dict[Key, _Node] = {this: _Node(0, line(job.job_type), f"{job.id}: this job", job.state.value, "")}
    edges: dict[tuple[Key, Key], None] = {}
    columns = _columns_before(job.id, links)
    for link in links:
        nodes.setdefault(("job", link.needs_id), _job(-columns[link.needs_id], link.needs_id, link))
        edges[("job", link.needs_id), ("job", link.job_id)] = None
    for dependent in dependents:
        nodes.setdefault(("job", dependent.job_id), _job(1, dependent.job_id, dependent))
        edges[this, ("job", dependent.job_id)] = None
    for batch in batches:
        key = ("batch", batch.id)
        follows = batch.then_id == job.id
        nodes[key] = _batch(batch, -1 if follows else 1)
        edges[(key, this) if follows else (this, key)] = None
        if not follows and batch.then_id in visible and batch.then_id is not None:
            then = ("job", batch.then_id)
            follower = _Node(2, f"job {batch.then_id}", "follows the batch", "", f"/jobs/{batch.then_id}")
            nodes[then] = replace(nodes.get(then, follower), column=2)
            edges[key, then] = None
    return _drawn(nodes, list(edges), more=more) if len(nodes) > 1 else None


def _columns_before(job_id: int, links: Sequence[Link]) -> Mapping[int, int]:
    """Return how many columns before the job each job that it depends on is. Ids of dependencies are lower."""
    columns = {job_id: 0}
    for link in sorted(links, key=lambda each: -each.job_id):
        columns[link.needs_id] = max(columns.get(link.needs_id, 1), columns.get(link.job_id, 0) + 1)
    return columns


def _job(column: int, job_id: int, about: Link | Dependent) -> _Node:
    state = about.state.value
    said = f"{state}, {about.percent} %" if state == "running" else state
    return _Node(column, line(about.job_type), f"{job_id}: {said}", state, f"/jobs/{job_id}")


def _batch(batch: Batch, column: int) -> _Node:
    said = f"{batch.succeeded + batch.failed:,} of {batch.total:,} ended"
    name = f"batch {batch.id}" + (f": {line(batch.name)}" if batch.name else "")
    return _Node(column, name, said, "failed" if batch.failed else batch.state, address("/batches", id=batch.id))


def _drawn(nodes: Mapping[Key, _Node], edges: Sequence[tuple[Key, Key]], *, more: bool) -> Graph:
    by_column: dict[int, list[Key]] = {}
    for key, node in nodes.items():
        if node.column >= -COLUMNS_BEFORE:
            by_column.setdefault(node.column, []).append(key)
    kept = {
        column: sorted(keys, key=lambda key: _order(key, nodes[key]))[:ROWS]
        for column, keys in sorted(by_column.items())
    }
    rows = max(map(len, kept.values()))
    places: dict[Key, tuple[int, int]] = {}
    for at, keys in enumerate(kept.values()):
        top = _MARGIN + (rows - len(keys)) * (BOX_HEIGHT + _BETWEEN_ROWS) // 2
        for row, key in enumerate(keys):
            x = _MARGIN + at * (BOX_WIDTH + _BETWEEN_COLUMNS)
            places[key] = (x, top + row * (BOX_HEIGHT + _BETWEEN_ROWS))
    left_out = len(nodes) - len(places)
    return Graph(
        2 * _MARGIN + len(kept) * (BOX_WIDTH + _BETWEEN_COLUMNS) - _BETWEEN_COLUMNS,
        2 * _MARGIN + rows * (BOX_HEIGHT + _BETWEEN_ROWS) - _BETWEEN_ROWS,
        tuple(_box(nodes[key], *place) for key, place in places.items()),
        tuple(_arrows(edges, places)),
        _note(left_out, more=more),
    )


def _note(left_out: int, *, more: bool) -> str:
    if more:
        return f"More than {left_out:,} further jobs are not drawn."
    return f"{count(left_out, 'further job')} {agreeing(left_out, 'is', 'are')} not drawn." if left_out else ""


def _order(key: Key, node: _Node) -> tuple[bool, bool, int]:
    """Order a column: batches, then jobs, those that have succeeded last, and otherwise the newest first."""
    return key[0] == "job", node.state == "succeeded", -key[1]


def _box(node: _Node, x: int, y: int) -> Box:
    whole = f"{node.name}, {node.text}"
    return Box(x, y, line(node.name, _NAME_LIMIT), line(node.text, _TEXT_LIMIT), whole, node.state, node.path)


def _arrows(edges: Sequence[tuple[Key, Key]], places: Mapping[Key, tuple[int, int]]) -> Iterator[Arrow]:
    for before, after in edges:
        if before in places and after in places:
            (x, y), (to_x, to_y) = places[before], places[after]
            x, y, to_y = x + BOX_WIDTH, y + BOX_HEIGHT // 2, to_y + BOX_HEIGHT // 2
            bend = _BETWEEN_COLUMNS // 2
            yield Arrow(
                f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}",
                f"M{to_x - 7} {to_y - 4}L{to_x} {to_y}L{to_x - 7} {to_y + 4}Z",
            )
