"""What `logs` prints next: pure. It goes from attempt to attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from spoke_jobs.cli.explaining.reasons import CLUSTER
from spoke_jobs.cli.explaining.tries import Try
from spoke_jobs.cli.words import line, lines
from spoke_jobs.model import JobRequest

Key = tuple[int, int]
"""An attempt's run and number."""


class Read(Enum):
    """What came of reading a pod's output."""

    ALL = auto()
    """It was printed to its end."""
    SOME = auto()
    """The connection ended, and the container goes on."""
    NOT_STARTED = auto()
    GONE = auto()
    REFUSED = auto()
    AWAY = auto()
    """The API server, or the pod's node, does not answer."""


class Step(Enum):
    """What to do with an attempt."""

    READ = auto()
    """Its pod may have something to print."""
    TAIL = auto()
    """Print what the ledger keeps."""
    WAIT = auto()
    """There is nothing of it at the moment."""
    DONE = auto()
    """All that can be had was printed."""


@dataclass
class Progress:
    """How far one has come."""

    first: Key | None = None
    """The attempt to begin with."""
    last: Key | None = None
    """That to end with; None for the job's end."""
    done: set[Key] = field(default_factory=set)
    after: dict[Key, str] = field(default_factory=dict)
    """When the last printed line of an attempt was printed."""
    blind: bool = False
    """Whether pods' output is not to be had."""


def key(item: Try) -> Key:
    """What an attempt is known by."""
    return item.run, item.number


def chosen(found: Sequence[Try], job: JobRequest, number: int | None) -> Try | None:
    """The attempt of the job's run that is asked for; the newest, if none is."""
    mine = [item for item in found if item.run == job.run]
    return next((item for item in reversed(mine) if number in (None, item.number)), None)


def next_try(found: Sequence[Try], progress: Progress) -> Try | None:
    """The first attempt that isn't done with."""
    for item in found:
        early = progress.first is not None and key(item) < progress.first
        late = progress.last is not None and key(item) > progress.last
        if key(item) not in progress.done and not early and not late:
            return item
    return None


def over(job: JobRequest, found: Sequence[Try], progress: Progress) -> bool:
    """Whether nothing more will come."""
    if progress.last is not None and progress.last in progress.done:
        return True
    return job.state.final and next_try(found, progress) is None


def begin(job: JobRequest, item: Try, progress: Progress) -> Step:
    """What to do with the attempt first."""
    if job.runner == CLUSTER and item.worker and not progress.blind:
        return Step.READ
    return Step.TAIL if _has_ended(job, item) else Step.WAIT


def go_on(job: JobRequest, item: Try, progress: Progress, read: Read) -> Step:
    """What to do with it once its pod was read, so far as that went."""
    if read is Read.ALL:
        return Step.DONE
    if read is Read.SOME:
        return Step.READ
    if read is Read.GONE and key(item) in progress.after:
        return Step.DONE  # what it had printed was read as it came
    return Step.TAIL if _has_ended(job, item) else Step.WAIT


def tail(item: Try) -> list[str]:
    """What the ledger keeps of an attempt's output."""
    return lines(item.row.output_tail) if item.row else []


def why_a_tail(job: JobRequest, item: Try, read: Read | None, kept: Sequence[str]) -> str:
    """Why the ledger's tail is printed, and not all that the attempt has printed."""
    worker = line(item.worker)
    if job.runner != CLUSTER:
        where = f"its worker, {worker}, writes what jobs print to its own output"
    elif read in (Read.REFUSED, Read.AWAY, None) and worker:
        where = f"the output of its pod, {worker}, can't be read from here"
    else:
        where = f"its pod, {worker}, is gone" if worker else "it had no pod"
    what = "the last lines of its traceback follow, from the ledger" if kept else "the ledger keeps none of it"
    return f"attempt {item.number}: {where}; {what}"


def _has_ended(job: JobRequest, item: Try) -> bool:
    """Whether the ledger has all that it will have of it."""
    return job.state.final or (item.row.finished_at if item.row else item.ended_at) is not None
