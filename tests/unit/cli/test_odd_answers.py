"""Whatever form the API server's answers have, the commands that read the cluster print what they found, and end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.commands import run_command
from tests.contract.ledger import claim_one, new_job
from tests.unit.cli.api_server import answering, write_kubeconfig
from tests.unit.cli.conftest import Run

from spoke_jobs.ledger.sql_ledger import SqlLedger

ANY_FIELD = ("status", "spec", "metadata", "versions", "resources", "items", "template", "data")
ODD: list[dict[str, Any]] = [
    {},
    *(dict.fromkeys(ANY_FIELD, value) for value in (None, "text", [None], [{}], {"name": []})),
    {"status": {"userInfo": [], "allowed": "yes"}},
    {"versions": [{"version": "v1"}], "resources": [{"name": "spokejobs"}, {"name": 7}], "status": {"allowed": True}},
    {"metadata": {"annotations": {"jobs.spoke.dev/allowed-types": 7}, "labels": 7}, "template": {"spec": "text"}},
    {"spec": {"renewTime": "2026-01-01T00:00:00", "leaseDurationSeconds": 10**18, "holderIdentity": 7}},
    {"spec": {"renewTime": "9999-12-31T23:59:59Z", "leaseDurationSeconds": "15"}},
    {"data": {"state": "[", "time": "0001-01-01T00:00:00Z"}},
    {"items": [{"involvedObject": "text", "series": "text", "count": "text"}]},
]
COMMANDS = (
    *(["check", "--as", account, "--lease", "shop/lease"] for account in ("runner", "sync")),
    *(["why"], ["why", "1"], ["why", "2"]),
)


class Cluster:
    """An API server with one answer."""

    def __init__(self) -> None:
        self.answer = b"{}"


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Cluster, str]]:
    cluster = Cluster()
    with answering(lambda _path: (200, cluster.answer)) as url:
        yield cluster, url


@pytest.fixture
def cluster(
    served: tuple[Cluster, str], ledger: SqlLedger, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Cluster:
    """The cluster that the commands use, and a ledger with a job that runs and one that waits.

    :param run: sets the ledger's address.
    """
    monkeypatch.setenv("KUBECONFIG", write_kubeconfig(served[1], tmp_path / "kubeconfig"))
    monkeypatch.setenv("SPOKE_NAMESPACE", "shop")
    monkeypatch.setenv("SPOKE_APP", "tests.contract.app:registry")
    ledger.insert(new_job(runner="kubernetes"))
    assert claim_one(ledger, "kubernetes", ["report"], "pod-1", 30.0)
    ledger.insert(new_job(runner="kubernetes"))
    return served[0]


@pytest.mark.parametrize("answer", ODD, ids=lambda answer: json.dumps(answer)[:60])
def test_no_answer_ends_a_command_with_a_traceback(answer: dict[str, Any], cluster: Cluster) -> None:
    cluster.answer = json.dumps(answer).encode()
    for command in COMMANDS:
        result = run_command(command)
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
        assert "Traceback" not in result.stderr
        if command[0] == "check":
            assert "server" in result.stdout, "it goes on with the other checks"
