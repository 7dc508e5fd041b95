"""What happens to SpokeJobs, as it happens: a thread that watches, and the box where the loop finds it.

The watch only makes things prompt. It is started from a listing's version, goes on from the last one it heard of
whenever it ends, and asks for a new listing when that is too old; whatever it misses the next compare finds.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.contract.api_errors import ApiError, Gone
from spoke_jobs.contract.backoff import Backoff
from spoke_jobs.sync.sync_model import SpokeJobView, read_view

logger = logging.getLogger(__name__)

WATCH_SECONDS = 60
"""How long one watch may last; one that ends in silence is noticed by then."""
_BACKOFF = Backoff(base=0.5, maximum=10.0)


class Inbox:
    """The newest word on each SpokeJob since the box was last emptied. Safe between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._news: dict[str, tuple[SpokeJobView, bool]] = {}
        self._gap = False
        self._notified = False
        self.last_word = clock()
        """When the watch was last heard, bookmarks included."""

    def put(self, seen: SpokeJobView, *, deleted: bool) -> None:
        """A SpokeJob was created, changed or deleted."""
        with self._changed:
            self._news[seen.name] = (seen, deleted)
            self._changed.notify_all()

    def heard(self) -> None:
        """The watch is alive."""
        self.last_word = self._clock()

    def lost_track(self) -> None:
        """Something may have been missed: a new listing is needed."""
        with self._changed:
            self._gap = True
            self._changed.notify_all()

    def notify(self) -> None:
        """Somebody has dispatched a job."""
        with self._changed:
            self._notified = True
            self._changed.notify_all()

    def take_notified(self) -> bool:
        """Whether somebody has notified since this was last asked."""
        with self._changed:
            notified, self._notified = self._notified, False
            return notified

    def wait(self, seconds: float) -> None:
        """Until there is news, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._gap or self._notified, seconds)

    def take(self) -> tuple[list[tuple[SpokeJobView, bool]], bool]:
        """The news, each with whether it is of a deletion, and whether a new listing is needed."""
        with self._changed:
            news, self._news = list(self._news.values()), {}
            gap, self._gap = self._gap, False
            return news, gap


class Watcher:
    """The thread. It begins to watch once it is told a version to go on from."""

    def __init__(self, spokejobs: SpokeJobClient, inbox: Inbox) -> None:
        self._spokejobs = spokejobs
        self._inbox = inbox
        self._changed = threading.Condition()
        self._version = ""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="spoke-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, at the next event at the latest; nothing is put into the box from now on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def listed(self, version: str) -> None:
        """A listing was read. A watch that has lost track goes on from there; one that runs is let be."""
        with self._changed:
            if not self._version:
                self._version = version
                self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        while self._await_version(_BACKOFF.after(failures) if failures else 0.0):
            try:
                self._watch()
                failures = 0
            except Gone:
                self._version = ""
                self._inbox.lost_track()
                failures += 1
            except ApiError as error:
                logger.warning("the watch of SpokeJobs failed: %s", error)
                failures += 1
            except Exception:
                logger.exception("the watch of SpokeJobs failed; it starts anew from a listing")
                self._version = ""
                self._inbox.lost_track()
                failures += 1

    def _await_version(self, wait: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, wait)
            self._changed.wait_for(lambda: self._stopped or self._version)
            return not self._stopped

    def _watch(self) -> None:
        for kind, body in self._spokejobs.watch(self._version, WATCH_SECONDS):
            if self._stopped:
                return
            self._inbox.heard()
            seen = read_view(body)
            if kind != "BOOKMARK":
                self._inbox.put(seen, deleted=kind == "DELETED")
            self._version = seen.resource_version or self._version


class NotifyListener:
    """A thread that receives the notifications of dispatching processes, so that new rows are launched at once.

    Polling finds whatever a lost notification should have announced.

    :param receiver: becomes readable when a process has notified (:func:`spoke_jobs.ledger.notify.listen`).
    """

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver
        self.on_notify: Callable[[], None] = lambda: None
        """Called in the thread, once for notifications that arrive together."""
        threading.Thread(target=self._run, name="spoke-notify", daemon=True).start()

    def _run(self) -> None:
        while self._receiver.recv(4096):
            self.on_notify()
