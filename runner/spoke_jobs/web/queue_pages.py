"""The page *Queues and limits*, and the changes of limits, rates and pauses. These functions block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from spoke_jobs.contract.limit_scopes import FORMS, Scope, ScopeKind, in_words
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.explain.limit_texts import LIMIT_HEADINGS, limit_cells, pause_text
from spoke_jobs.explain.words import line, seconds
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.reading.queries import LimitState
from spoke_jobs.ledger.reading.queue_counts import EXAMINED, NEWEST_ATTEMPTS, STARTED_SECONDS, QueueCount, QueueCounts
from spoke_jobs.limits.job_limit import KEEP, NO_BOUNDS, LimitPause, changed_bounds, parse_max_running, parse_scope
from spoke_jobs.model import ANY_JOB
from spoke_jobs.web.answers import LATER, Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.job_search import address, decoded, encoded
from spoke_jobs.web.query_values import whole_number
from spoke_jobs.web.suggested_names import SuggestedNames
from spoke_jobs.web.view_parts import When, form_path, limit_id
from spoke_jobs.web.viewer import JobAction, Viewer

SHOWN = 200
"""The most queues that are shown, those with the most due jobs."""
ENDS = (("1", "in 1 hour"), ("4", "in 4 hours"), ("24", "in 1 day"), ("168", "in 7 days"),
        ("", "when somebody resumes it"))  # fmt: skip
"""When a pause ends: hours, and the text. The first one is what the form begins with: people forget pauses that do not
end by themselves."""


@dataclass(frozen=True, slots=True)
class ChangeLinks:
    """Links to the forms below, which then have a scope already. An address may be empty."""

    pause: str
    limit: str


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A queue."""

    name: str
    path: str
    """The address of its waiting jobs; empty for the jobs of no queue."""
    due: str
    later: str
    oldest: When | None
    running: str
    started: str
    locked_by: int | None
    """The job that holds its lock."""
    locked: When | None
    paused: str
    paused_since: When | None
    held: str
    """What pauses of other scopes do to most of its due jobs."""
    scope: str
    """Its scope for the form that resumes it, encoded; empty if the viewer may not."""
    change: ChangeLinks | None
    """None if the viewer may not change it."""


@dataclass(frozen=True, slots=True)
class LimitItem:
    """A limit, a rate or a pause."""

    cells: tuple[str, ...]
    row_id: str
    scope: str
    """Encoded, for forms."""
    paused: bool
    paused_since: When | None
    bounded: bool
    """Whether it has bounds that a reset can take away."""
    change: ChangeLinks | None
    """None if the viewer may not change it."""
    resuming: str
    """What happens to jobs once the pause ends; empty if it is not paused, or holds no due job."""


@dataclass(frozen=True, slots=True)
class QueuePage:
    """The page."""

    queues: tuple[QueueItem, ...]
    period: str
    """The period in which starts are counted."""
    notes: tuple[str, ...]
    shows_limits: bool
    """Limits concern the jobs of all organizations."""
    headings: tuple[str, ...]
    limits: tuple[LimitItem, ...]
    scopes: tuple[str, ...]
    """For completion."""
    can_change: bool
    scope: str = ""
    """What the forms have as their scope at first."""
    ends: tuple[tuple[str, str], ...] = ENDS
    scope_forms: str = in_words([f"`{form}`" for form in FORMS], "or")
    """What a scope may be, with backticks around code."""


def queue_page(
    counts: QueueCounts, limits: Sequence[LimitState], names: Iterable[str], viewer: Viewer, scope: str = ""
) -> QueuePage:
    """Describe queues and limits.

    :param limits: none for a viewer who does not see all jobs.
    :param names: types of recent jobs, for completion.
    :param scope: the scope that a link to the forms names; any text is valid.
    """
    can_change = viewer.changes_limits
    pauses = {
        str(item.limit.scope): pause for item in limits if (pause := item.limit.paused_at(counts.now)) is not None
    }
    shown = counts.queues[:SHOWN]
    notes = [f"The first {EXAMINED:,} waiting jobs were counted; there may be more."] if counts.more else []
    if counts.more_started:
        notes.append(f"Only the newest {NEWEST_ATTEMPTS:,} attempts were counted as started; there may be more.")
    if len(counts.queues) > SHOWN:
        notes.append(f"These are the {SHOWN} queues with the most due jobs, of {len(counts.queues):,}.")
    known = [str(item.limit.scope) for item in limits]
    known += [f"queue:{queue.name}" for queue in shown if queue.name] + [f"type:{name}" for name in names]
    return QueuePage(
        tuple(_queue(queue, pauses, counts.now, can_change=can_change) for queue in shown),
        seconds(STARTED_SECONDS),
        tuple(notes),
        viewer.sees_all,
        (*(heading.capitalize() for heading in LIMIT_HEADINGS), "Paused since"),
        tuple(_limit(item, counts, can_change=can_change) for item in limits),
        tuple(dict.fromkeys(known)),
        can_change,
        scope if can_change and line(scope) == scope and Scope.parse(scope) is not None else "",
    )


def _change(scope: str, *, paused: bool) -> ChangeLinks | None:
    pause, limit = (form_path(scope, form) for form in ("pause", "limit"))
    return ChangeLinks("" if paused else pause, limit) if limit else None


def _queue(queue: QueueCount, pauses: Mapping[str, LimitPause], now: datetime, *, can_change: bool) -> QueueItem:
    pause = pauses.get(f"queue:{queue.name}")
    return QueueItem(
        line(queue.name) or "(no queue)",
        address("/jobs", state="waiting", queue=queue.name) if queue.name else "",
        f"{queue.due:,}",
        f"{queue.later:,}",
        When.of(queue.oldest_at, now) if queue.oldest_at is not None else None,
        f"{queue.running:,}",
        f"{queue.started:,}",
        queue.lock.job_id if queue.lock is not None else None,
        When.of(queue.lock.since, now) if queue.lock is not None else None,
        pause_text(pause, now) if pause is not None else "",
        When.of(pause.since, now) if pause is not None else None,
        _held(queue, pauses, now) if pause is None else "",
        encoded(f"queue:{queue.name}") if can_change and queue.name else "",
        _change(f"queue:{queue.name}", paused=pause is not None) if can_change and queue.name else None,
    )


def _held(queue: QueueCount, pauses: Mapping[str, LimitPause], now: datetime) -> str:
    """Say which pause of another scope holds most of the queue's due jobs; empty if most are not held."""
    number = sum(count for _, count in queue.held)
    if not number or 2 * number < queue.due:
        return ""
    scope, count = queue.held[0]
    said = {ScopeKind.ALL: "everything", ScopeKind.TYPE: "its type", ScopeKind.ORGANIZATION: "its organization"}
    about = " ".join(word for word in (said.get(scope.kind, f"{scope.kind}"), line(scope.name)) if word)
    others = f"; other pauses hold {number - count:,}" if number > count else ""
    pause = pauses.get(str(scope))
    why = f": {pause_text(pause, now)}, for {seconds((now - pause.since).total_seconds())}" if pause else ""
    return f"{about} is paused, which holds {count:,} of {queue.due:,} due jobs{others}{why}"


def _limit(item: LimitState, counts: QueueCounts, *, can_change: bool) -> LimitItem:
    limit, pause = item.limit, item.limit.paused_at(counts.now)
    scope = str(limit.scope)
    return LimitItem(
        tuple(limit_cells(item, counts.now)),
        limit_id(scope),
        encoded(scope),
        pause is not None,
        When.of(pause.since, counts.now) if pause is not None else None,
        limit.bounds != (limit.default or NO_BOUNDS),
        _change(scope, paused=pause is not None) if can_change else None,
        _resuming(item, counts) if pause is not None else "",
    )


def _resuming(item: LimitState, counts: QueueCounts) -> str:
    """Say how many due jobs a pause holds back; empty if it holds none."""
    scope, most = item.limit.scope, item.limit.bounds.max_running
    held = sum(number for queue in counts.queues for each, number in queue.held if each == scope)
    if scope.kind is ScopeKind.QUEUE:
        held = sum(queue.due for queue in counts.queues if queue.name == scope.name)
    if not held:
        return ""
    jobs = f"{held:,}{'+' if counts.more else ''} due {'job' if held == 1 else 'jobs'}"
    return f"It holds back {jobs}, which may start once it ends{f', at most {most:,} at a time' if most else ''}."


_HERE = "/queues"
_NONE = "none"
_MOST_BURST = 1_000_000
SAID = {
    "paused": "You paused it. Running jobs go on.",
    "paused-unknown": "You paused it. None of the newest jobs has this name: look whether you mistyped it.",
    "resumed": "You ended the pause.",
    "not-paused": "It was not paused.",
    "set": "You changed the limit.",
    "set-unknown": "You changed the limit. None of the newest jobs has this name: look whether you mistyped it.",
    "reset": "You reset the limit to what the application or a file declares, or to none. A pause stays.",
}
"""What the page says after an action, by a word in its address. It stays for a while, so it says what was done, and not
what is so: somebody else may change that."""


class QueuePages:
    """Reads queues, and changes limits."""

    def __init__(
        self, queries: DashboardQueries, limits: SqlLimits, notify: Callable[[], None], suggested: SuggestedNames
    ) -> None:
        self._queries = queries
        self._limits = limits
        self._notify = notify
        self._suggested = suggested

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that this answers."""
        yield Reading(_HERE, self._queues, too_slow=LATER)
        for word, change in (
            ("pause", self._pause),
            ("resume", self._resume),
            ("set", self._set),
            ("reset", self._reset),
        ):
            yield Acting(f"/limits/{word}", partial(self._act, change), JobAction.LIMIT, of_all=True)

    def _queues(self, viewer: Viewer, asked: Asked) -> Answer:
        which = viewer.narrowed()
        limits = self._queries.limits() if viewer.sees_all else ()
        names = self._suggested.of(viewer).types if viewer.changes_limits else ()
        counts = self._queries.queues(which, [item.limit for item in limits])
        view = queue_page(counts, limits, names, viewer, asked.given.get("scope", ""))
        said = SAID.get(asked.given.get("said", ""), "")
        return Page("queues.html", {"title": "Queues and limits", "view": view, "said": said}, live=True)

    def _act(self, change: Callable[[Scope, Asked, str], str], viewer: Viewer, asked: Asked) -> Answer:
        given = asked.given.get("scope", "").strip() or decoded(asked.given.get("known_scope", ""))
        try:
            word = change(parse_scope(given), asked, actor_name(line(viewer.name)))
        except InvalidLimit as error:
            return refusal("Nothing was changed", line(str(error)), 400, _HERE, "Back to queues and limits")
        self._notify()
        return Redirect(f"{_HERE}?said={word}")

    def _pause(self, scope: Scope, asked: Asked, by: str) -> str:
        hours = asked.given.get("hours", "")
        if hours not in dict(ENDS):
            raise InvalidLimit("choose when the pause ends")
        until = self._queries.now() + timedelta(hours=int(hours)) if hours else None
        word = f"paused{self._unless_known(scope)}"  # before the change: an error here must not follow it
        self._limits.pause(scope, asked.given.get("reason", ""), by, until)
        return word

    def _resume(self, scope: Scope, _asked: Asked, by: str) -> str:
        return "resumed" if self._limits.resume(scope, by) else "not-paused"

    def _set(self, scope: Scope, asked: Asked, by: str) -> str:
        most, rate, burst = (asked.given.get(name, "").strip() for name in ("max_running", "rate", "burst"))
        if not (most or rate or burst):
            raise InvalidLimit("give a number of running jobs, a rate or a burst")
        number = whole_number(burst, 1, _MOST_BURST) if burst else None
        if burst and number is None:
            raise InvalidLimit(f"burst is {burst!r}: give a whole number from 1 to {_MOST_BURST:,}")
        new_most = parse_max_running(most) if most else KEEP
        new_rate = (None if rate == _NONE else rate) if rate else KEEP
        size = KEEP if number is None else number
        word = f"set{self._unless_known(scope)}"
        self._limits.set(scope, lambda old: changed_bounds(old, new_most, new_rate, size), by)
        return word

    def _reset(self, scope: Scope, _asked: Asked, by: str) -> str:
        if all(limit.scope != scope for limit in self._limits.all()):
            raise InvalidLimit(f"there is no limit {scope}")
        self._limits.reset(scope, by)
        return "reset"

    def _unless_known(self, scope: Scope) -> str:
        """Return what to add to the word if none of the newest jobs has the scope's name.

        They are read now: a name that is new since they were suggested is none that was mistyped.
        """
        names = self._queries.recent_names(ANY_JOB)
        known = {ScopeKind.TYPE: names.types, ScopeKind.QUEUE: names.queues}.get(scope.kind)
        prefix = scope.name.removesuffix("*") if scope.name.endswith(".*") else None
        if known is None or any(name == scope.name or (prefix and name.startswith(prefix)) for name in known):
            return ""
        return "-unknown"
