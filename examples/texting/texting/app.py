"""The web application: ``uvicorn texting.app:app``. It has no login, so keep it on your own machine or cluster.

Each request that changes something is one transaction, which includes the jobs and tasks that it dispatches.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import phonenumbers
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, undefer

from spoke_jobs import JobRequest, close, configure
from spoke_jobs.ledger.engine import check_schema
from texting import actions
from texting.actions import (
    NotStartedError,
    request_assignment,
    request_export,
    request_start,
    start_sending,
    upload_contacts,
)
from texting.assigning import Request as Assignments
from texting.contacts_csv import RefusedFile
from texting.contacts_csv.values import to_e164
from texting.database import engine, ledger, reading, sessions
from texting.models import Assigning, Base, Campaign, Contact, ExportFile, Organization
from texting.sending import NotATexterError
from texting.settings import settings
from texting.start_cache import CampaignNumbers, TexterNumbers, read_numbers
from texting.starting import lacking, readiness
from texting.upload_page import add_upload_page, progress_address, serving_progress

_Row = TypeVar("_Row", bound=Base)


def _known_country(country: str) -> str:
    if country not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"{country!r} is no country's two-letter code, such as US")
    return country


Country = Annotated[str, AfterValidator(_known_country)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewOrganization(_Body):
    """An organization to create."""

    name: Name


class NewCampaign(_Body):
    """A campaign to create."""

    title: Name
    script: Annotated[str, Field(min_length=1, max_length=1600, examples=["Hi {firstName}, will you come on Sunday?"])]
    country: Country = "US"


class NewOptOut(_Body):
    """A number not to text again, in any spelling."""

    cell: str
    country: Country = "US"


class NewSending(_Body):
    """A texter, and the maximum number of messages."""

    texter: Name
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1_000


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Refuse to start with unusable settings or database, rather than fail at the first request."""
    settings()
    check_schema(engine())
    configure()
    with serving_progress(app):
        yield
    await asyncio.to_thread(close)  # deliver remaining tasks: uvicorn runs no atexit handlers after SIGTERM
    engine().dispose()


app = FastAPI(title="texting", lifespan=lifespan)
add_upload_page(app)


@app.exception_handler(RefusedFile)
def refused_file(_: Request, error: RefusedFile) -> JSONResponse:
    """Answer 422 for a file that is not a contacts list."""
    return JSONResponse({"detail": str(error)}, status_code=422)


@app.exception_handler(NotStartedError)
def not_started(_: Request, error: NotStartedError) -> JSONResponse:
    """Answer 409: the request works once the campaign is started."""
    return JSONResponse({"detail": str(error)}, status_code=409)


@app.exception_handler(NotATexterError)
def not_a_texter(_: Request, error: NotATexterError) -> JSONResponse:
    """Answer 404: the campaign has no such texter."""
    return JSONResponse({"detail": str(error)}, status_code=404)


def open_session() -> Iterator[Session]:
    """Yield a session. At the end of the request, uncommitted writes are rolled back."""
    with sessions()() as session:
        yield session


async def contacts_file(request: Request) -> bytes:
    """Read the request's body, and refuse it as soon as it is too large."""
    limit = settings().max_upload_bytes
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"the file is larger than {limit:,} bytes: send it compressed, or in parts")
    return bytes(body)


Db = Annotated[Session, Depends(open_session)]
ContactsBody = Annotated[bytes, Depends(contacts_file)]


@app.post("/organizations", status_code=201)
def create_organization(new: NewOrganization, db: Db) -> dict[str, Any]:
    """Create an organization."""
    with db.begin():
        organization = Organization(name=new.name)
        db.add(organization)
    return {"id": organization.id, "name": organization.name}


@app.post("/organizations/{organization_id}/opt-outs", status_code=204)
def opt_out(organization_id: PositiveInt, new: NewOptOut, db: Db) -> None:
    """Record that a number must not be texted again for this organization. A repeated request changes nothing."""
    cell = to_e164(new.cell, new.country)
    if cell is None:
        raise HTTPException(422, f"{new.cell!r} isn't a valid telephone number")
    try:
        with db.begin():
            _found(db, Organization, organization_id)
            actions.opt_out(db, organization_id, cell)
    except IntegrityError:
        return  # it exists already


@app.post("/organizations/{organization_id}/campaigns", status_code=201)
def create_campaign(organization_id: PositiveInt, new: NewCampaign, db: Db) -> dict[str, Any]:
    """Create a campaign without contacts."""
    with db.begin():
        _found(db, Organization, organization_id)
        campaign = Campaign(organization_id=organization_id, **new.model_dump())
        db.add(campaign)
    return {"id": campaign.id, "title": campaign.title}


@app.post("/campaigns/{campaign_id}/uploads", status_code=202)
def upload(campaign_id: PositiveInt, content: ContactsBody, db: Db) -> dict[str, Any]:
    """Store a contacts file (the body, plain or compressed with gzip), and dispatch its import.

    ``progress`` is where its sender may follow the import, for an hour.
    """
    with db.begin():
        kept, request = upload_contacts(db, _found(db, Campaign, campaign_id), content)
    return {"upload": kept.id, "job": request.id, "progress": progress_address(request)}


@app.get("/campaigns/{campaign_id}/contacts")
def list_contacts(
    campaign_id: PositiveInt,
    db: Db,
    after: Annotated[int, Query(ge=0, description="the last id of the previous page")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[dict[str, Any]]:
    """List a page of the campaign's contacts, by id."""
    _found(db, Campaign, campaign_id)
    page = select(Contact).where(Contact.campaign_id == campaign_id, Contact.id > after).order_by(Contact.id)
    fields = ("id", "first_name", "last_name", "cell", "zip", "external_id", "custom_fields")
    return [{name: getattr(contact, name) for name in fields} for contact in db.scalars(page.limit(limit))]


@app.post("/campaigns/{campaign_id}/assignments", status_code=202)
def assign(campaign_id: PositiveInt, new: Assignments, db: Db) -> dict[str, Any]:
    """Dispatch the division of the campaign's contacts. Contacts already written to keep their texter."""
    with db.begin():
        campaign = _found(db, Campaign, campaign_id)
        request = request_assignment(db, campaign, new.texters, dynamic=new.dynamic)
    return {"job": request.id}


@app.post("/campaigns/{campaign_id}/start", status_code=202)
def start(campaign_id: PositiveInt, db: Db) -> dict[str, Any]:
    """Dispatch the campaign's start. If something is missing, the job fails and names everything that is missing."""
    with db.begin():
        request = request_start(db, _found(db, Campaign, campaign_id))
    return {"job": request.id}


@app.get("/campaigns/{campaign_id}")
def show_campaign(campaign_id: PositiveInt) -> dict[str, Any]:
    """Show the numbers of the campaign and its texters, and everything that is missing for its start."""
    with reading() as db:
        campaign = _found(db, Campaign, campaign_id)
        numbers = read_numbers(db, campaign)
        missing = lacking(readiness(db, campaign)) if campaign.started_at is None else []
    _count_if_uncounted(campaign, numbers)
    return {
        "id": campaign.id,
        "title": campaign.title,
        "script": numbers.script,
        "assigning": campaign.assigning,
        "started_at": campaign.started_at,
        "lacks": missing,
        "contacts": numbers.contacts,
        "texters": [{"texter": texter, **asdict(each)} for texter, each in numbers.texters.items()],
        "counted_at": numbers.warmed_at,
    }


@app.get("/campaigns/{campaign_id}/texters/{texter:path}")
def show_texter(campaign_id: PositiveInt, texter: str) -> dict[str, Any]:
    """Show a texter's page: the script, and the number of contacts to write to."""
    with reading() as db:
        campaign = _found(db, Campaign, campaign_id)
        if campaign.started_at is None:
            raise NotStartedError(f"campaign {campaign_id} isn't started")
        numbers = read_numbers(db, campaign)
    _count_if_uncounted(campaign, numbers)
    if texter not in numbers.texters and campaign.assigning != Assigning.OPEN:
        raise NotATexterError(f"{texter!r} is no texter of campaign {campaign_id}")
    mine = numbers.texters.get(texter, TexterNumbers())
    return {
        "title": campaign.title,
        "script": numbers.script,
        "fields": ["firstName", "lastName", *numbers.fields],
        **asdict(mine),
        "may_take_more": campaign.assigning != Assigning.FIXED
        and (mine.maximum is None or mine.contacts < mine.maximum),
        "counted_at": numbers.warmed_at,
    }


@app.post("/campaigns/{campaign_id}/sending", status_code=202)
def send(campaign_id: PositiveInt, new: NewSending, db: Db) -> dict[str, Any]:
    """Write to a texter's contacts that have no message."""
    with db.begin():
        messages = start_sending(db, _found(db, Campaign, campaign_id), new.texter, new.limit)
    return {"messages": messages}


@app.post("/campaigns/{campaign_id}/exports", status_code=202)
def export(campaign_id: PositiveInt, db: Db) -> dict[str, Any]:
    """Dispatch an export to a CSV file. Once the job has succeeded, download the file from ``/exports/{job}``."""
    with db.begin():
        request = request_export(db, _found(db, Campaign, campaign_id))
    return {"job": request.id}


@app.get("/jobs/{job_id}")
def job_status(job_id: PositiveInt) -> dict[str, Any]:
    """Show a job's state and progress."""
    request = _job(job_id)
    return {
        "id": request.id,
        "type": request.job_type,
        "state": request.state,
        "percent": request.status,
        "message": request.result_message,
        "attempt": request.attempt,
        "cause": request.cause,
        "result": request.result,
    }


@app.get("/exports/{job_id}")
def download(job_id: PositiveInt, db: Db) -> Response:
    """Download the file of an export job."""
    request = _job(job_id)
    made = select(ExportFile).where(ExportFile.job_uid == request.uid).options(undefer(ExportFile.content))
    file = db.scalars(made).one_or_none()
    if file is None:
        raise HTTPException(404, f"job {job_id} has made no export ({request.job_type}, {request.state})")
    name = f"campaign-{file.campaign_id}-{job_id}.csv"
    return Response(
        gzip.decompress(file.content),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@app.get("/healthz")
def healthz(db: Db) -> dict[str, str]:
    """Check that the application can reach its database."""
    db.execute(text("SELECT 1"))
    return {"status": "ok"}


def _found(db: Session, kind: type[_Row], key: int) -> _Row:
    row = db.get(kind, key)
    if row is None:
        raise HTTPException(404, f"there is no {kind.__name__.lower()} {key}")
    return row


def _count_if_uncounted(campaign: Campaign, numbers: CampaignNumbers) -> None:
    # The task may have been lost with its process. Without a new one, every page would count by itself.
    if campaign.started_at is not None and numbers.warmed_at is None:
        actions.dispatch_count(campaign.id)


def _job(job_id: int) -> JobRequest:
    request = ledger().get(job_id)
    if request is None:
        raise HTTPException(404, f"there is no job {job_id}")
    return request
