"""Prometheus' own programs, for tests: promtool, and a server that scrapes."""

from __future__ import annotations

import json
import math
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from tests.ports import free_port
from tests.waiting import eventually, patient

ROOT = Path(__file__).parents[1]
EXEMPLAR_STORAGE = "--enable-feature=exemplar-storage"


@cache
def program(name: str) -> str:
    """The path of `promtool` or `prometheus`."""
    done = subprocess.run([ROOT / "scripts/prometheus-program", name], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, f"{name} could not be fetched"
    return done.stdout.strip()


@dataclass(frozen=True)
class Target:
    """A process to scrape, and how a ServiceMonitor or PodMonitor of the charts would name it."""

    port: int
    job: str
    honor_labels: bool = False


@dataclass(frozen=True)
class Server:
    """A Prometheus server that runs."""

    port: int

    def query(self, expression: str) -> list[float]:
        """The present values of an expression, without those that are not a number.

        :raises AssertionError: if it is refused.
        """
        values = [float(series["value"][1]) for series in self._ask("query", query=expression)["result"]]
        return [value for value in values if not math.isnan(value)]

    def exemplars(self, selector: str) -> list[dict[str, str]]:
        """The labels of the exemplars of the last hour. The server needs :data:`EXEMPLAR_STORAGE`."""
        now = time.time()
        found = self._ask("query_exemplars", query=selector, start=str(now - 3600), end=str(now + 60))
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    def _ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=patient(30)) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert answer["status"] == "success", answer
        return answer["data"]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=patient(30)) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@contextmanager
def scraping(
    folder: Path, targets: Sequence[Target], namespace: str = "ns", options: Sequence[str] = ()
) -> Iterator[Server]:
    """A server that scrapes every second.

    :param options: more options of its command line.
    """
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {
                "job_name": target.job,
                "honor_labels": target.honor_labels,
                "static_configs": [
                    {"targets": [f"127.0.0.1:{target.port}"], "labels": {"namespace": namespace, "pod": "a"}}
                ],
            }
            for target in targets
        ],
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    server = Server(free_port())
    command = [
        program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{server.port}",
        "--log.level=warn",
        *options,
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            eventually(server.is_ready, "Prometheus answers", state=lambda: (folder / "prometheus.log").read_text())
            yield server
        finally:
            process.terminate()
            try:
                process.wait(patient(30))
            except subprocess.TimeoutExpired:
                process.kill()
