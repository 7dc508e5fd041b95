"""Measure, show, write: what `run` starts. The last line is for programs.

ROUNDS (3): how often each measure is taken. A single round is a quick look, and is written into docs, too.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import psycopg
from sqlalchemy import make_url
from tests.bench.control import batches, claims, peers, reasons, schedules
from tests.bench.control.figures import OURS, Figures, claims_of, for_programs, medians
from tests.bench.control.report import tables
from tests.bench.lib.database import POSTGRES_URL
from tests.bench.lib.machine import machine, moment
from tests.bench.lib.report import PAGE, Section, conditions, last_line
from tests.bench.lib.settings import REPOSITORY

SECTION = Section("control", "make bench-control")
_CLAIMS = 100
"""Claims of each kind in a round."""
_PICTURE = "benchmarks/control.svg"


def main() -> None:
    """The whole run."""
    logging.getLogger("spoke_jobs").setLevel(logging.ERROR)
    rounds, load = int(os.environ.get("ROUNDS") or 3), os.getloadavg()[0]
    others = peers.peers()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)

    times = claims.claim_seconds(_CLAIMS * rounds)
    say("claims beside limits")
    samples = []
    with reasons.waiting_jobs() as engine:
        reasons.why_ms(engine)  # with cold caches
        for number in range(1, rounds + 1):
            samples.append(_round(others, reasons.why_ms(engine)))
            say(f"round {number}/{rounds}: {json.dumps(samples[-1])}")
    figures = Figures(claims_of(times), medians(samples))
    facts = _facts(others) | {"run": f"{moment()}; load average before: {load:.1f}", "rounds": str(rounds)}
    shown = tables(figures)
    print(f"\n{conditions(facts)}\n\n{shown}\n")
    if len(others) == len(peers.NAMES):
        _draw(figures, f"{facts['machine']}; {facts['run']}")
        SECTION.write(f"{conditions(facts)}\n\n{shown}\n\n![The same figures as bars]({_PICTURE})")
        print(f"written: docs/benchmarks.md, docs/{_PICTURE}")
    else:
        print("oban-py needs Python 3.12, which is not here: docs/benchmarks.md stays as it is")
    print(last_line("control", for_programs(figures)))


def _round(others: Sequence[peers.Peer], why: tuple[float, float]) -> dict[str, dict[str, float]]:
    ours = {
        "batch_dispatch_s_10k": batches.dispatch_seconds(),
        "batch_done_per_s": batches.ends_per_second(batch=True),
        "done_per_s": batches.ends_per_second(batch=False),
        "ticks_per_s": schedules.ticks_per_second(),
        "why_all_ms_100k": why[0],
        "why_command_ms_100k": why[1],
    }
    return {OURS: ours} | {peer.name: peers.measured(peer) for peer in others}


def _facts(others: Sequence[peers.Peer]) -> dict[str, str]:
    names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
    url = make_url(POSTGRES_URL).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", (list(names),)
        ).fetchall()
        (server,) = connection.execute("SHOW server_version").fetchone() or ("",)
    own = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    versions = {OURS: own} | {peer.name: peers.version(peer) for peer in others}
    return {
        "machine": f"{machine()}; all programs and the server share it",
        f"PostgreSQL {server.partition(' ')[0]}": ", ".join(f"{name}={value}" for name, value in rows),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _draw(figures: Figures, caption: str) -> None:
    given = json.dumps(asdict(figures) | {"caption": caption})
    command = [str(Path(os.environ["BENCH_PEERS"]) / "python"), "-m", "tests.bench.control.plot"]
    subprocess.run([*command, str(PAGE.parent / _PICTURE)], check=True, input=given, text=True)


if __name__ == "__main__":
    main()
