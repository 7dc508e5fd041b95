"""Start the project's programs without the time that their libraries take to import.

This is 0.6 of the 0.9 seconds of CPU time that a worker takes to start; an operator, a sync and a task server take as
long. So a test process has a fork server for each kind of program, which has imported the libraries of that program
and nothing of the project. A program is a fork of it, which imports the project's modules, reads its environment and
ends as after any other start. It is a child of the test process.

All programs of a fork server have the same seed of hashes, so they iterate over a set of strings in the same order. A
test about that needs ``subprocess.Popen``.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.waiting import patient

_SERVER = Path(__file__).with_name("fork_server.py")
_DATABASE = ("sqlalchemy.dialects.postgresql.psycopg", "psycopg")
MODULES = {
    "worker": ("spoke_jobs.cli.commands.worker_command", "spoke_jobs.worker.worker_process", *_DATABASE),
    "tasks": ("spoke_jobs.cli.commands.tasks_command", "spoke_jobs.tasks.server.serve", *_DATABASE),
    "sync": ("spoke_jobs.cli.commands.sync_command", "spoke_jobs.sync.sync_process", *_DATABASE),
    "operator": ("spoke_jobs_operator.__main__",),
}
"""What each kind of program imports."""
READ_AT_THE_START = (
    *("AIOHTTP_", "FROZENLIST_", "MULTIDICT_", "PROMETHEUS_", "PROPCACHE_", "PSYCOPG_", "PYDANTIC_", "PYTHON"),
    *("SSLKEYLOGFILE", "TYPER_", "YARL_", "prometheus_"),
    *("LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_"),
)
"""How the variables begin that Python or the C library reads when it starts, or a library when it is imported."""
OBEYED = {"KUBECONFIG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
"""Those that a fork of a fork server reads anew."""
_PR_SET_CHILD_SUBREAPER = 36
_adopting = threading.Lock()
"""Held while this process adopts orphans."""


class Program(subprocess.Popen[Any]):
    """A process that runs ``python -m MODULE ...`` or ``python SCRIPT ...``.

    What it is told by ``python -c CODE ...`` starts as any other process.
    """

    def __init__(self, kind: str, arguments: Sequence[str | Path], **options: Any) -> None:
        """:param kind: of the program.
        :param arguments: of Python.
        :param options: of ``subprocess.Popen``.
        """
        self._kind = kind
        super().__init__([sys.executable, *map(str, arguments)], **options)

    def _execute_child(self, args: Any, *rest: Any) -> None:
        executable, preexec, _close_fds, pass_fds, cwd, env, _info, _flags, shell, *pipes = rest
        environment = dict(os.environ if env is None else env)
        if args[1] == "-c" or not (server := _server(self._kind)).can_start_with(environment):  # as any other process
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        p2cread, _p2cwrite, _c2pread, c2pwrite, _errread, errwrite, *how = pipes
        restore_signals, *ids, umask, new_session, process_group = how
        assert not any((executable, preexec, pass_fds, shell)), "a fork server has none of these options"
        assert restore_signals, "nor this one"
        assert (ids, umask, process_group) == ([None] * 3, -1, -1), "nor these"
        request = {
            "arguments": args[1:],
            "environment": environment,
            "folder": str(cwd or Path.cwd()),
            "new_session": new_session,
        }
        streams = [own if own != -1 else default for own, default in ((p2cread, 0), (c2pwrite, 1), (errwrite, 2))]
        self.pid = server.fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes[:6])  # type: ignore[attr-defined]


def completed(
    kind: str, arguments: Sequence[str | Path], *, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return what it printed. It is killed after so many seconds, if any are given."""
    with Program(kind, arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class _ForkServer:
    """A process that has imported the libraries of one kind of program."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._owner = os.getpid()
        ours = {name for name in os.environ if name.startswith(("SPOKE_", "PYTHONPATH"))}
        self._environment = {name: value for name, value in os.environ.items() if name not in ours}
        with other:
            self._process = subprocess.Popen(
                [sys.executable, _SERVER, str(other.fileno()), *modules],
                pass_fds=[other.fileno()],
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        self._socket.settimeout(patient(60))
        assert self._socket.recv(100), "the fork server has imported the libraries"

    def can_start_with(self, environment: dict[str, str]) -> bool:
        """Whether a program obeys it as after a start of Python. A setting that is read only then is the server's."""
        own = self._environment
        names = {name for name in {*environment, *own} if name.startswith(READ_AT_THE_START)}
        return all(environment.get(name) == own.get(name) for name in names - OBEYED)

    def fork(self, request: dict[str, Any], streams: Sequence[int]) -> int:
        """Return the process id of a new child of this process."""
        with _adopting:
            _adopt_orphans(True)
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], list(streams))
                answer = self._socket.recv(100)
            finally:
                _adopt_orphans(False)
        assert answer, f"the fork server has ended with {self._process.wait()}"
        return int(answer)

    def close(self) -> None:
        """End it, if this process has started it. Its programs go on."""
        if os.getpid() == self._owner:
            self._socket.shutdown(socket.SHUT_RDWR)  # a fork of this process may have it open, too
            self._socket.close()
            self._process.wait()


def _adopt_orphans(wanted: bool) -> None:
    """Become the parent of each descendant whose parent ends, or leave them to the machine's first process."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")  # never on Linux


@cache
def _server(kind: str) -> _ForkServer:
    server = _ForkServer(MODULES[kind])
    atexit.register(server.close)
    return server
