"""Refusals of what stands in front of a task server, such as an ingress: which concern one task, what they say. Pure.

The same page may mean that nothing can be sent now, or that this one task is refused, for example because of a limit on
the size of bodies. A refusal counts against a task only if others got through since its last one. So an outage of a
proxy loses no task, however many there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.shared.clean_text import visible_in_a_line

REFUSED = frozenset({400, 403, 413, 415, 422})
"""Statuses of requests that may be refused for what they contain."""
LONGEST_SECONDS = 3600.0
"""How long a task is sent again that is refused while no other task gets through."""
READ_BYTES = 4_096
"""How much of an answer is read."""
_TEXT_LIMIT = 120
_MARKUP = re.compile(r"<!--.*?(?:-->|$)|<(script|style)\b.*?(?:</\1[^>]*>?|$)|<[^>]*(?:>|$)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a task has met so far."""

    count: int = 0
    """How many of them were of this task and not of all."""
    first_at: float = 0.0
    last_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A further refusal, and what follows."""

    refusals: Refusals
    counted: bool
    for_good: bool


def refused_again(before: Refusals | None, now: float, dispatched_at: float, others_at: float, most: int) -> Refused:
    """Decide what follows a refusal of a request with one task.

    :param before: its refusals so far; None if there is none.
    :param others_at: when the same replica last acknowledged another task.
    :param most: how many counted refusals end the task.
    """
    last_at = before.last_at if before is not None else dispatched_at
    counted = others_at > last_at
    first_at = before.first_at if before is not None else now
    count = (before.count if before is not None else 0) + counted
    return Refused(Refusals(count, first_at, now), counted, count >= most or now - first_at >= LONGEST_SECONDS)


def first_line(body: bytes) -> str:
    """Return the first line of an answer that is no markup, shortened; empty if there is none."""
    text = _MARKUP.sub("\n", body.decode(errors="replace"))
    lines = (" ".join(line.split()) for line in text.replace(">", "").splitlines())
    return visible_in_a_line(next((line for line in lines if line), ""))[:_TEXT_LIMIT]


def refusal_text(status: int, body: bytes) -> str:
    """Describe an answer by its status and its first line."""
    said = first_line(body)
    return f'{status} "{said}"' if said else f"{status}"


def failure_text(refusals: Refusals, answer: str) -> str:
    """Say why a task has failed for good."""
    times = f"{refusals.count} times" if refusals.count else f"for {LONGEST_SECONDS / 60:.0f} min"
    return f"{TaskCause.REFUSED_BY_PROXY}, something in front of the task server refused it {times}, last with {answer}"
