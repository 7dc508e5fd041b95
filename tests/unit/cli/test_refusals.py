"""Processes that refuse to start say why, in one line of their log where that is JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from tests.waiting import patient

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.contract.termination import ExitCode

COMMAND = Path(sys.executable).with_name("spoke-jobs")
KEY = "0123456789abcdef0123456789abcdef"
BROKEN = "import logging\nlogging.getLogger('shop').warning('hello')\nimport no_such_package_x\n"
SHOP = (
    "from spoke_jobs import Registry\nregistry = Registry()\n@registry.job('sell')\ndef sell(ctx, payload): ...\n"
    "@registry.task('tell')\ndef tell(ctx, payload): ...\n"
)
POD = PodAssignment(1, uuid4(), 1).to_environment()
POSTGRESQL = "postgresql+psycopg://nobody@127.0.0.1:9/none"

CASES = {
    "worker, its import fails": ("worker", {"SPOKE_APP": "broken"}, 1, "no_such_package_x"),
    "worker, a setting": ("worker", {"SPOKE_LEASE_SECONDS": "-1"}, 1, "SPOKE_LEASE_SECONDS"),
    "tasks, half a runner": ("tasks", {"JOB_RUNNER": "kubernetes"}, 1, "SPOKE_NAMESPACE"),
    "sync, a setting": ("sync", {}, 1, "SPOKE_NAMESPACE"),
    "run, no pod": ("run", {}, ExitCode.FAILED, "SPOKE_REQUEST_"),
    "run, no runner": ("run", POD | {"JOB_RUNNER": "nowhere"}, ExitCode.FAILED, "JOB_RUNNER='nowhere'"),
    "run, SQLite": ("run", POD | {"SPOKE_DATABASE_URL": "sqlite:///x.db"}, ExitCode.FAILED, "SQLite"),
}


def refusal(folder: Path, command: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "broken.py").write_text(BROKEN)
    (folder / "shop.py").write_text(SHOP)
    environment = {
        "PATH": os.environ["PATH"],
        "SPOKE_APP": "shop:registry",
        "SPOKE_DATABASE_URL": POSTGRESQL,
        "SPOKE_TASKS_KEY": KEY,
        "SPOKE_TASKS_PORT": "1",
        "SPOKE_TASKS_HOST": "192.0.2.1",  # if it does not refuse, it must not listen here
    }
    return subprocess.run(
        [COMMAND, *command.split()],
        env=environment | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=patient(240),
        check=False,
    )


@pytest.mark.parametrize(("command", "settings", "code", "named"), CASES.values(), ids=CASES)
def test_a_refusal_is_a_line_of_json(
    tmp_path: Path, command: str, settings: dict[str, str], code: int, named: str
) -> None:
    done = refusal(tmp_path, command, settings | {"SPOKE_LOG_FORMAT": "json"})
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == code
    refused = [line for line in lines if line["level"] == "error"]
    assert len(refused) == 1, lines
    assert named in refused[0]["message"]
    if settings.get("SPOKE_APP") == "broken":
        assert "broken.py" in refused[0]["exception"]
    if settings.keys() >= POD.keys():
        assert refused[0]["request_id"] == 1


def test_without_json_a_refusal_is_a_sentence(tmp_path: Path) -> None:
    done = refusal(tmp_path, "tasks", {"JOB_RUNNER": "kubernetes"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the runner 'kubernetes' is not fully configured; set SPOKE_NAMESPACE")
