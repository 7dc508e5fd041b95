"""What the `def` jobs of a child process print: lines of the worker's log, and the tail that the ledger keeps.

Before its first job, the child connects its standard output and standard error to a file. So whatever the job's code,
native code or processes print goes there, and is still there if the child is killed. The file holds the output of one
attempt. A thread copies it to the worker's log while the attempt runs; the supervisor copies the rest of a killed
child's. If a job prints much, or faster than the log is read, some of its output is left out of the log.

A process that opens `/dev/stderr` or `/dev/stdout` to write may empty the file. What is not copied then is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID

from spoke_jobs.execution.output_lines import TAIL_BYTES, complete, log_lines, tail, writes
from spoke_jobs.settings import OUTPUT_SECONDS
from spoke_jobs.shared.log_setup import logs_json, separate_product_lines
from spoke_jobs.worker.shared_state import SharedState

logger = logging.getLogger(__name__)

COPY_SECONDS = 0.25
"""How often the output of a running attempt is copied to the worker's log."""
_AT_ONCE, _LEFT_AT_ONCE = 2**20, 2**16
_FREE_BYTES = 2**22
"""The copied part of the file is freed once it is this long."""
_BEHIND_BYTES = 2**22
"""The most output that is copied in one go. What is before it is left out of the log."""
_LEFT_BYTES = 2**20
"""The same for the output of a killed child: the supervisor does nothing else while it copies."""
_PUNCH_HOLE, _KEEP_SIZE = 2, 1
"""Linux: FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE."""

Store = Callable[[UUID, str], object]
"""Stores the tail of a running attempt in the ledger."""


class OutputFile:
    """The supervisor's end of the file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags | os.O_APPEND)  # the child truncates it while others write to it

    def fileno(self) -> int:
        """The file descriptor, which the child inherits. What is written to it is appended."""
        return self._file.fileno()

    def tail(self) -> str:
        """Return the last lines of the attempt that the child was running."""
        return _tail(self.fileno())

    def copy_left(self, shared: SharedState, job_id: int | None) -> None:
        """Copy what the child, which has exited, did not copy to the worker's log."""
        for _, data in _uncopied(self.fileno(), shared.output_copied, _LEFT_BYTES, _LEFT_AT_ONCE, ended=True):
            write_lines(2, log_lines(data, job_id, as_json=logs_json()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JobOutput:
    """The child's end of the file. One attempt runs at a time.

    :param store: stores the tail of a running attempt; None: the ledger keeps no output.
    """

    def __init__(self, descriptor: int, shared: SharedState, store: Store | None) -> None:
        self._file = descriptor
        self._shared = shared
        self._store = store
        self._as_json = logs_json()
        self._log = os.dup(2)
        self._lock = threading.Lock()
        self._running = threading.Event()
        self._attempt: tuple[int, UUID] | None = None
        self._freed = 0
        os.set_inheritable(descriptor, False)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in (1, 2):
            os.dup2(descriptor, number)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True)
        separate_product_lines(self._log)
        threading.Thread(target=self._follow, name="spoke-output", daemon=True).start()

    def begin(self, job_id: int, token: UUID) -> None:
        """Note that an attempt begins. What was printed since the last one is of no job."""
        with self._lock:
            if self._size() or self._shared.output_copied:
                self._copy(ended=True)
                os.ftruncate(self._file, 0)
                self._shared.output_copied = self._freed = 0
            self._attempt = (job_id, token)
        self._running.set()

    def end(self) -> None:
        """Note that the attempt has ended, and copy the rest of its output to the log."""
        self._running.clear()
        self.copy()
        self._attempt = None

    def copy(self) -> None:
        """Copy what the attempt, whose end is recorded, has printed to the log. It may wait for the log's reader."""
        self._flush()
        with self._lock:
            self._copy(ended=True)

    def tail(self) -> str:
        """Return the last lines that the attempt has printed, if the ledger keeps them. Wait for nothing."""
        self._flush()
        return _tail(self._file) if self._store is not None and self._size() else ""

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the job may have closed or replaced it
                stream.flush()

    def _size(self) -> int:
        return os.fstat(self._file).st_size

    def _copy(self, *, ended: bool) -> None:
        size, copied = self._size(), self._shared.output_copied
        if size == copied:  # most jobs print nothing
            return
        job_id = self._attempt[0] if self._attempt is not None else None
        if size < copied:  # a process has emptied the file
            self._shared.output_copied = self._freed = 0
        for end, data in _uncopied(self._file, self._shared.output_copied, _BEHIND_BYTES, _AT_ONCE, ended=ended):
            self._shared.output_copied = end
            self._free()
            write_lines(self._log, log_lines(data, job_id, as_json=self._as_json))

    def _follow(self) -> None:
        stored, at, due = b"", None, 0.0
        while True:
            self._running.wait()
            time.sleep(COPY_SECONDS)
            attempt = self._attempt
            if attempt is None:
                continue
            with self._lock:
                self._copy(ended=False)
                last = _last(self._file)
            if attempt != at:
                stored, at, due = b"", attempt, time.monotonic() + OUTPUT_SECONDS
            if self._store is None or time.monotonic() < due or last == stored or self._attempt != attempt:
                continue
            due = time.monotonic() + OUTPUT_SECONDS
            try:
                self._store(attempt[1], tail(complete(last, ended=False), cut=len(last) == TAIL_BYTES))
                stored = last
            except Exception as error:  # the database is away, or locked; the next time may succeed
                logger.debug("job %d: could not store its output (%s)", attempt[0], type(error).__name__)

    def _free(self) -> None:
        """Free the disk space of output that was copied, except for the tail (Linux)."""
        end = self._shared.output_copied - TAIL_BYTES
        if end - self._freed > _FREE_BYTES:
            with contextlib.suppress(Exception):  # another system, or a file system that can't: freed at the next job
                import ctypes  # slow to import, and seldom needed

                allocate = ctypes.CDLL(None).fallocate
                allocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)
                allocate(self._file, _PUNCH_HOLE | _KEEP_SIZE, 0, end)
            self._freed = end


def _uncopied(descriptor: int, copied: int, most: int, at_once: int, *, ended: bool) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that follow what was copied, and the position behind them, up to the file's end of now.

    :param copied: what the memory says that the child shares. The code of its jobs can write there, too.
    :param most: if there is more, a note stands for what is before the last of it.
    :param ended: whether the last line counts even if it has no end.
    """
    size = os.fstat(descriptor).st_size
    at = copied if 0 <= copied <= size else 0  # a process has emptied the file
    if size - at > most:
        begin = size - most
        begin += os.pread(descriptor, TAIL_BYTES, begin).find(b"\n") + 1
        yield begin, b"(%d bytes of output are left out here)\n" % (begin - at)
        at = begin
    while at < size:
        data = os.pread(descriptor, min(size - at, at_once), at)
        data = complete(data, ended=ended and at + len(data) >= size)
        if not data:  # a line without an end, or the file was emptied
            return
        at += len(data)
        yield at, data


def _last(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    start = max(0, size - TAIL_BYTES)
    return os.pread(descriptor, size - start, start) if size else b""


def _tail(descriptor: int) -> str:
    last = _last(descriptor)
    return tail(last, cut=len(last) == TAIL_BYTES)


def write_lines(descriptor: int, lines: bytes) -> None:
    """Write lines to the worker's log, to which other processes write, too. Wait while it takes none."""
    with contextlib.suppress(OSError):  # nobody reads the worker's log any more
        for data in writes(lines):
            left = data
            while left:
                try:
                    left = left[os.write(descriptor, left) :]
                except BlockingIOError:  # another process, which has the same pipe, made it non-blocking
                    writable = select.poll()
                    writable.register(descriptor, select.POLLOUT)
                    writable.poll()
