"""The streams against a real API server, while what they rest on comes and goes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from tests.integration.operator.conftest import Cluster, OperatorProcess
from tests.waiting import eventually


class Cable:
    """A TCP relay to the API server that can be cut, and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._lines: set[socket.socket] = set()
        self.cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_off(self) -> None:
        """End what is open and refuse what comes."""
        self.cut = True
        for line in list(self._lines):
            hang_up(line)

    def close(self) -> None:
        self.cut_off()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self.cut:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._lines |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            hang_up(sink)
            self._lines.discard(source)
            source.close()


def hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


@contextmanager
def cabled_operator(kubeconfig: str, namespace: str, folder: Path) -> Iterator[tuple[OperatorProcess, Cable]]:
    config = yaml.safe_load(Path(kubeconfig).read_text())
    server = config["clusters"][0]["cluster"]["server"]
    host, port = server.removeprefix("https://").split(":")
    cable = Cable(host, int(port))
    config["clusters"][0]["cluster"]["server"] = f"https://{host}:{cable.port}"
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    process = OperatorProcess(str(path), namespace, folder / "operator.log")
    try:
        yield process, cable
    finally:
        if process.running:
            process.kill()
        cable.close()
        print((folder / "operator.log").read_text())


@pytest.mark.parametrize("away_seconds", [0, pytest.param(60, marks=pytest.mark.long)])
def test_an_api_server_that_is_away_for_a_while(
    cluster: Cluster, operator_kubeconfig: str, tmp_path: Path, away_seconds: float
) -> None:
    """At least until its health fails."""
    template = f"away-{away_seconds}"
    cluster.template(template, "wait,0")
    with cabled_operator(operator_kubeconfig, cluster.namespace, tmp_path) as (operator, cable):
        operator.start(SPOKE_OPERATOR_COMPARE_SECONDS="2.5", SPOKE_OPERATOR_UNHEALTHY_AFTER_SECONDS="5")
        name = cluster.submit(template)
        cluster.until(name, lambda status: status.get("outcome") == "Running")
        cable.cut_off()
        cluster.core.delete_namespaced_pod(cluster.pod_of(name, 1), cluster.namespace, grace_period_seconds=0)
        back_at = time.monotonic() + away_seconds
        eventually(lambda: unhealthy(operator), "health fails")
        eventually(lambda: time.monotonic() >= back_at, "the API server is back", within=away_seconds + 30)
        assert cluster.status(name)["outcome"] == "Running"
        cable.cut = False
        status = cluster.until_final(name)
        assert [item["cause"] for item in status["attempts"]] == ["PodDeleted", ""]
        eventually(lambda: not unhealthy(operator), "health is back")


def test_events_that_never_come_are_made_up_for(apart: Cluster, own: OperatorProcess) -> None:
    """The operator may not watch: its streams are refused for ever, and all that it sees are its comparisons."""
    apart.template("deaf", "10,0")
    rules = yaml.safe_load(apart.kubectl("get", "role", "operator-under-test", "--output=yaml"))
    for rule in rules["rules"]:
        rule["verbs"] = [verb for verb in rule["verbs"] if verb != "watch"]
    apart.kubectl("replace", "--filename=-", stdin=yaml.safe_dump(rules))
    own.start(SPOKE_OPERATOR_COMPARE_SECONDS="1")
    status = apart.until_final(apart.submit("deaf"))
    assert [item["cause"] for item in status["attempts"]] == ["JobError", ""]


def unhealthy(operator: OperatorProcess) -> bool:
    try:
        operator.get("/healthz")
    except OSError:
        return True
    return False
