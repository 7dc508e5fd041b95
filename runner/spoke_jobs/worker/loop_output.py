"""What jobs of one event loop print. They share the process's standard output; their code's context tells them apart.

The lines of `print()` and of log records get their job's id, also from the asyncio tasks and the `asyncio.to_thread`
calls of a job. What native code and processes print goes to the worker's log without an id, and is not kept. The tails
are in this process's memory: if it is killed, they are lost.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoke_jobs.execution.output_lines import TAIL_BYTES, complete, log_lines, tail
from spoke_jobs.settings import OUTPUT_SECONDS
from spoke_jobs.shared.log_setup import logs_json, separate_product_lines
from spoke_jobs.worker.job_output import Store, write_lines

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Printed:
    job_id: int
    began: float = field(default_factory=time.monotonic)
    kept: bytes = b""
    line: bytes = b""
    """The begin of a line that has not ended."""
    cut: bool = False
    changed: bool = False


class LoopOutput:
    """The output of the attempts that run now.

    :param running: returns the token of the attempt whose code calls; None outside of attempts.
    :param store: stores the tail of a running attempt.
    :param kept_after: after how many seconds of a running or successful attempt its output is kept; infinite: none is.
    """

    def __init__(self, running: Callable[[], UUID | None], store: Store, kept_after: float) -> None:
        self._running = running
        self._store = store
        self.kept_after = kept_after
        self._as_json = logs_json()
        self._log = os.dup(2)
        self._lock = threading.RLock()  # a garbage collection within it may run code that prints
        self._printed: dict[UUID, _Printed] = {}
        sys.stdout, sys.stderr = _ByAttempt(sys.stdout, self._write), _ByAttempt(sys.stderr, self._write)
        separate_product_lines(self._log)
        os.register_at_fork(after_in_child=self._unlock)
        if kept_after < math.inf:
            threading.Thread(target=self._follow, name="spoke-output", daemon=True).start()

    @contextlib.contextmanager
    def of(self, job_id: int, token: UUID) -> Iterator[None]:
        """Keep the output of an attempt while it runs."""
        self._printed[token] = _Printed(job_id)
        try:
            yield
        finally:
            del self._printed[token]

    def tail(self, token: UUID) -> str:
        """Copy the rest of what the attempt has printed to the log, and return its last lines."""
        printed = self._printed.get(token)
        if printed is None or not printed.kept:
            return ""
        with self._lock:
            line, printed.line = printed.line, b""
            kept, cut = printed.kept, printed.cut
        self._copy(printed, line)
        return tail(kept, cut=cut) if self.kept_after < math.inf else ""

    def _write(self, text: str) -> bool:
        """Write what the running attempt prints; return False outside of attempts."""
        token = self._running()
        printed = self._printed.get(token) if token is not None else None
        if printed is None:
            return False
        data = text.encode(errors="replace")
        with self._lock:
            printed.cut = printed.cut or len(printed.kept) + len(data) > TAIL_BYTES
            printed.kept = (printed.kept + data)[-TAIL_BYTES:]
            printed.changed = True
            whole = complete(printed.line + data, ended=False)
            printed.line = (printed.line + data)[len(whole) :]
        self._copy(printed, whole)  # not within the lock: it may wait for the log's reader
        return True

    def _unlock(self) -> None:
        self._lock = threading.RLock()

    def _copy(self, printed: _Printed, data: bytes) -> None:
        write_lines(self._log, log_lines(data, printed.job_id, as_json=self._as_json))

    def _follow(self) -> None:
        while True:
            time.sleep(OUTPUT_SECONDS)
            for token, printed in list(self._printed.items()):
                if not printed.changed or time.monotonic() - printed.began < self.kept_after:
                    continue
                with self._lock:
                    kept, cut, printed.changed = printed.kept, printed.cut, False
                try:
                    self._store(token, tail(complete(kept, ended=False), cut=cut))
                except Exception as error:  # the database is away, or locked; the next time may succeed
                    printed.changed = True
                    logger.debug("job %d: could not store its output (%s)", printed.job_id, type(error).__name__)


class _ByAttempt:
    """Stands for a text stream, and writes what attempts print elsewhere."""

    def __init__(self, stream: Any, write: Callable[[str], bool]) -> None:
        self._stream = stream
        self._write = write

    def write(self, text: str) -> int:
        if not self._write(text):
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
