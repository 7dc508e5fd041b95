"""The page *Queues and limits*, and the changes of limits, rates and pauses. These functions block."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial

from spoke_jobs.contract.limit_scopes import Scope, ScopeKind
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.limits.job_limit import KEEP, changed_bounds, parse_max_running, parse_scope
from spoke_jobs.model import ANY_JOB
from spoke_jobs.web import queue_views
from spoke_jobs.web.answers import LATER, Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.job_search import decoded
from spoke_jobs.web.query_values import whole_number
from spoke_jobs.web.queue_views import ENDS
from spoke_jobs.web.suggested_names import SuggestedNames
from spoke_jobs.web.viewer import JobAction, Viewer

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
            yield Acting(f"/limits/{word}", partial(self._act, change), JobAction.LIMIT)

    def _queues(self, viewer: Viewer, asked: Asked) -> Answer:
        which = viewer.narrowed()
        limits = self._queries.limits() if viewer.sees_all else ()
        names = self._suggested.of(viewer).types if viewer.changes_limits else ()
        counts = self._queries.queues(which, [item.limit for item in limits])
        view = queue_views.queue_page(counts, limits, names, viewer, asked.given.get("scope", ""))
        said = SAID.get(asked.given.get("said", ""), "")
        return Page("queues.html", {"title": "Queues and limits", "view": view, "said": said}, live=True)

    def _act(self, change: Callable[[Scope, Asked, str], str], viewer: Viewer, asked: Asked) -> Answer:
        if not viewer.changes_limits:
            text = "Limits and pauses concern the jobs of all organizations, and you may see those of some only."
            return refusal("Not allowed", text, 403, _HERE, "Back to queues and limits")
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
