"""A TCP proxy that stands for the network: it can carry, refuse, or swallow everything."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from tests.waiting import patient

PORT_OF_SCHEME = {"https": 443, "http": 80}


class Proxy:
    """Listens on a port of this machine, and carries connections to ``target``."""

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self._target = target
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._passing_on, self._underway = threading.Condition(), 0
        self._mode = "carry"
        self._server = socket.create_server((host, 0))
        self.host = host
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self._mode = "refuse"
        self._break()

    def hang(self) -> None:
        """Answer nothing any more, on old connections or new ones, and break none. What came before is passed on."""
        with self._passing_on:
            self._mode = "hang"
            self._passing_on.wait_for(lambda: self._underway == 0, timeout=patient(30))

    def mend(self) -> None:
        """Carry again; what hung is broken."""
        self._mode = "carry"
        self._break()

    def close(self) -> None:
        """End."""
        self._mode = "refuse"
        self._server.close()
        self._break()

    def _break(self) -> None:
        with self._lock:
            sockets, self._open = self._open, []
        for item in sockets:
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self._mode == "refuse":
                near.close()
                continue
            far = socket.create_connection(self._target)
            with self._lock:
                self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._passing_on:
                    if self._mode == "hang":
                        continue
                    self._underway += 1
                try:
                    sink.sendall(data)
                finally:
                    with self._passing_on:
                        self._underway -= 1
                        self._passing_on.notify_all()
        for item in (source, sink):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()


def api_server_of(kubeconfig: str) -> tuple[str, int]:
    """Where the kubeconfig's API server listens."""
    url = urlsplit(yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]["server"])
    assert url.hostname is not None
    return url.hostname, url.port or PORT_OF_SCHEME[url.scheme]


def kubeconfig_by(port: int, kubeconfig: str, path: Path) -> str:
    """The same kubeconfig, its API server reached by a port of this machine."""
    content = yaml.safe_load(Path(kubeconfig).read_text())
    server = content["clusters"][0]["cluster"]
    server["server"] = urlsplit(server["server"])._replace(netloc=f"127.0.0.1:{port}").geturl()
    path.write_text(yaml.safe_dump(content))
    path.chmod(0o600)
    return str(path)
