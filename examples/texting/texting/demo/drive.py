"""The steps of the demonstration, with the library and the actions of the web application.

The code is the same on a laptop and in a cluster. The environment sets the runner of the jobs and tasks (JOB_RUNNER),
the database (SPOKE_DATABASE_URL) and the carrier (TEXTING_CARRIER_URL).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import httpx
from rich.console import Console
from sqlalchemy import func, select
from sqlalchemy.orm import undefer

from spoke_jobs import JobRequest, JobState
from texting.actions import (
    dispatch_count,
    request_assignment,
    request_export,
    request_start,
    start_sending,
    upload_contacts,
)
from texting.assigning import TexterShare
from texting.database import ledger, reading, sessions
from texting.demo.checks import Check, assignment_checks, export_checks, import_checks, left_checks, message_checks
from texting.demo.watching import Runs, Waited, progress_of, wait_for
from texting.exporting import count_contacts
from texting.models import Campaign, Contact, ExportFile, Message, MessageState, OptOut, Organization, utc_now
from texting.sample import Sample, make_sample
from texting.settings import settings
from texting.start_cache import CampaignNumbers, read_numbers

TEXTERS = ("Tess", "Bo", "Cy")


class JobFailedError(RuntimeError):
    """A job ended without success."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a demonstration."""

    rows: int
    seed: int
    messages: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a demonstration."""

    jobs: Sequence[JobRequest]
    checks: Sequence[Check]
    repeats: int
    """The number of repeated messages, which the carrier dropped."""


def drive(plan: Plan, console: Console, services: Sequence[Runs] = ()) -> Outcome:
    """Import a file, divide it among texters, start, send messages, export, and compare.

    :param services: the processes that were started for it. They are checked during each wait.
    :raises JobFailedError, Stalled, ServiceFailedError: if it can't be completed.
    """
    sample = make_sample(plan.rows, plan.seed)
    size = len(sample.data) / 2**20
    console.print(f"  {'file':<9} {plan.rows:,} rows, {size:.1f} MiB, made from seed {plan.seed}", highlight=False)

    campaign, importing = _begin(sample)
    imported = _watch_job(importing, "import", console, services)
    with reading() as session:
        contacts = count_contacts(session, campaign.id)
    checks = import_checks(sample, imported.result, contacts)

    with sessions().begin() as session:
        assigning = request_assignment(session, campaign, [TexterShare(texter=texter) for texter in TEXTERS])
    assigned = _watch_job(assigning, "assign", console, services)
    with sessions().begin() as session:
        starting = request_start(session, campaign)
    started = _watch_job(starting, "start", console, services)
    checks += assignment_checks(sample, TEXTERS, assigned.result, _counted(campaign.id, services))

    messages = min(plan.messages, contacts)
    sent = _send(campaign, messages, console, services)
    checks += message_checks(messages, _message_states(campaign.id), sent["delivered"])
    checks += left_checks(sample, messages, _counted(campaign.id, services))

    with sessions().begin() as session:
        exporting = request_export(session, campaign)
    exported = _watch_job(exporting, "export", console, services)
    checks += export_checks(sample, messages, _export_content(exported))
    return Outcome(jobs=[imported, assigned, started, exported], checks=checks, repeats=sent["repeated"])


def _begin(sample: Sample) -> tuple[Campaign, JobRequest]:
    """Create the first rows, and dispatch the import, in one transaction."""
    with sessions().begin() as session:
        organization = Organization(name="Neighbors for the Library")
        session.add(organization)
        session.flush()
        before = utc_now() - timedelta(minutes=1)
        session.add_all(
            OptOut(organization_id=organization.id, cell=cell, created_at=before) for cell in sample.opted_out
        )
        script = "Hi {firstName}, will you vote for the library on Tuesday? You vote at: {Polling Place}"
        campaign = Campaign(organization_id=organization.id, title="Library vote", script=script)
        session.add(campaign)
        session.flush()
        _, request = upload_contacts(session, campaign, sample.data)
    return campaign, request


def _watch_job(request: JobRequest, title: str, console: Console, services: Sequence[Runs]) -> JobRequest:
    """Wait until a job has ended, and show its progress."""
    row = request

    def poll() -> Waited:
        nonlocal row
        row = ledger().get(request.id) or row
        words = _result_text(row) or row.result_message or str(row.state)
        if row.attempt > 1:
            words += f" (attempt {row.attempt})"
        return Waited(row.state.final, max(row.status, 0), words)

    with progress_of(console, title) as show:
        wait_for(poll, what=f"job {request.id} ({request.job_type})", alive=services, show=show)
    if row.state is not JobState.SUCCEEDED:
        raise JobFailedError(f"job {row.id} ({row.job_type}) failed, {row.cause}: {row.result_message}")
    return row


def _result_text(row: JobRequest) -> str:
    """Return a finished job's result."""
    result = row.result if isinstance(row.result, dict) else {}
    counts = ((name.replace("_", " "), count) for name, count in result.items() if type(count) is int)
    return ", ".join(f"{count:,} {name}" for name, count in counts)


def _counted(campaign_id: int, services: Sequence[Runs]) -> CampaignNumbers:
    """Wait until the numbers of the texters' pages are counted, and return them."""

    def read() -> CampaignNumbers:
        with reading() as session:
            return read_numbers(session, session.get_one(Campaign, campaign_id))

    if read().warmed_at is None:
        dispatch_count(campaign_id)  # as a page does: the task that the start dispatched may be late, or lost
    wait_for(lambda: Waited(read().warmed_at is not None), what="the task campaign_start_cache", alive=services)
    return read()


def _send(campaign: Campaign, messages: int, console: Console, services: Sequence[Runs]) -> Counter[str]:
    """Send this number of messages, divided equally among the texters. Return the carrier's counts."""
    stats = f"{str(settings().carrier_url).rstrip('/')}/stats"
    with httpx.Client() as carrier:

        def counted() -> Counter[str]:
            return Counter(carrier.get(stats).raise_for_status().json())

        before = counted()  # a carrier in a cluster has served earlier demonstrations
        with sessions().begin() as session:
            for place, texter in enumerate(TEXTERS):
                part = (messages + len(TEXTERS) - 1 - place) // len(TEXTERS)
                start_sending(session, campaign, texter, part)

        def poll() -> Waited:
            now = counted() - before
            done, repeats = now["delivered"], now["repeated"]
            over = done >= messages and MessageState.QUEUED not in _message_states(campaign.id)
            words = f"{done:,} of {messages:,} delivered" + (f", {repeats:,} repeats dropped" if repeats else "")
            return Waited(over, 100 * done // max(messages, 1), words)

        with progress_of(console, "messages") as show:
            wait_for(poll, what="the messages", alive=services, show=show)
        return counted() - before


def _message_states(campaign_id: int) -> dict[str, int]:
    counted = (
        select(Message.state, func.count())
        .join(Contact, Contact.id == Message.contact_id)
        .where(Contact.campaign_id == campaign_id)
        .group_by(Message.state)
    )
    with reading() as session:
        return dict(session.execute(counted).all())


def _export_content(request: JobRequest) -> bytes:
    made = select(ExportFile).where(ExportFile.job_uid == request.uid).options(undefer(ExportFile.content))
    with reading() as session:
        return session.scalars(made).one().content
