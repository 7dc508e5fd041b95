"""`spoke-jobs limits`, `pause` and `resume` on an SQLite ledger, and what `why`, `ls` and `events` say of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.contract.ledger import LEASE, new_job
from tests.unit.cli.conftest import Run

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import Bounds, parse_scope
from spoke_jobs.limits.limit_file import read_entries


def why(run: Run, job_id: int) -> Any:
    return json.loads(run("why", job_id, "--json").stdout)["reasons"][0]


def test_a_pause_is_shown_on_each_job_that_it_holds_back_until_it_ends(ledger: SqlLedger, run: Run) -> None:
    job = ledger.insert(new_job())
    paused = run("pause", "type:report", "--reason", "the carrier is down", "--until", "+2h", "--as", "ada")
    assert paused.stdout == "type:report\tpaused\n"
    reason = why(run, job.id)
    assert (reason["code"], reason["cause"]) == ("paused", "Paused")
    for part in ("paused by ada (the pause of type:report) since ", " until ", ": the carrier is down"):
        assert part in reason["text"]
    assert "spoke-jobs resume type:report" in reason["advice"]
    cells = run("ls").stdout.rstrip("\n").split("\t")
    assert cells[6] == "Paused"
    assert "the carrier is down" in cells[9]
    assert run("resume", "type:report").stdout == "type:report\tresumed\n"
    assert why(run, job.id)["code"] != "paused"
    assert run("ls").stdout.split("\t")[6] == "-"
    assert "type:report is not paused" in run("resume", "type:report", code=3).stderr


def test_each_pause_of_a_job_is_named(ledger: SqlLedger, run: Run) -> None:
    job = ledger.insert(new_job())
    for scope in ("all", "type:report"):
        run("pause", scope, "--reason", f"because of {scope}")
    reasons = json.loads(run("why", job.id, "--json").stdout)["reasons"]
    assert [(reason["code"], reason["advice"].rpartition("resume ")[2]) for reason in reasons] == [
        ("paused", "type:report`"),
        ("paused", "all`"),
    ]
    assert "because of all" in reasons[1]["text"]

    def of_all() -> str:
        (group,) = json.loads(run("why", "--json").stdout)["groups"]
        return str(group["advice"])

    assert of_all() == (
        "To end the pause: `spoke-jobs resume type:report`. The jobs stay paused until this is done, too: "
        "`spoke-jobs resume all`."
    )
    run("resume", "all")
    assert of_all() == "To end the pause: `spoke-jobs resume type:report`."
    assert len(json.loads(run("why", job.id, "--json").stdout)["reasons"]) == 1


def test_a_full_limit_is_named_with_its_numbers(ledger: SqlLedger, run: Run) -> None:
    ledger.insert_many([new_job(queue_name="slow", priority=number) for number in range(3, 0, -1)])
    run("limits", "set", "each-queue", "--max-running", 1)
    ledger.claim_batch("legacy", ["report"], "w", LEASE, 3)
    reason = why(run, 2)
    assert (reason["code"], reason["cause"], reason["number"]) == ("limit", "QueueLimitReached", 1)
    assert reason["text"] == "running jobs of the queue 'slow': 1 of at most 1 (limit each-queue)"
    assert "spoke-jobs limits set each-queue --max-running 2`" in reason["advice"]
    assert [line.split("\t")[6] for line in run("ls").stdout.splitlines()] == ["QueueLimitReached"] * 2 + ["-"]
    run("limits", "set", "type:report", "--rate", "1/h")
    run("limits", "set", "each-queue", "--max-running", "none")
    ledger.claim_batch("legacy", ["report"], "w", LEASE, 3)
    assert why(run, 3)["text"] == "starts at most 1/h (limit type:report)"


@pytest.mark.parametrize(
    ("bounds", "advised", "after"),
    [
        (("--max-running", 0), "until somebody raises the limit", "max_running 1"),
        (("--max-running", 1), "No action is needed", "max_running 2"),
        (("--rate", "1/h", "--burst", 2), "No action is needed", "rate 2/h, burst 2"),
    ],
)
def test_the_command_that_raises_a_limit_can_be_run(
    ledger: SqlLedger, run: Run, bounds: tuple[object, ...], advised: str, after: str
) -> None:
    ledger.insert_many([new_job() for _ in range(3)])
    run("limits", "set", "type:report", *bounds)
    claimed = ledger.claim_batch("legacy", ["report"], "w", LEASE, 3)
    of_one = why(run, 3)["advice"]
    assert json.loads(run("why", "--json").stdout)["groups"][0]["advice"] == of_one
    assert advised in of_one
    command = of_one.rpartition("`spoke-jobs ")[2].removesuffix("`.")
    assert run(*command.split()).stdout == f"type:report\t{after}\n"
    if "rate" not in command:
        assert len(ledger.claim_batch("legacy", ["report"], "w", LEASE, 3)) == 1, claimed


def test_what_is_not_given_stays_and_a_scope_is_one_field(run: Run) -> None:
    assert run("limits", "set", "queue:bank", "--rate", "5/s", "--burst", 10).exit_code == 0
    assert run("limits", "set", "queue:bank", "--rate", "6/s").stdout == "queue:bank\trate 6/s, burst 10\n"
    assert run("limits", "set", "queue:a\nb", "--max-running", 1).stdout == "queue:a b\tmax_running 1\n"


def test_limits_are_listed_set_and_reset(ledger: SqlLedger, run: Run) -> None:
    ledger.limits.declare({parse_scope("type:report"): Bounds(2)}, "shop.jobs")
    ledger.insert(new_job())
    ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)
    assert run("limits", "set", "type:report", "--max-running", 5, "--rate", "10/min", "--burst", 3).stdout == (
        "type:report\tmax_running 5, rate 10/min, burst 3\n"
    )
    assert run("limits", "set", "type:report", "--burst", 4).stdout.endswith("rate 10/min, burst 4\n")
    run("pause", "all", "--reason", "upgrade", "--as", "ada")
    assert run("limits", "ls").stdout.splitlines() == [
        "all\t1\t-\t-\t-\tupgrade (by ada)",
        "type:report\t1\t5\t10/min, burst 4\truntime (default: max_running 2)\t-",
    ]
    listed = json.loads(run("limits", "ls", "--json").stdout)["limits"]
    assert listed[1] == {
        "scope": "type:report",
        "running": 1,
        "max_running": 5,
        "rate": {"count": 10, "seconds": 60, "burst": 4},
        "source": "runtime",
        "default": {"max_running": 2, "rate": None},
        "pause": None,
    }
    assert (listed[0]["pause"]["reason"], listed[0]["pause"]["by"]) == ("upgrade", "ada")
    was_reset = run("limits", "reset", "type:report")
    assert was_reset.stdout == "type:report\tmax_running 2\n"
    assert was_reset.stderr == "this is what the code of shop.jobs declares\n"
    assert "there is no limit queue:x" in run("limits", "reset", "queue:x", code=3).stderr
    assert [line.split("\t")[2::3] for line in run("events").stdout.splitlines()] == [
        ["reset limit", "type:report: max_running 2"],
        ["pause", "all: upgrade"],
        ["set limit", "type:report: max_running 5, rate 10/min, burst 4"],
        ["set limit", "type:report: max_running 5, rate 10/min, burst 3"],
        ["set limit", "type:report: max_running 2 (declared)"],
    ]


def test_what_a_deploy_changes_is_an_event_of_the_application(ledger: SqlLedger, run: Run) -> None:
    scope = parse_scope("type:report")
    for declared in ({scope: Bounds(2)}, {scope: Bounds(2)}, {scope: Bounds(3)}, {}):
        ledger.limits.declare(declared, "shop.jobs")
    run("limits", "set", "type:report", "--max-running", 9, "--as", "ada")
    ledger.limits.declare({scope: Bounds(4)}, "shop.jobs")
    ledger.limits.apply(read_entries([{"scope": "type:report", "max_running": 5}]), "ada")
    ledger.limits.declare({scope: Bounds(6)}, "shop.jobs")
    shown = [line.split("\t")[1:3] + line.split("\t")[5:] for line in run("events").stdout.splitlines()]
    assert shown[::-1] == [
        ["shop.jobs", "set limit", "type:report: max_running 2 (declared)"],
        ["shop.jobs", "set limit", "type:report: max_running 3 (declared)"],
        ["shop.jobs", "reset limit", "type:report: no longer declared"],
        ["ada", "set limit", "type:report: max_running 9"],
        ["shop.jobs", "set limit", "type:report: max_running 4 (declared, max_running 9 stays in effect)"],
        ["ada", "set limit", "type:report: max_running 5 (applied)"],
        ["shop.jobs", "set limit", "type:report: max_running 6 (declared, max_running 9 stays in effect)"],
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["pause", "report", "--reason", "x"], 2, "'report' is not a scope: give all, type:NAME"),
        (["pause", "all"], 2, "--reason"),
        (["pause", "all", "--reason", " "], 1, "reason is ' '"),
        (["pause", "all", "--reason", "x", "--until", "2020-01-01T00:00Z"], 1, "which is over"),
        (["limits", "set", "all"], 2, "give --max-running, --rate or --burst"),
        (
            ["limits", "set", "all", "--max-running", "-1"],
            2,
            "'-1' is neither a whole number from 0 to 1,000,000",
        ),
        (["limits", "set", "all", "--max-running", "1000001"], 1, "give a whole number from 0 to 1,000,000"),
        (["limits", "set", "all", "--rate", "0/s"], 1, "a rate of 0 can't be kept"),
        (["limits", "set", "all", "--rate", "1000000/s"], 1, "the fastest is 10,000/s"),
        (["limits", "set", "all", "--rate", "5/0s"], 1, "give 1 second to 7 days"),
        (["limits", "set", "all", "--rate", "5/s", "--burst", "0"], 1, "burst is 0"),
        (["limits", "set", "all", "--burst", "2"], 1, "burst belongs to a rate"),
    ],
)
def test_bad_input_is_refused_with_what_to_give_instead(
    ledger: SqlLedger, run: Run, arguments: list[str], code: int, text: str
) -> None:
    assert text in " ".join(run(*arguments, code=code).stderr.split())
    assert list(ledger.limits.all()) == []


def test_a_limit_on_a_type_that_no_job_has_is_set_with_a_warning(ledger: SqlLedger, run: Run) -> None:
    ledger.insert(new_job(job_type="export_contacts"))
    warned = run("limits", "set", "type:exports_contact", "--max-running", 2)
    assert "no declared type and no stored job matches 'exports_contact'" in warned.stderr
    assert "Did you mean 'export_contacts'?" in warned.stderr
    assert run("limits", "set", "type:export_contacts", "--max-running", 2).stderr == ""
    assert len(ledger.limits.all()) == 2


def test_a_file_is_applied_shown_first_and_pruned(ledger: SqlLedger, run: Run) -> None:
    run("limits", "set", "queue:mine", "--max-running", 1)
    text = "- {scope: all, max_running: 9}\n- {scope: queue:slow, max_running: 2, paused: upgrade}\n"
    shown = "all\tmax_running 9\nqueue:slow\tmax_running 2; paused: upgrade\n"
    assert run("limits", "apply", "-f", "-", "--dry-run", input=text).stdout == shown
    assert len(ledger.limits.all()) == 1
    assert run("limits", "apply", "-f", "-", "--as", "ada", input=text).stdout == shown
    assert "nothing to change" in run("limits", "apply", "-f", "-", input=text).stderr
    assert [line.split("\t")[2::3] for line in run("events").stdout.splitlines()[:3]] == [
        ["pause", "queue:slow: upgrade"],
        ["set limit", "queue:slow: max_running 2 (applied)"],
        ["set limit", "all: max_running 9 (applied)"],
    ]
    pruned = run("limits", "apply", "-f", "-", "--prune", input="[]").stdout
    assert pruned == "all\tremoved\nqueue:slow\tremoved; it stays paused: upgrade\n"
    assert [str(limit.scope) for limit in ledger.limits.all()] == ["queue:mine", "queue:slow"]
    assert run("limits", "ls").stdout.splitlines()[1].startswith("queue:slow\t0\t-\t-\t-\tupgrade"), "from nowhere"
    run("limits", "set", "queue:slow", "--max-running", 4)
    assert run("limits", "reset", "queue:slow").stdout == "queue:slow\tno bounds; it stays paused: upgrade\n"
    refused = run("limits", "apply", "-f", "-", input="[{scope: each-type, rate: 5}]", code=1).stderr
    assert "entry 1 (each-type): rate is 5: give a text like '5/s'" in refused
    assert "can't be read" in run("limits", "apply", "-f", "/nowhere/limits.yaml", code=1).stderr


def test_apply_says_what_stays_in_effect_besides_the_file(ledger: SqlLedger, run: Run) -> None:
    text = "[{scope: all, max_running: 40}]"
    run("limits", "apply", "-f", "-", input=text)
    run("limits", "set", "all", "--max-running", 7)
    for flags in (["--dry-run"], []):
        shown = run("limits", "apply", "-f", "-", *flags, input=text).stderr
        assert shown.startswith("nothing to change\nall: max_running 7, which somebody set, stays in effect")
    run("limits", "reset", "all")
    run("limits", "apply", "-f", "-", "--prune", input="[{scope: all, paused: upgrade}]")
    pruned = run("limits", "apply", "-f", "-", "--prune", input="[]")
    assert pruned.stderr.startswith("nothing to change\nall: not in the file; it stays paused: upgrade")
    assert run("resume", "all").stdout == "all\tresumed\n"
    assert list(ledger.limits.all()) == []


def test_under_kubernetes_what_the_operator_does_not_obey_is_refused_by_name(
    ledger: SqlLedger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_RUNNER", "kubernetes")
    assert run("limits", "set", "queue:slow", "--max-running", 2).stdout == "queue:slow\tmax_running 2\n"
    run("pause", "all", "--reason", "upgrade", "--as", "ada")
    assert run("limits", "set", "queue:slow", "--rate", "5/s").stdout == "queue:slow\tmax_running 2, rate 5/s\n"
    split = run("limits", "set", "queue:a\nb", "--rate", "5/s", code=1).stderr
    assert "no SpokeLimit can have this scope" in split
    assert len(ledger.limits.all()) == 2
    run("resume", "all")
    run("limits", "reset", "queue:slow")
    assert list(ledger.limits.all()) == []
