"""The example in the cluster: its import, also killed; its tasks."""

from __future__ import annotations

import os
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import groupby
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session
from tests.waiting import eventually, patient

from spoke_jobs.model import JobData, JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from texting.assigning import TexterShare
from texting.jobs import AssignTexters, ImportContacts, Jobs, SendMessage, StartCampaign, Tasks
from texting.models import Assignment, Campaign, Contact, Message, MessageState, OptOut, Organization, Upload, utc_now
from texting.sample import Sample, make_sample
from texting.sending import write_messages

from .conftest import Product, port_forward

ROWS = 20_000
SEED = int(os.environ.get("SPOKE_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
"""Of the moments at which pods are killed; SPOKE_TEST_SEED repeats them."""


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_sample(ROWS, 3)


def add_campaign(session: Session, sample: Sample) -> Campaign:
    """A campaign of an organization's own; the numbers that the file's truth says have opted out have done so."""
    organization = Organization(name="Neighbours")
    session.add(organization)
    session.flush()
    before = utc_now() - timedelta(minutes=1)
    session.add_all(OptOut(organization_id=organization.id, cell=cell, created_at=before) for cell in sample.opted_out)
    campaign = Campaign(organization_id=organization.id, title="Vote", script="Hi {firstName}", country="US")
    session.add(campaign)
    session.flush()
    return campaign


def begin_import(product: Product, runner: KubernetesRunner, sample: Sample) -> tuple[int, JobRequest]:
    """A campaign and its import; as the application does it, in one transaction."""
    with Session(product.engine) as session, session.begin():
        campaign = add_campaign(session, sample)
        upload = Upload(campaign_id=campaign.id, content=sample.data)
        session.add(upload)
        session.flush()
        payload = ImportContacts(upload_id=upload.id, campaign_id=campaign.id)
        data = JobData(Jobs.IMPORT_CONTACTS, payload, queue_name=f"{campaign.id}:contacts", locks_queue=True)
        return campaign.id, runner.dispatch_job(data, session=session)


def check_import(product: Product, campaign_id: int, row: JobRequest, sample: Sample) -> None:
    assert row.state is JobState.SUCCEEDED, row
    assert row.result == sample.summary
    with Session(product.engine) as session:
        cells = session.scalars(select(Contact.cell).where(Contact.campaign_id == campaign_id)).all()
    assert sorted(cells) == sorted(contact.cell for contact in sample.contacts)


@pytest.mark.parametrize(
    "runs", [4, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(3600)])], ids=["4", "50"]
)
def test_import_whose_pod_is_killed_leaves_exactly_the_files_rows(
    product: Product, runner: KubernetesRunner, sample: Sample, runs: int
) -> None:
    chance = random.Random(SEED)
    moments = [chance.uniform(0, 4) for _ in range(runs)]
    print(f"SPOKE_TEST_SEED={SEED}")

    def one(moment: float) -> int:
        campaign_id, job = begin_import(product, runner, sample)
        pod = product.running_pod(job)["metadata"]["name"]
        # This wait is the test: the moment at which the pod is killed.
        time.sleep(moment)
        product.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--ignore-not-found")
        row = product.ended(job)
        check_import(product, campaign_id, row, sample)
        assert product.spokejob(job, "Succeeded", 30)["status"]["outcome"] == "Succeeded"
        return row.attempt

    with ThreadPoolExecutor(3) as pool:
        attempts = list(pool.map(one, moments))
    print(f"attempts: {attempts}")
    assert any(attempt > 1 for attempt in attempts), "no kill met a job that was under way: nothing was tested"


def carriers_count(product: Product) -> dict[str, int]:
    with port_forward(product.cluster, product.namespace, f"service/{product.release}-carrier", 8090) as port:
        stats: dict[str, int] = (
            httpx.get(f"http://127.0.0.1:{port}/stats", timeout=patient(30)).raise_for_status().json()
        )
    return stats


def test_messages_are_sent_by_the_task_deployment(product: Product, runner: KubernetesRunner, sample: Sample) -> None:
    before = carriers_count(product)
    with Session(product.engine) as session, session.begin():
        campaign = add_campaign(session, sample)
        blank = {"zip": "", "external_id": "", "custom_fields": {}, "import_uid": uuid.uuid4()}
        session.add_all(
            Contact(campaign_id=campaign.id, first_name="Ada", last_name="L", cell=f"+1212555{number:04}", **blank)
            for number in range(20)
        )
        session.flush()
        for message in write_messages(session, campaign.id, "Tess", 20):
            runner.dispatch_task(Tasks.SEND_MESSAGE, SendMessage(message_id=message.id), session=session)
        campaign_id = campaign.id

    def sent() -> bool:
        query = select(func.count()).select_from(Message).join(Contact, Contact.id == Message.contact_id)
        query = query.where(Contact.campaign_id == campaign_id, Message.state == MessageState.SENT)
        with Session(product.engine) as session:
            return session.scalar(query) == 20

    eventually(sent, "20 messages to be sent")
    after = carriers_count(product)
    assert after["delivered"] - before["delivered"] == 20
    assert after["repeated"] == before["repeated"], "nobody died, so none was sent twice"


def test_contacts_are_divided_though_the_pod_is_killed_and_the_campaign_starts(
    product: Product, runner: KubernetesRunner, sample: Sample
) -> None:
    texters = tuple(TexterShare(texter=texter) for texter in ("Tess", "Bo", "Cy"))
    with Session(product.engine) as session, session.begin():
        campaign_id = add_campaign(session, sample).id
        blank = {"zip": "", "external_id": "", "custom_fields": {}, "import_uid": uuid.uuid4()}
        session.execute(
            insert(Contact),
            [
                {"campaign_id": campaign_id, "first_name": "A", "last_name": "L", "cell": f"+1212{number:07}", **blank}
                for number in range(ROWS)
            ],
        )

    def dispatch(job_type: Jobs, payload: AssignTexters | StartCampaign) -> JobRequest:
        return runner.dispatch_job(
            JobData(job_type, payload, queue_name=f"{campaign_id}:contacts", locks_queue=True, campaign_id=campaign_id)
        )

    job = dispatch(Jobs.ASSIGN_TEXTERS, AssignTexters(campaign_id=campaign_id, texters=texters))
    pod = product.running_pod(job)["metadata"]["name"]
    # This wait is the test: the moment at which the pod is killed.
    time.sleep(random.Random(SEED).uniform(0, 3))
    product.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--ignore-not-found")
    row = product.ended(job)
    assert (row.state, row.result) == (
        JobState.SUCCEEDED,
        {"texters": 3, "assigned": ROWS, "written": 0, "unassigned": 0},
    )
    with Session(product.engine) as session:
        held = select(Assignment.texter).join(Contact, Contact.assignment_id == Assignment.id)
        holders = session.scalars(held.where(Contact.campaign_id == campaign_id).order_by(Contact.id)).all()
    assert [(texter, len(list(group))) for texter, group in groupby(holders)] == [
        ("Tess", 6_667),
        ("Bo", 6_667),
        ("Cy", 6_666),
    ]

    row = product.ended(dispatch(Jobs.START_CAMPAIGN, StartCampaign(campaign_id=campaign_id)), 120)
    assert (row.state, row.result) == (JobState.SUCCEEDED, {"contacts": ROWS, "texters": 3, "started": True})
    with (
        port_forward(product.cluster, product.namespace, f"service/{product.release}", 80) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=patient(30)) as web,
    ):

        def page() -> dict[str, Any] | None:
            shown: dict[str, Any] = web.get(f"/campaigns/{campaign_id}/texters/Bo").raise_for_status().json()
            return shown if shown["counted_at"] else None

        shown = eventually(page, "what texters' pages read to be counted")
    assert (shown["contacts"], shown["to_write"]) == (6_667, 6_667)


def test_web_application_dispatches_from_its_own_pod(product: Product, sample: Sample) -> None:
    with Session(product.engine) as session, session.begin():
        campaign_id = add_campaign(session, sample).id
    with (
        port_forward(product.cluster, product.namespace, f"service/{product.release}", 80) as port,
        # No connection is kept: its server closes an idle one after five seconds, and the tunnel tells us too late.
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=patient(30), limits=httpx.Limits(max_keepalive_connections=0)
        ) as web,
    ):
        upload = web.post(f"/campaigns/{campaign_id}/uploads", content=sample.data).raise_for_status().json()
        job = product.ledger.get(upload["job"])
        assert job
        check_import(product, campaign_id, product.ended(job), sample)
        # Outcome and progress have a writer each, the operator and sync: either may be first.
        eventually(
            lambda: product.spokejob(job, "Succeeded")["status"]["progress"]["percent"] == 100,
            "the SpokeJob shows that all is done",
        )
        assert web.get(f"/jobs/{job.id}").json()["result"] == sample.summary
        refused = web.post(f"/campaigns/{campaign_id}/uploads", content=b"\x00\x01 no contacts file")
        assert refused.status_code == 422
