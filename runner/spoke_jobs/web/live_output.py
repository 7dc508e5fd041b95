"""What the page of a job shows of its output: while an attempt runs, and after it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spoke_jobs.cluster.cluster_view import PodTail
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.names import is_object_name
from spoke_jobs.explain import kept_output
from spoke_jobs.explain.tries import Try
from spoke_jobs.explain.words import line, lines
from spoke_jobs.model import AttemptState, JobRequest, JobState

SHOWN_LINES = 200
"""The most lines of a running attempt that are shown."""
ENDED_LINES = 40
"""The same of an ended one: of each container, and of the traceback."""
LINE_LIMIT = 2_000
"""Of a longer line, its last characters are shown: a progress bar writes all its states into one."""
OUTPUT_LIMIT = 64_000
"""The most characters that are shown, escapes included."""
_PROBLEM_LIMIT = 300
AGAIN_SECONDS = 3
"""After how long browsers read the output of a running attempt again."""
AFTER_PROBLEM_SECONDS = 15
"""The same if it could not be read."""
NOT_NAMED = "its SpokeJob does not name it yet"


@dataclass(frozen=True, slots=True)
class ShownOutput:
    """The last lines of one attempt's output."""

    title: str
    lines: tuple[str, ...] = ()
    note: str = ""
    """Where the rest is, or why there are no lines."""
    runs: bool = False
    """Whether the attempt runs, so that browsers read its output again."""
    again_seconds: int = AGAIN_SECONDS
    """After how long."""


def running_pod(job: JobRequest, found: Sequence[Try]) -> str:
    """Return the name of the pod that runs the job now; empty if none does, or its SpokeJob does not name it.

    The ledger names a pod, too. But jobs may write that name, and could name the pod of another organization's job.
    """
    item = _running(job, found)
    if item is None or item.seen is None or item.executor(job) is not Executor.CLUSTER:
        return ""
    return item.seen.pod if is_object_name(item.seen.pod) else ""


def shown_output(job: JobRequest, found: Sequence[Try], pod: PodTail | None = None) -> ShownOutput:
    """Describe the output of the attempt that runs, or of the newest one of which the ledger keeps some.

    :param pod: what the pod of the running attempt has printed last, if it has one.
    """
    item = _running(job, found)
    if item is not None:
        return _of_running(job, item, pod)
    item = next((each for each in reversed(found) if kept_output.tail(each)), None)
    if item is None:
        return ShownOutput("Output", note="The ledger has none of its output.")
    earlier = ", an earlier one" if item.number < job.attempt else ""
    return ShownOutput(f"Last output, of attempt {item.number}{earlier}", last(kept_output.tail(item, ENDED_LINES)))


def _running(job: JobRequest, found: Sequence[Try]) -> Try | None:
    newest = found[-1] if found else None
    runs = newest is not None and newest.run == job.run and newest.state == AttemptState.RUNNING
    return newest if runs and job.state is JobState.RUNNING else None


def _of_running(job: JobRequest, item: Try, pod: PodTail | None) -> ShownOutput:
    title, worker = f"Output of attempt {item.number} so far", line(item.worker)
    if item.executor(job) is not Executor.CLUSTER:
        kept = last(kept_output.traceback(item))
        rest = f"All of it is in the log of its worker, {worker}, which stores the last lines every 2 s."
        none = f"The ledger has none of it yet. It is in the log of its worker, {worker}."
        return ShownOutput(title, kept, rest if kept else none, runs=True)
    if pod is None or pod.problem:
        why = line(pod.problem, _PROBLEM_LIMIT) if pod is not None else NOT_NAMED
        note = f"The output of its pod, {worker}, could not be read: {why}"
        return ShownOutput(title, note=note, runs=True, again_seconds=AFTER_PROBLEM_SECONDS if pod else AGAIN_SECONDS)
    printed = last(part for text in pod.lines for part in _parts(text))
    note = f"These are the last lines of its pod, {worker}." if printed else "It has printed nothing yet."
    return ShownOutput(title, printed, note, runs=True)


def _parts(text: str) -> list[str]:
    """Split a printed line where a terminal would begin another one, with escapes for control characters."""
    cut = len(text) > LINE_LIMIT
    parts = lines(text[-LINE_LIMIT:])
    return [f"…{part}" if cut and at == 0 else part for at, part in enumerate(parts)] or [""]


def last(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the last lines, within :data:`SHOWN_LINES` and :data:`OUTPUT_LIMIT`."""
    kept: list[str] = []
    room = OUTPUT_LIMIT
    for text in reversed([*texts][-SHOWN_LINES:]):
        if len(text) > room:
            kept += [f"…{text[len(text) - room :]}"] if room else []
            break
        kept.append(text)
        room -= len(text)
    return tuple(reversed(kept))
