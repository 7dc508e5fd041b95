"""Run what a job's pod runs, as a process of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.waiting import patient


def run_pod(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `spoke-jobs run` to its end, with these variables beside those of the tests."""
    return subprocess.run(
        [sys.executable, "-m", "spoke_jobs", "run"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(180),
    )
