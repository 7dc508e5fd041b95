"""The scene of `kubectl get spokejobs`: four jobs on the test cluster, with a stand-in for the application."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.integration.operator.conftest import (
    Cluster,
    OperatorProcess,
    bring_standin,
    limited_kubeconfig,
    new_namespace,
    reach_cluster,
)

from spoke_jobs.contract.names import spokejob_name

_PATIENCE = 300.0
"""How long to wait for something that takes a few seconds on an idle machine."""


def main() -> None:
    env = reach_cluster()
    with new_namespace(env, bring_standin(env)) as shop, tempfile.TemporaryDirectory() as folder:
        shop.template("default", "sleep-1")
        shop.template("long", "sleep-8")
        shop.template("broken", "10")
        with operator_at_work(shop, Path(folder)):
            play(shop, env | {"KUBECONFIG": kubeconfig_within(shop, Path(folder))})


def play(shop: Cluster, env: Mapping[str, str]) -> None:
    shop.until_final(submit(shop, 41, "export"), _PATIENCE)  # kubectl chooses the columns' widths by the first rows
    names = [submit(shop, 42, "import_contacts", podTemplate="long", queue="7:contacts", locksQueue=True)]
    names.append(submit(shop, 43, "assign_texters", queue="7:contacts", locksQueue=True))
    shop.until(names[1], lambda status: status.get("cause") == "QueueLocked", _PATIENCE)
    prompt("kubectl get spokejobs -w")
    with subprocess.Popen(["kubectl", "get", "spokejobs", "--watch"], env=env) as watching:
        time.sleep(1)
        names.append(submit(shop, 44, "send_report", podTemplate="broken", retry={"budget": {"error": 2}}))
        for name in names:
            shop.until_final(name, _PATIENCE)
        time.sleep(1)  # until kubectl has printed the last line
        watching.terminate()
    show("^C\n\n")
    prompt("kubectl get spokejobs")
    subprocess.run(["kubectl", "get", "spokejobs"], env=env, check=True)


def submit(shop: Cluster, number: int, job_type: str, **spec: Any) -> str:
    uid = UUID(f"{number:08}-0000-4000-8000-000000000000")
    name = spokejob_name(job_type, number, uid)
    body = {
        "apiVersion": "jobs.spoke.dev/v1",
        "kind": "SpokeJob",
        "metadata": {"name": name},
        "spec": {"uid": str(uid), "requestId": number, "jobType": job_type} | spec,
    }
    shop.kubectl("create", "--filename=-", stdin=json.dumps(body))
    return name


@contextmanager
def operator_at_work(shop: Cluster, folder: Path) -> Iterator[None]:
    operator = OperatorProcess(limited_kubeconfig(shop, folder), shop.namespace, folder / "operator.log")
    operator.start()
    try:
        yield
    finally:
        operator.stop()


def kubeconfig_within(shop: Cluster, folder: Path) -> str:
    """Write a kubeconfig whose default namespace is the shop's."""
    config = json.loads(shop.kubectl("config", "view", "--minify", "--raw", "--output=json"))
    config["contexts"][0]["context"]["namespace"] = shop.namespace
    path = folder / "within"
    path.write_text(json.dumps(config))
    return str(path)


def prompt(command: str) -> None:
    """Show a command as if somebody typed it."""
    show("\x1b[1;32m$\x1b[0m ")
    time.sleep(0.6)
    for character in command:
        show(character)
        time.sleep(0.04)
    time.sleep(0.4)
    show("\n")


def show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
