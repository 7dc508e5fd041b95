"""The threads that watch SpokeJobs and receive notifications, and the inbox where the loop finds both.

The watch only makes sync faster: the next comparison finds every change that the watch missed. The watch starts from
the version of a listing, continues from the last version it received, and asks for a new listing when that is too old.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.shared.api_errors import ApiError, Gone
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.sync.sync_model import SpokeJobView, read_view

logger = logging.getLogger(__name__)

WATCH_SECONDS = 60
"""The longest duration of one watch. By then, a dead watch is noticed."""
_BACKOFF = Backoff(base=0.5, maximum=10.0)


class Inbox:
    """The latest change of each SpokeJob since the inbox was last emptied. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._changes: dict[str, tuple[SpokeJobView, bool]] = {}
        self._gap = False
        self._notified = False

    def put(self, seen: SpokeJobView, *, deleted: bool) -> None:
        """Store a SpokeJob that was created, changed or deleted."""
        with self._changed:
            self._changes[seen.name] = (seen, deleted)
            self._changed.notify_all()

    def mark_gap(self) -> None:
        """Ask for a new listing, since events may have been missed."""
        with self._changed:
            self._gap = True
            self._changed.notify_all()

    def notify(self) -> None:
        """Record that a process has dispatched jobs."""
        with self._changed:
            self._notified = True
            self._changed.notify_all()

    def take_notified(self) -> bool:
        """Whether a process has notified since the last call."""
        with self._changed:
            notified, self._notified = self._notified, False
            return notified

    def wait(self, seconds: float) -> None:
        """Wait for a change, a gap or a notification, at most ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes or self._gap or self._notified, seconds)

    def take(self) -> tuple[list[tuple[SpokeJobView, bool]], bool]:
        """Empty the inbox. Return the changes, each with a flag for a deletion, and whether a new listing is needed."""
        with self._changed:
            changes, self._changes = list(self._changes.values()), {}
            gap, self._gap = self._gap, False
            return changes, gap


class Watcher:
    """The watching thread. It waits until :meth:`listed` gives it a version to start from."""

    def __init__(self, spokejobs: SpokeJobClient, inbox: Inbox) -> None:
        self._spokejobs = spokejobs
        self._inbox = inbox
        self._changed = threading.Condition()
        self._version = ""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="spoke-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop at the next event at the latest. Nothing more is put into the inbox."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def listed(self, version: str) -> None:
        """Take the version of a listing. A watch without a version starts from it; a running watch ignores it."""
        with self._changed:
            if not self._version:
                self._version = version
                self._changed.notify_all()

    def _run(self) -> None:
        failures, pause = 0, 0.0
        while self._await_version(max(_BACKOFF.after(failures) if failures else 0.0, pause)):
            pause = 0.0
            try:
                self._watch()
                failures = 0
            except Gone:
                self._version = ""
                self._inbox.mark_gap()
                failures += 1
            except ApiError as error:
                logger.warning("the watch of SpokeJobs failed; retrying: %s", error)
                failures += 1
                pause = error.pause_seconds
            except Exception:
                logger.exception("unexpected error in the watch of SpokeJobs; restarting it from a listing")
                self._version = ""
                self._inbox.mark_gap()
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
            try:
                seen = read_view(body)
            except Exception:  # the next comparison skips it, too
                logger.exception("a SpokeJob could not be read")
                continue
            if kind != "BOOKMARK":
                self._inbox.put(seen, deleted=kind == "DELETED")
            self._version = seen.resource_version or self._version


class NotifyListener:
    """A thread that receives the notifications of dispatching processes, so that new rows are launched at once.

    If a notification is lost, polling finds the row.

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
