"""Decide what `logs` prints next, attempt by attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from spoke_jobs.contract.executors import Executor
from spoke_jobs.explain.tries import Try
from spoke_jobs.explain.words import line
from spoke_jobs.model import JobRequest

Key = tuple[int, int]
"""An attempt's run and number."""


class Read(Enum):
    """The result of reading a pod's output."""

    ALL = auto()
    """All of it was printed."""
    SOME = auto()
    """The connection ended while the container runs."""
    NOT_STARTED = auto()
    GONE = auto()
    REFUSED = auto()
    AWAY = auto()
    """The API server, or the pod's node, does not answer."""


class Step(Enum):
    """What to do next with an attempt."""

    READ = auto()
    """Read its pod."""
    TAIL = auto()
    """Print the tail that the ledger keeps."""
    WAIT = auto()
    """Nothing is available yet."""
    DONE = auto()
    """Everything that is available was printed."""


@dataclass
class Printed:
    """What was printed so far."""

    first: Key | None = None
    """The first attempt to print."""
    last: Key | None = None
    """The last attempt to print; None to go on until the job's end."""
    done: set[Key] = field(default_factory=set)
    after: dict[Key, str] = field(default_factory=dict)
    """The time of the last printed line, by attempt."""
    blind: bool = False
    """Whether the output of pods can't be read."""
    lines: dict[Key, list[str]] = field(default_factory=dict)
    """The last lines of a worker's job that were printed, by attempt."""


def key(item: Try) -> Key:
    """Return the key of an attempt."""
    return item.run, item.number


def chosen(found: Sequence[Try], job: JobRequest, number: int | None) -> Try | None:
    """Choose an attempt of the job's run by its number, or the newest."""
    mine = [item for item in found if item.run == job.run]
    return next((item for item in reversed(mine) if number in (None, item.number)), None)


def next_try(found: Sequence[Try], printed: Printed) -> Try | None:
    """Return the first attempt that is not done."""
    for item in found:
        early = printed.first is not None and key(item) < printed.first
        late = printed.last is not None and key(item) > printed.last
        if key(item) not in printed.done and not early and not late:
            return item
    return None


def over(job: JobRequest, found: Sequence[Try], printed: Printed) -> bool:
    """Whether there is nothing more to print."""
    if printed.last is not None and printed.last in printed.done:
        return True
    return job.state.final and next_try(found, printed) is None


def begin(job: JobRequest, item: Try, printed: Printed) -> Step:
    """Decide the first step of an attempt."""
    if item.executor(job) is Executor.CLUSTER and item.worker and not printed.blind:
        return Step.READ
    return Step.TAIL if _has_ended(job, item) else Step.WAIT


def go_on(job: JobRequest, item: Try, printed: Printed, read: Read) -> Step:
    """Decide the next step after the attempt's pod was read."""
    if read is Read.ALL:
        return Step.DONE
    if read is Read.SOME:
        return Step.READ
    if read is Read.GONE and key(item) in printed.after:
        return Step.DONE  # its output was printed while it ran
    return Step.TAIL if _has_ended(job, item) else Step.WAIT


def after(printed: Sequence[str], now: Sequence[str]) -> tuple[list[str], bool]:
    """Return the lines of an attempt's tail that follow those printed before, and whether lines between are missing.

    The ledger keeps only the last lines, so a tail may begin anywhere in the output.
    """
    for count in range(min(len(printed), len(now)), 0, -1):
        if list(printed[-count:]) == list(now[:count]):
            return list(now[count:]), False
    return list(now), bool(printed) and bool(now)


def why_a_tail(job: JobRequest, item: Try, read: Read | None, kept: Sequence[str]) -> str:
    """Explain why only the ledger's tail is printed."""
    worker = line(item.worker)
    of_worker = item.executor(job) is not Executor.CLUSTER
    if of_worker:
        where = f"all that it printed is in the log of its worker, {worker}"
    elif read in (Read.REFUSED, Read.AWAY, None) and worker:
        where = f"the output of its pod, {worker}, can't be read from here"
    else:
        where = f"its pod, {worker}, is gone" if worker else "it had no pod"
    of = "each container's output" if item.outputs else "its traceback"
    if of_worker:
        of = "its output"
    what = f"the last lines of {of} follow, from the ledger" if kept else "the ledger has none of its output"
    return f"attempt {item.number}: {where}; {what}"


def _has_ended(job: JobRequest, item: Try) -> bool:
    """Whether the ledger will record nothing more of this attempt."""
    return job.state.final or (item.row.finished_at if item.row else item.ended_at) is not None
