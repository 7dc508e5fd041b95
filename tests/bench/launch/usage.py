"""Where a burst's time goes: processor seconds by process, calls of the API server, what the operator is at."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bench.lib.proc import TICKS_PER_SECOND, processes

_PROCESSES = {
    "kube-apiserver": "API server",
    "etcd": "etcd",
    "kube-controller": "controller manager",  # the kernel keeps fifteen letters
    "kube-scheduler": "scheduler",
    "kwok": "kwok",
}
OPERATOR, CALLERS, REST, IDLE = "operator", "callers and watchers", "all else", "idle"
_CALL = re.compile(r"apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_PARTS = (
    ("json", "parsing and writing JSON"),
    ("pydantic", "models"),
    ("ssl", "TLS"),
    ("logging", "logs"),
    ("spoke_jobs_operator/core", "core: deciding"),
    ("spoke_jobs/", "core: deciding"),  # names and the model of the SpokeJob
    ("spoke_jobs_operator", "shell"),
    ("kopf", "kopf"),
    ("kubernetes", "Kubernetes client"),
    ("aiohttp", "HTTP"),
    ("asyncio", "event loop"),
)
"""What a line of a stack belongs to, by its file; the innermost line that has a place here decides."""


def processor_seconds(named: Mapping[int, str]) -> dict[str, float]:
    """So far, by process; `named` by process id, others by what they run."""
    seconds: Counter[str] = Counter()
    for process in processes():
        seconds[named.get(process.pid, _PROCESSES.get(process.command, REST))] += process.seconds
    seconds[IDLE] = int(Path("/proc/stat").read_text().split()[4]) / TICKS_PER_SECOND
    return dict(seconds)


def calls(metrics: str) -> dict[str, float]:
    """Calls so far, as `POST jobs` and `APPLY spokejobs/status`, from the API server's own metrics; no watches."""
    found: Counter[str] = Counter()
    for match in _CALL.finditer(metrics):
        labels = dict(_LABEL.findall(match["labels"]))
        if labels.get("verb") in ("WATCH", "CONNECT") or not labels.get("resource"):
            continue
        resource = "/".join(filter(None, (labels["resource"], labels.get("subresource"))))
        found[f"{labels['verb']} {resource}"] += float(match["count"])
    return dict(found)


def since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What has come to it."""
    return {
        name: round(after[name] - before.get(name, 0.0), 2) for name in after if after[name] > before.get(name, 0.0)
    }


@contextmanager
def sampled(tool: str, process: int, path: Path) -> Iterator[None]:
    """Stacks of the process while the block runs, as py-spy writes them; the process goes on undisturbed."""
    command = [tool, "record", f"--pid={process}", "--format=raw", "--rate=100", "--nonblocking", f"--output={path}"]
    with path.with_suffix(".log").open("wb") as log:
        sampler = subprocess.Popen(command, stdout=log, stderr=log)
        time.sleep(2)  # it reads the interpreter's symbols first
        try:
            yield
        finally:
            sampler.send_signal(2)
            sampler.wait(60)


def shares(stacks: Iterable[str]) -> dict[str, float]:
    """Of the operator's busy time what each part of it took, as shares of one; from lines `outer;inner count`."""
    found: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        if not _waits(stack):
            found[_part(stack)] += int(count)
    total = sum(found.values())
    return {name: round(count / total, 3) for name, count in found.most_common()}


def _waits(stack: str) -> bool:
    """For news, or for a thread's next call: the profiler takes some of that for work."""
    innermost = stack.rpartition(";")[2]
    return "selectors.py" in innermost or innermost.startswith("_worker (concurrent")


def _part(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        file = frame.partition(" (")[2]
        for prefix, name in _PARTS:
            if prefix in file:
                return name
    return "the rest"
