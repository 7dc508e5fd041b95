"""What docs/how-to/kubectl.md shows is what kubectl prints, on a cluster with an operator at work."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.integration.docs.pages import plain_environment
from tests.integration.operator.conftest import CLUSTER, Cluster, OperatorProcess
from tests.waiting import patient

from spoke_jobs.contract.names import spokejob_name

PAGE = Path(__file__).parents[3] / "docs/how-to/kubectl.md"
NAMESPACE = "shop"
"""The namespace as the page calls it."""
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PASSING = re.compile(r"-[0-9]-[a-z0-9]{5}\b|\b[0-9][0-9a-fTZ:.+]*[smhd]?\b")
"""The ends of pods' names, ages, times: what is another one each time."""
WATCHED = "export-45-00000045"


@dataclass(frozen=True)
class Shown:
    """A command of the page, and what it prints there."""

    command: str
    output: tuple[str, ...]


def shown() -> list[Shown]:
    found = []
    for block in CONSOLE.finditer(PAGE.read_text()):
        for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            found.append(Shown(command, tuple(line for line in output if line.strip() not in ("", "..."))))
    return found


@pytest.fixture
def shop(cluster: Cluster, operator_kubeconfig: str, tmp_path: Path) -> Iterator[Cluster]:
    """A namespace with a job that has succeeded, one that runs, one that waits for it, and one that has failed."""
    for template, standin in {"default": "0", "slow": "wait", "broken": "10"}.items():
        cluster.template(template, standin)
    operator = OperatorProcess(operator_kubeconfig, cluster.namespace, tmp_path / "operator.log")
    operator.start()
    try:
        submit(cluster, 41, "export")
        submit(cluster, 42, "import_contacts", podTemplate="slow", queue="7:contacts", locksQueue=True, organization=7)
        cluster.until("import-contacts-42-00000042", lambda status: status.get("outcome") == "Running")
        submit(cluster, 43, "assign_texters", queue="7:contacts", locksQueue=True, organization=7)
        submit(cluster, 44, "send_report", podTemplate="broken", retry={"budget": {"error": 2}})
        cluster.until("assign-texters-43-00000043", lambda status: status.get("cause") == "QueueLocked")
        for name in ("export-41-00000041", "send-report-44-00000044"):
            cluster.until_final(name)
        yield cluster
    finally:
        assert operator.stop() == 0


def submit(cluster: Cluster, number: int, job_type: str, **spec: Any) -> None:
    uid = UUID(f"{number:08}-0000-4000-8000-000000000000")
    body = {
        "apiVersion": "jobs.spoke.dev/v1",
        "kind": "SpokeJob",
        "metadata": {"name": spokejob_name(job_type, number, uid)},
        "spec": {"uid": str(uid), "requestId": number, "jobType": job_type} | spec,
    }
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(body))


def test_every_command_prints_what_the_page_shows(shop: Cluster, cluster_env: dict[str, str], tmp_path: Path) -> None:
    config = json.loads(shop.kubectl("config", "view", "--minify", "--raw", "--output=json"))
    config["contexts"][0]["context"]["namespace"] = shop.namespace
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    env = plain_environment() | {"PATH": cluster_env["PATH"], "KUBECONFIG": str(tmp_path / "kubeconfig")}
    commands = shown()
    assert len(commands) > 10
    for item in commands:
        printed = run(item, shop, env).replace(shop.namespace, NAMESPACE).replace(f"{CLUSTER}-", "spoke-test-")
        print(f"$ {item.command}\n{printed}")  # what to paste into the page
        lines = iter(map(plain, printed.splitlines()))
        for line in item.output:  # in this order; what the page leaves out may stand between
            assert plain(line) in lines, f"the page shows what isn't printed: {line}"


def run(item: Shown, shop: Cluster, env: dict[str, str]) -> str:
    refused = any("is invalid" in line for line in item.output)
    if " -w" in item.command:
        return watch(item.command, shop, env)
    done = subprocess.run(
        ["bash", "-c", item.command], env=env, capture_output=True, text=True, timeout=patient(90), check=False
    )
    assert done.returncode == (1 if refused else 0), f"{item.command}: {done.stderr}"
    return done.stdout + done.stderr


def watch(command: str, shop: Cluster, env: dict[str, str]) -> str:
    """What is printed while a job comes and ends."""
    with subprocess.Popen(command.split(), env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines: list[str] = [process.stdout.readline()]  # it watches
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        reader.start()
        try:
            submit(shop, 45, "export")
            shop.until_final(WATCHED)
            shop.kubectl("wait", "--for=condition=Finished", f"spokejob/{WATCHED}")
        finally:
            threading.Event().wait(1)  # for it to be printed
            process.terminate()
            reader.join(patient(30))
    return "".join(lines)


def plain(line: str) -> str:
    """A line without what differs from one time to the next, and without how columns are aligned."""
    return " ".join(PASSING.sub("#", line).split())
