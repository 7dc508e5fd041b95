"""The commands of docs/how-to/moving-a-namespace.md, in a shell with jq. Two files stand in for the two clusters."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.docs.pages import ROOT
from tests.unit.explain.situations import a_job

from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob, SpokeJobStatus
from spoke_jobs.contract.retry import TryAgain
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.model import JobOptions, JobRequest
from spoke_jobs.sync.sync_model import Row, read_view
from spoke_jobs_operator.core.diagnosis.diagnose import Ended
from spoke_jobs_operator.core.objects.read_objects import read_spokejob
from spoke_jobs_operator.core.reconciling import status

PAGE = ROOT / "docs/how-to/moving-a-namespace.md"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
KUBECTL = '''#!/usr/bin/env python3
"""kubectl, as far as the page uses it. Each context is a file with a list of SpokeJobs."""
import json, pathlib, sys

*_, at, context, of, namespace = sys.argv[:5]
assert (at, of, namespace) == ("--context", "--namespace", "shop"), sys.argv
file, arguments = pathlib.Path(__file__).with_name(f"{context}.json"), sys.argv[5:]
known = json.loads(file.read_text())
match arguments:
    case ["get", "spokejobs", "--output", "json"]:
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": known}))
    case ["patch", "spokejob", "--type", "merge", "--patch", patch, *names]:
        for item in known:
            if item["metadata"]["name"] in names:
                item["spec"] |= json.loads(patch)["spec"]
    case ["create", "--filename", "-"]:
        known += json.load(sys.stdin)["items"]
    case _:
        sys.exit(f"unknown command: {arguments}")
file.write_text(json.dumps(known))
'''


class Clusters:
    """The two clusters, and the shell of somebody who may use both."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "kubectl").write_text(KUBECTL)
        (folder / "kubectl").chmod(0o755)
        for context in ("old", "new"):
            self.put(context, [])

    def put(self, context: str, items: list[Mapping[str, Any]]) -> None:
        (self._folder / f"{context}.json").write_text(json.dumps(items))

    def items(self, context: str) -> dict[str, Any]:
        """The SpokeJobs, by their job's id."""
        return {item["spec"]["requestId"]: item for item in json.loads((self._folder / f"{context}.json").read_text())}

    def run(self, command: str) -> None:
        path = f"{self._folder}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-eu", "-c", command], env={"PATH": path}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command


@pytest.fixture
def clusters(tmp_path: Path) -> Clusters:
    done = subprocess.run([ROOT / "scripts/jq"], stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0, "jq could not be installed"
    return Clusters(tmp_path)


def commands() -> list[str]:
    """The page's commands with a filter of jq: suspend, copy, unsuspend."""
    return [block for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S) if "jq" in block]


def created(job: JobRequest) -> dict[str, Any]:
    """The SpokeJob that a dispatch creates."""
    body: dict[str, Any] = json.loads(json.dumps(spokejob(job, "shop")))
    return body


def stored(body: dict[str, Any], shown: SpokeJobStatus) -> dict[str, Any]:
    """A SpokeJob as the API server has it."""
    of_the_server = {"uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-03-01T00:00:00Z"}
    metadata = body["metadata"] | of_the_server | {"namespace": "shop"}
    return body | {"metadata": metadata, "status": shown.model_dump(mode="json", by_alias=True, exclude_none=True)}


def situations() -> dict[str, SpokeJobStatus]:
    """The status of a SpokeJob in each situation."""
    new = SpokeJobStatus()
    running = status.attempt_started(new, 1, "job-1", "t/1", NOW, NOW)
    failed = status.attempt_failed(running, Ended(cause="JobError"), None, TryAgain(60.0), NOW, 7)
    return {
        "not seen by the operator": new,
        "waits": status.held(new, Wait(WaitReason.CLUSTER_FULL), NOW, blocked=False),
        "runs": status.attempt_runs(running, None, NOW),
        "backs off": failed,
        "has succeeded": status.finished(running, "", NOW),
        "has failed": status.finished(failed, "JobError", NOW, job_id=7),
    }


def test_waiting_jobs_move_and_no_others(clusters: Clusters) -> None:
    suspend, copy, unsuspend = commands()
    shown = situations()
    options = JobOptions(timeout_seconds=60, labels={"team": "payments"})
    jobs = {name: a_job(id=n, runner="kubernetes", options=options) for n, name in enumerate(shown, 1)}
    clusters.put("old", [stored(created(jobs[name]), shown[name]) for name in shown])

    clusters.run(suspend)
    suspended = clusters.items("old")
    held = [name for name in shown if suspended[jobs[name].id]["spec"].get("suspend")]
    assert held == ["not seen by the operator", "waits"]

    shown |= dict.fromkeys(("runs", "backs off"), shown["has succeeded"])  # the page waits for their ends
    clusters.put("old", [stored(suspended[jobs[name].id], shown[name]) for name in shown])
    clusters.run(copy)
    moved = clusters.items("new")
    assert [name for name in shown if jobs[name].id in moved] == held
    for name in held:
        item, wanted = moved[jobs[name].id], created(jobs[name])
        del wanted["metadata"]["namespace"]
        assert item == wanted
        assert read_view(item).is_of(Row(jobs[name], None)), "sync finds its job"
        assert isinstance(read_spokejob(stored(item, SpokeJobStatus())), SpokeJob), "the operator reads it"

    clusters.run(unsuspend)
    assert not any(item["spec"].get("suspend") for item in clusters.items("old").values())


def test_without_jobs_the_commands_change_nothing(clusters: Clusters) -> None:
    for command in commands():
        clusters.run(command)
    assert clusters.items("old") == clusters.items("new") == {}
