"""Wait in a standby pod until the operator assigns an attempt.

One endpoint takes the assignment: identifiers only, and only with the secret that the operator alone can make
(:mod:`spoke_jobs.contract.standby`). It accepts one attempt. It accepts the same one again, because the operator
repeats a request whose answer it did not get.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping

from spoke_jobs.contract.environment import BadEnvironment, PodAssignment
from spoke_jobs.contract.standby import LIMIT_BYTES, PATH, PORT, PodState, identity_of, proves, read_assignment
from spoke_jobs.shared.bounded_server import BoundedHandler, BoundedServer

PING_SECONDS = 10.0
"""How often the connection to the database is tried while the pod waits."""
_STEP_SECONDS = 0.5
"""How soon the pod ends after a SIGTERM."""
_READ_SECONDS = 5.0
_SCHEME = "Bearer "
logger = logging.getLogger(__name__)


class AssignmentSlot:
    """The attempt of this pod, once it has one. For several threads.

    :param verifier: the verifier of the secret that an assignment has to show.
    """

    def __init__(self, verifier: str) -> None:
        self._verifier = verifier
        self._lock = threading.Lock()
        self._variables: dict[str, str] | None = None
        self._is_open = True
        self.filled = threading.Event()

    @property
    def state(self) -> PodState:
        """Whether the pod has an attempt."""
        return PodState.FREE if self._variables is None else PodState.ASSIGNED

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of the attempt; empty if there is none."""
        return self._variables or {}

    def assign(self, authorization: str, data: bytes) -> int:
        """Take an attempt. Return the HTTP status of the answer.

        :param authorization: the header with the secret.
        :param data: the request's body.
        """
        if not authorization.startswith(_SCHEME) or not proves(authorization.removeprefix(_SCHEME), self._verifier):
            return 401
        variables = read_assignment(data)
        if variables is None or not _is_complete(variables):
            return 400
        with self._lock:
            if self._variables is None and self._is_open:
                self._variables = variables
            elif self._variables is None or identity_of(self._variables) != identity_of(variables):
                return 409
        self.filled.set()
        return 200

    def close(self) -> bool:
        """Take no attempt any more. Return False if there is one already."""
        with self._lock:
            self._is_open = False
            return self._variables is None


def _is_complete(variables: Mapping[str, str]) -> bool:
    try:
        PodAssignment.from_environment(variables)
    except BadEnvironment:
        return False
    return True


def serve(slot: AssignmentSlot, port: int = PORT, host: str = "") -> BoundedServer:
    """Answer in threads, until the process ends.

    :param port: 0 for any free port.
    :param host: empty for all addresses.
    """

    class Handler(BoundedHandler):
        timeout = _READ_SECONDS

        def do_GET(self) -> None:  # noqa: N802 (the base class' name)
            self._answer(200 if self.path == PATH else 404)

        def do_POST(self) -> None:  # noqa: N802 (the base class' name)
            length = self.headers.get("Content-Length", "")
            if self.path != PATH:
                self._answer(404)
            elif not length.isascii() or not length.isdigit() or int(length[:6]) > LIMIT_BYTES:
                self._answer(413)
            else:
                self._answer(slot.assign(self.headers.get("Authorization", ""), self.rfile.read(int(length[:6]))))

        def _answer(self, status: int) -> None:
            body = json.dumps({"state": slot.state.value} if status == 200 else {"error": status}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: whoever reaches the port could fill the log."""

    server = BoundedServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="spoke-standby", daemon=True).start()
    return server


def wait(slot: AssignmentSlot, cancel: threading.Event, ping: Callable[[], None], seconds: float) -> bool:
    """Wait for an attempt; return False if the pod was told to stop, or has waited for too long.

    :param ping: uses the connection to the database. What it raises ends the wait, so that the pod is replaced.
    :param seconds: how long to wait at most.
    """
    begun = pinged = time.monotonic()
    while not slot.filled.wait(_STEP_SECONDS):
        now = time.monotonic()
        if cancel.is_set() or now - begun >= seconds:
            return not slot.close()
        if now - pinged >= PING_SECONDS:
            try:
                ping()
            except Exception:
                if slot.close():
                    raise
                return True  # the attempt that has come meanwhile waits for the database, as in a pod of its own
            pinged = now
    return True
