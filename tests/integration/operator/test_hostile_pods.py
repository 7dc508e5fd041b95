"""Pods that say hostile things beside good ones: each ends with its cause, and the good ones end as if they were alone.

`SPOKE_TEST_HOSTILE_PODS` sets how many hostile pods there are.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from statistics import median

import pytest
from tests.integration.operator.conftest import Cluster, Object, OperatorProcess
from tests.waiting import eventually

from spoke_jobs.contract.custom_resources.spokejob import Budget

HOSTILE = int(os.environ.get("SPOKE_TEST_HOSTILE_PODS", "1000"))
ONCE = {"budget": dict.fromkeys(Budget.model_fields, 1)}
KINDS: dict[str, tuple[int, bytes, str]] = {
    "endless-lists": (1, b"[" * 4096, "JobExited"),
    "endless-objects": (10, b'{"a":' * 800, "JobError"),
    "endless-number": (10, b'{"v":1,"retryAfterSeconds":' + b"9" * 4000 + b"}", "JobError"),
    "lone-surrogate": (10, rb'{"v":1,"cause":"\ud800"}', "JobError"),
    "nul": (14, rb'{"v":1,"cause":"Job\u0000Error"}', "Interrupted"),
    "no-text": (10, b'{"v":1,"cause":"\x00\xff\xfe\x80"}', "JobError"),
    "a-key-twice": (10, b'{"v":1,"cause":"Invented","cause":"InvalidPayload"}', "InvalidPayload"),
    "forged-success": (10, b'{"v":1,"cause":"","recorded":true,"retryAfterSeconds":1e999}', "JobError"),
    "other-types": (10, b'{"v":"1","cause":["a"],"errorType":{},"forGood":"x","retryAfterSeconds":true}', "JobError"),
    "too-long": (1, b"x" * 5000, "JobExited"),
}
"""By name: exit code, termination message, and the cause that the attempt must have."""


def escaped(message: bytes) -> str:
    """The message as `printf %b` writes it."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\0{byte:03o}" for byte in message)


def seconds(status: Object) -> float:
    """From the creation of the attempt's Job to the SpokeJob's end."""
    moments = (status["attempts"][0]["startedAt"], status["finishedAt"])
    started, finished = (datetime.fromisoformat(moment) for moment in moments)
    return (finished - started).total_seconds()


def run(cluster: Cluster, others: list[str], good: int) -> tuple[dict[str, list[Object]], list[float]]:
    """Run a job of each of these templates with good ones among them; the others' ends, and what the good ones took."""
    templates = [*others, *["good"] * good]
    random.Random(len(templates)).shuffle(templates)
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda template: cluster.submit(template, retry=ONCE), templates))

    def ended() -> dict[str, Object] | None:
        found = {item["metadata"]["name"]: item.get("status", {}) for item in cluster.spokejobs()}
        over = {name: found[name] for name in names if found[name].get("outcome") in ("Succeeded", "Failed")}
        return over if len(over) == len(names) else None

    statuses = eventually(ended, "the end of all", within=600 + 5 * len(names), every=5)
    ends: dict[str, list[Object]] = {}
    for name, template in zip(names, templates, strict=True):
        ends.setdefault(template, []).append(statuses[name])
    of_good = ends.pop("good")
    assert [status["outcome"] for status in of_good] == ["Succeeded"] * good
    return ends, sorted(map(seconds, of_good))


def in_words(took: list[float]) -> str:
    slow = f"one in twenty {took[int(len(took) * 0.95)]:.0f} s or more, the slowest {took[-1]:.0f} s"
    return f"a good one took {median(took):.0f} s, {slow}"


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_good_jobs_end_as_usual_beside_pods_that_say_hostile_things(apart: Cluster, own: OperatorProcess) -> None:
    resources = {"resources": {"requests": {"cpu": "1m", "memory": "4Mi"}}}
    apart.template("good", "work", container=resources)
    apart.template("harmless", "1", container=resources)
    for kind, (code, message, _) in KINDS.items():
        said = {"name": "MESSAGE", "value": escaped(message)}
        apart.template(kind, str(code), container=resources | {"env": [{"name": "STANDIN", "value": str(code)}, said]})
    own.start()
    good = max(HOSTILE // 10, 10)
    _, usual = run(apart, ["harmless"] * (HOSTILE // 5), max(good // 5, 10))
    hostile = [kind for kind in KINDS for _ in range(HOSTILE // len(KINDS))]
    ends, took = run(apart, hostile, good)
    found = {kind: {(status["outcome"], status["cause"]) for status in ends[kind]} for kind in KINDS}
    print(
        f"{len(hostile)} hostile pods beside {good} good jobs: from the Job's creation to the end, {in_words(took)}; "
        f"beside harmless failures {in_words(usual)}"
    )
    assert found == {kind: {("Failed", cause)} for kind, (_, _, cause) in KINDS.items()}
    assert all(len(status["attempts"]) == 1 for statuses in ends.values() for status in statuses)
    assert own.metric("spoke_operator_undiagnosable_total") == 0
    assert median(took) <= 2 * median(usual) + 5
    assert took[-1] <= 3 * usual[-1] + 30, "none is late; the bound is wider, because the machine may be busy"
