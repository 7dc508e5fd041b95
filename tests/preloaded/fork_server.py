"""``fork_server.py DESCRIPTOR MODULE...``: import the libraries of these modules, then fork a program per request.

It has nothing but the standard library and those libraries: the programs import the project's modules themselves.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

_OURS = ("spoke_jobs", "spoke_jobs_operator")


def libraries_of(modules: list[str]) -> list[str]:
    """Return what these modules import of others. A process of its own finds out, and ends."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        for name in modules:
            importlib.import_module(name)
        with os.fdopen(writing, "w") as found:
            found.write("\n".join(name for name in sys.modules if name.partition(".")[0] not in {*_OURS, "__main__"}))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as found:
        names = found.read().split("\n")
    _, status = os.waitpid(child, 0)
    assert status == 0, "a module of the program cannot be imported"
    return names


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Return the request in the new process; in this one None at the end."""
    while True:
        message, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
        if not message:  # nobody asks any more
            return None
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            if child := os.fork():
                os.write(writing, str(child).encode())
                os._exit(0)  # so that the child gets the process that asked as its parent
            for descriptor in (reading, writing):
                os.close(descriptor)
            connection.close()
            for standard, given in enumerate(streams):
                os.dup2(given, standard)
                os.close(given)
            request: dict[str, Any] = json.loads(message)
            return request
        os.waitpid(between, 0)
        connection.send(os.read(reading, 100))
        for descriptor in (reading, writing, *streams):
            os.close(descriptor)


def run(request: dict[str, Any]) -> None:
    """Run a program in this process, as Python does at its start."""
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["folder"])
    if request["new_session"]:
        os.setsid()
    for name, module in sys.modules.items():
        if name.startswith("kubernetes.") and hasattr(module, "KUBE_CONFIG_DEFAULT_LOCATION"):  # read at the import
            module.KUBE_CONFIG_DEFAULT_LOCATION = os.environ.get("KUBECONFIG", "~/.kube/config")
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    more = os.environ.get("PYTHONPATH", "")
    sys.path[1:1] = more.split(os.pathsep) if more else []
    first, *rest = request["arguments"]
    if first == "-m":
        sys.argv = rest
        sys.path[0] = request["folder"]
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    else:
        sys.argv = request["arguments"]
        sys.path[0] = str(Path(first).resolve().parent)
        runpy.run_path(first, run_name="__main__")


def main() -> None:
    """Import, serve, and in a fork run the program."""
    descriptor, *modules = sys.argv[1:]
    for name in libraries_of(modules):
        try:
            importlib.import_module(name)
        except ImportError:  # Cython puts names into the list that are no modules
            continue
    assert threading.active_count() == 1, "a fork has only the thread that forks"
    gc.collect()
    gc.freeze()
    connection = socket.socket(fileno=int(descriptor))
    connection.send(b"ready")
    request = serve(connection)
    if request is not None:
        run(request)


if __name__ == "__main__":
    main()
