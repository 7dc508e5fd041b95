"""Run what a job's pod runs, as a process of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.task_key import KEY
from tests.waiting import patient

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.model import JobRequest

_COMMAND = (sys.executable, "-m", "spoke_jobs", "run")
_WITHOUT_CGROUP = """
import runpy
from spoke_jobs.execution import usage_meter
usage_meter.CGROUPS = "/nowhere"
runpy.run_module("spoke_jobs", run_name="__main__")
"""
_TIME = """
import json, os, sys, time
began = time.monotonic()
if (child := os.fork()) == 0:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
seconds = time.monotonic() - began
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime, seconds]))
"""


@dataclass(frozen=True, slots=True)
class TimedPod:
    """How a pod's process ended, and what the kernel says that it used."""

    exit_code: int
    log: str
    peak_bytes: int
    """The largest resident set."""
    cores: float
    """The CPU time divided by the time from its start to its end."""


def pod_environment(job: JobRequest, app: str, url: str, folder: Path, *, number: int = 1) -> dict[str, str]:
    """The variables of the pod of an attempt, whose application is a module in a folder."""
    return PodAssignment(job.id, job.uid, number).to_environment() | {
        "JOB_RUNNER": "kubernetes",
        "SPOKE_APP": app,
        "SPOKE_NAMESPACE": "shop",
        "SPOKE_TASKS_URL": "http://127.0.0.1:1",
        "SPOKE_TASKS_KEY": KEY,
        "SPOKE_DATABASE_URL": url,
        "PYTHONPATH": str(folder),
    }


def run_pod(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `spoke-jobs run` to its end, with these variables beside those of the tests."""
    return _completed(_COMMAND, environment)


def run_pod_timed(environment: Mapping[str, str]) -> TimedPod:
    """Run `spoke-jobs run` to its end, and measure it as GNU time does: by `wait4`.

    A process of its own starts the pod's, and is small. The largest resident set of a process includes that of the
    process it was forked from, and a test process is larger than a pod. The pod does not read the cgroup of this
    machine, which is not its own.
    """
    pod = (sys.executable, "-c", _WITHOUT_CGROUP, "run")
    done = _completed((sys.executable, "-I", "-S", "-c", _TIME, *pod), environment)
    exit_code, kibibytes, cpu_seconds, seconds = json.loads(done.stdout.splitlines()[-1])
    return TimedPod(exit_code, done.stderr, kibibytes * 1024, cpu_seconds / seconds)


def _completed(command: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=patient(180)
    )
