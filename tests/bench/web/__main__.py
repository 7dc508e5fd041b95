"""`make bench-web`: fill, measure, write the tables, print the last line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, make_url
from tests.bench.lib.database import POSTGRES_URL
from tests.bench.lib.machine import machine, moment
from tests.bench.lib.processes import BenchError
from tests.bench.lib.report import PAGE, Section, conditions, last_line
from tests.bench.lib.settings import REPOSITORY
from tests.bench.web import claim_cost, kept_database, live_viewers, page_times, slow_page, tables
from tests.bench.web.dashboards import dashboard
from tests.bench.web.figures import ALL, for_programs
from tests.bench.web.layout import ORGANIZATIONS, TYPES, Layout
from tests.bench.web.request_plan import VIEWERS, plan
from tests.bench.web.settings import PARTS, Settings

SECTION = Section("web", "make bench-web")
_PICTURE = "benchmarks/web.svg"
_BEGAN = time.monotonic()


def main() -> None:
    """Run it."""
    logging.getLogger("spoke_jobs").setLevel(logging.ERROR)
    settings, load = Settings.of(os.environ), os.getloadavg()[0]
    layout = Layout(settings.rows, settings.waiting)
    figures: dict[str, Any] = {"settings": _asked(settings)}
    if len(settings.parts) < len(PARTS):
        figures = _earlier(settings) | figures
    url = kept_database.database_for(layout, say)
    try:
        figures["facts"] = _facts(settings, load)
        figures |= _measured(url, layout, settings)
    finally:
        if not settings.keep:
            kept_database.remove(url)
    figures["caption"] = f"{figures['facts']['machine']}; {figures['facts']['run']}"
    settings.raw.write_text(json.dumps(figures, indent=1))
    print(f"\n{conditions(figures['facts'])}\n\n{tables.for_people(figures)}\n")
    _show(figures, settings)
    print(last_line("web", for_programs(figures)))


def say(text: str) -> None:
    """Progress."""
    print(f"[{time.monotonic() - _BEGAN:5.0f} s] {text}", flush=True)


def _asked(settings: Settings) -> dict[str, Any]:
    """Return what was asked for, without folders."""
    return {name: value for name, value in asdict(settings).items() if name not in ("raw", "tools")}


def _earlier(settings: Settings) -> dict[str, Any]:
    """Return the figures of the last run, if it had as many rows."""
    found: dict[str, Any] = json.loads(settings.raw.read_text()) if settings.raw.exists() else {}
    rows = (settings.rows, settings.waiting)
    return found if found and (found["settings"]["rows"], found["settings"]["waiting"]) == rows else {}


def _measured(url: URL, layout: Layout, settings: Settings) -> dict[str, Any]:
    """Measure the parts, those that add jobs and run them last."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spoke-bench-web-")))
        shown = stack.enter_context(dashboard(url, folder))
        if "pages" in settings.parts:
            with ExitStack() as others:
                dashboards = {ALL: shown} | {
                    viewer: others.enter_context(dashboard(url, folder, organization))
                    for viewer, organization in VIEWERS.items()
                    if organization is not None
                }
                times = page_times.measure(plan(layout), dashboards, settings.requests, say)
            found["pages"] = [asdict(each) for each in times]
        if "timeout" in settings.parts:
            found["timeout"] = asdict(slow_page.measure(url, shown))
            say("a page that takes too long")
        if "stream" in settings.parts:
            say(f"live updates: {settings.stream_seconds:g} s")
            streams = live_viewers.measure(url, shown, settings.viewers, settings.changes, settings.stream_seconds)
            found["stream"] = asdict(streams)
        if "claims" in settings.parts:
            cost = claim_cost.measure(url, shown, settings.readers, settings.claim_rounds, say)
            found["claims"] = asdict(cost)
    return found


def _facts(settings: Settings, load: float) -> dict[str, str]:
    names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "work_mem")
    url = make_url(POSTGRES_URL).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", (list(names),)
        ).fetchall()
        (server,) = connection.execute("SHOW server_version").fetchone() or ("",)
    jobs = f"{settings.rows:,} finished jobs of 30 days and {settings.waiting:,} waiting ones"
    return {
        "machine": f"{machine()}; the dashboard, the server and the callers share it",
        f"PostgreSQL {server.partition(' ')[0]}": ", ".join(f"{name}={value}" for name, value in rows),
        "rows": f"{jobs}, of {TYPES:,} types and {ORGANIZATIONS:,} organizations",
        "run": f"{moment()}; {settings.requests} requests of each address; load average before: {load:.1f}",
    }


def _show(figures: dict[str, Any], settings: Settings) -> None:
    """Write the section of the docs, if the run was a full one."""
    if not settings.full or any(part not in figures for part in PARTS):
        print("fewer rows, parts or requests than a full run: docs/benchmarks.md stays as it is")
        return
    command = [str(settings.tools / "python"), "-m", "tests.bench.web.plot"]
    subprocess.run([*command, str(settings.raw), str(PAGE.parent / _PICTURE)], check=True, cwd=REPOSITORY)
    picture = f"![The slowest pages and filters as bars]({_PICTURE})"
    SECTION.write(f"{conditions(figures['facts'])}\n\n{tables.for_docs(figures)}\n\n{picture}")
    print(f"written: docs/benchmarks.md, docs/{_PICTURE}")


if __name__ == "__main__":
    try:
        main()
    except (BenchError, ValueError) as problem:
        sys.exit(f"error: {problem}")
