"""The name of the process that changes something: in a pod its service account, elsewhere the system's user."""

from __future__ import annotations

import base64
import getpass
import json
import socket
from pathlib import Path

import pytest

from spoke_jobs import (
    JobData,
    dispatch_job,
    pause,
    pause_schedule,
    put_schedule,
    reset_limit,
    resume,
    retry_job,
    set_limit,
    use_runner,
)
from spoke_jobs.ledger.audit.process_actor import actor_name, process_actor
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.registry import Registry
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.schedules.timing import Every
from spoke_jobs.settings import Settings

HOST = socket.gethostname()


def token(claims: object) -> str:
    parts = ({"alg": "RS256"}, claims)
    return ".".join(
        [*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "s"]
    )


def test_outside_a_pod_it_is_the_user_and_the_host(tmp_path: Path) -> None:
    assert process_actor({}, tmp_path) == f"{getpass.getuser()}@{HOST}"


def test_in_a_pod_it_is_the_account_of_its_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token({"sub": "system:serviceaccount:shop:web", "aud": ["x"], "exp": 1}) + "\n")
    environment = {"SPOKE_SERVICE_ACCOUNT": "another"}
    assert process_actor(environment, tmp_path) == f"system:serviceaccount:shop:web@{HOST}"


def test_an_account_without_a_namespace_is_only_its_name(tmp_path: Path) -> None:
    assert process_actor({"SPOKE_SERVICE_ACCOUNT": "worker"}, tmp_path) == f"worker@{HOST}"


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", token({"sub": 7}), token({"sub": "ada"}), token([1])])
def test_without_such_a_token_it_is_the_account_of_the_variable(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    (tmp_path / "namespace").write_text("shop")
    environment = {"SPOKE_SERVICE_ACCOUNT": "worker"}
    assert process_actor(environment, tmp_path) == f"system:serviceaccount:shop:worker@{HOST}"
    assert process_actor({}, tmp_path) == f"{getpass.getuser()}@{HOST}"
    (tmp_path / "namespace").unlink()  # of a pod without a token
    environment["SPOKE_NAMESPACE"] = "store"
    assert process_actor(environment, tmp_path) == f"system:serviceaccount:store:worker@{HOST}"


def test_a_name_that_is_given_is_stored_as_far_as_it_can_be() -> None:
    assert actor_name("ada") == "ada"
    assert "\x00" not in actor_name("a\x00da")
    assert len(actor_name("a" * 1000)) == 200
    assert actor_name("") == actor_name(None) == process_actor()


def test_a_call_that_names_nobody_records_the_process(sqlite_ledger_url: str) -> None:
    registry = Registry()

    @registry.job("report")
    def report(ctx: object) -> None:
        pass

    with use_runner(LegacyRunner(Settings(SPOKE_DATABASE_URL=sqlite_ledger_url), registry)) as runner:
        pause("all", "upgrade")
        set_limit("all", max_running=3)
        resume("all")
        reset_limit("all")
        put_schedule("nightly", "report", Every(hours=1))
        pause_schedule("nightly", by="ada")
        job = dispatch_job(JobData("report"))
        runner.ledger.cancel(job.id, "bob")  # type: ignore[attr-defined]
        retry_job(job.id)
        found = Queries(runner.ledger.engine).events()  # type: ignore[attr-defined]
        runner.close()
    assert [event.actor for event in reversed(found)] == [process_actor()] * 5 + ["ada", "bob", process_actor()]
