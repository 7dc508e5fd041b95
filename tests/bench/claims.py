"""What a claim costs where something stands in its way, beside the same claim where nothing does.

    python -m tests.bench.claims [ROUNDS]

On one PostgreSQL (SPOKE_TEST_POSTGRES, or the one that scripts/postgres runs), in a database for each case:

- floor: 5,000 jobs wait, and there is no history
- history: 5,000 wait beside 50,000 finished ones
- held open: 5,000 wait, and one transaction has been open while 20,000 were run through: nothing of them can be removed
- held open, locking: the same, where each of the 20,000 locked a queue
- blocked: 5,000 jobs of a held queue stand before 5,000 that may be claimed
- diamonds: 600 times, two jobs depend on a first one, and a last one on both; independent jobs follow
- chains: 50 chains of 100 jobs, each of which depends on the one before it
- fan-out: 5,000 jobs that depended on one, which has ended

Each round claims once in every case, in turns, so that whatever else the machine does falls on all alike. A claim is
measured as a worker makes it that has just been started. Ends with one line `BENCH {...}`: milliseconds, and the
medians over the floor's.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from sqlalchemy import Engine, text
from tests.bench.lib.database import ledger_database
from tests.bench.lib.report import last_line

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobOptions, NewJob

LIMITS = (1, 8)
WAITING, FINISHED, RUN_THROUGH, BLOCKED = 5_000, 50_000, 20_000, 5_000
DIAMONDS, CHAINS = 600, 50
AIMS = {"history": 1.5, "held open": 3.0, "held open, locking": 3.0, "blocked": 3.0}
AIMS |= dict.fromkeys(("diamonds", "chains", "fan-out"), 1.5)
LEASE = 3600.0


def new_job(**changes: object) -> NewJob:
    """A dispatch of no particular kind."""
    values: dict[str, object] = {
        "job_type": "report",
        "payload": '{"n": 1}',
        "queue_name": "",
        "locks_queue": False,
        "organization_id": 3,
        "campaign_id": 12,
        "runner": "legacy",
        "assigned": False,
        "options": JobOptions(retry=RetryPolicy()),
    }
    return NewJob(**(values | changes))  # type: ignore[arg-type]


def run_through(ledger: SqlLedger, count: int, *, locking: bool = False) -> None:
    """Dispatch jobs and run them, as many workers would."""
    for start in range(0, count, 500):
        names = [f"q{start + number}" if locking else "" for number in range(500)]
        ledger.insert_many([new_job(queue_name=name, locks_queue=locking) for name in names])
        left = 500
        while left:
            claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 500)
            ledger.succeed_many({claim.token: None for claim in claims})
            left -= len(claims)


def wait_in_line(ledger: SqlLedger) -> None:
    """Let the jobs wait that the claims are to find."""
    ledger.insert_many([new_job() for _ in range(WAITING)])
    analyze(ledger.engine)


def analyze(engine: Engine) -> None:
    """Collect figures about the tables, as autovacuum sees to them."""
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))


def floor(engine: Engine, _stack: ExitStack) -> None:
    """Nothing but the waiting jobs."""
    wait_in_line(SqlLedger(engine))


def history(engine: Engine, _stack: ExitStack) -> None:
    """Finished jobs, as a week leaves them behind."""
    ledger = SqlLedger(engine)
    run_through(ledger, FINISHED)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))
    wait_in_line(ledger)


def held_open(engine: Engine, stack: ExitStack, *, locking: bool = False) -> None:
    """One transaction sees the table as it was before the jobs were run through, and stays."""
    ledger = SqlLedger(engine)
    reader = stack.enter_context(engine.connect().execution_options(isolation_level="REPEATABLE READ"))
    reader.execute(text("SELECT count(*) FROM job_request"))
    run_through(ledger, RUN_THROUGH, locking=locking)
    wait_in_line(ledger)


def held_open_locking(engine: Engine, stack: ExitStack) -> None:
    """The same of jobs that lock their queues."""
    held_open(engine, stack, locking=True)


def blocked(engine: Engine, _stack: ExitStack) -> None:
    """Jobs of a held queue before all others."""
    ledger = SqlLedger(engine)
    ledger.insert_many([new_job(queue_name="held", locks_queue=True) for _ in range(BLOCKED + 1)])
    ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)
    wait_in_line(ledger)


def diamonds(engine: Engine, _stack: ExitStack) -> None:
    """Jobs that wait for two others, which wait for one. The ends of claimed jobs unblock them."""
    ledger = SqlLedger(engine)
    firsts = ledger.insert_many([new_job() for _ in range(DIAMONDS)])
    sides = [ledger.insert_many([new_job(after=(first.id,)) for first in firsts]) for _ in range(2)]
    ledger.insert_many([new_job(after=(left.id, right.id)) for left, right in zip(*sides, strict=True)])
    ledger.insert_many([new_job() for _ in range(WAITING - 4 * DIAMONDS)])
    analyze(engine)


def chains(engine: Engine, _stack: ExitStack) -> None:
    """Jobs that wait for the one before them. As many as there are chains may be claimed."""
    ledger = SqlLedger(engine)
    links = ledger.insert_many([new_job() for _ in range(CHAINS)])
    for _ in range(WAITING // CHAINS - 1):
        links = ledger.insert_many([new_job(after=(link.id,)) for link in links])
    analyze(engine)


def fan_out(engine: Engine, _stack: ExitStack) -> None:
    """Jobs that waited for one."""
    ledger = SqlLedger(engine)
    first = ledger.insert(new_job())
    ledger.insert_many([new_job(after=(first.id,)) for _ in range(WAITING)])
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)
    ledger.succeed(None, claim.token, None)
    while ledger.settle():
        pass
    analyze(engine)


CASES: dict[str, Callable[[Engine, ExitStack], None]] = {
    "floor": floor,
    "history": history,
    "held open": held_open,
    "held open, locking": held_open_locking,
    "blocked": blocked,
    "diamonds": diamonds,
    "chains": chains,
    "fan-out": fan_out,
}


def measure(ledgers: dict[str, SqlLedger], rounds: int) -> dict[tuple[str, int], list[float]]:
    """Milliseconds of each claim."""
    times: dict[tuple[str, int], list[float]] = {(case, limit): [] for case in ledgers for limit in LIMITS}
    for _ in range(rounds):
        for limit in LIMITS:
            for case, ledger in ledgers.items():
                began = time.perf_counter()
                claims = ledger.claim_batch("legacy", ["report", "ingest.*"], "w", LEASE, limit)
                times[case, limit].append((time.perf_counter() - began) * 1000)
                assert len(claims) == limit
                ledger.succeed_many({claim.token: None for claim in claims})
    return times


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with ExitStack() as stack:
        ledgers = {}
        for case, fill in CASES.items():
            began = time.perf_counter()
            engine = stack.enter_context(ledger_database())
            fill(engine, stack)
            ledgers[case] = SqlLedger(engine)
            print(f"{case}: filled in {time.perf_counter() - began:.0f} s", flush=True)
        times = measure(ledgers, rounds)
    rows = []
    print(f"\n{'':20} {'limit':>5} {'median ms':>10} {'p90 ms':>8} {'over floor':>11} {'aim':>5}")
    for (case, limit), taken in times.items():
        median, p90 = statistics.median(taken), statistics.quantiles(taken, n=10)[-1]
        ratio = median / statistics.median(times["floor", limit])
        aim = AIMS.get(case)
        print(f"{case:20} {limit:5} {median:10.2f} {p90:8.2f} {ratio:11.2f} {aim or '':>5}")
        figures = {"case": case, "limit": limit, "median_ms": median, "p90_ms": p90, "over_floor": ratio, "aim": aim}
        rows.append({name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()})
    print(last_line("claims", {"rounds": rounds, "rows": rows}))


if __name__ == "__main__":
    main()
