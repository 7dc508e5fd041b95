"""Endpoints that dispatch in the transaction of their AsyncSession."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from database import Base, Contact, Notice, Upload, async_engine, open_session
from fastapi import Body, Depends, FastAPI, HTTPException
from jobs import ImportContacts
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from spoke_jobs import JobData, adispatch_job, adispatch_task, close, configure

Db = Annotated[AsyncSession, Depends(open_session)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Refuse to start with unusable settings, rather than fail at the first request."""
    configure()
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)  # in production: Alembic, see the recipe
    yield
    await asyncio.to_thread(close)  # deliver remaining tasks: uvicorn runs no atexit handlers after SIGTERM
    await async_engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/uploads", status_code=202)
async def upload(names: Annotated[list[str], Body()], db: Db) -> dict[str, int]:
    """Store the names, and dispatch their import in the same transaction."""
    upload = Upload(names=",".join(names))
    db.add(upload)
    await db.flush()
    job = await adispatch_job(JobData("import_contacts", ImportContacts(upload_id=upload.id)), session=db)
    await adispatch_task("notify", f"{len(names)} names came in", session=db)
    if "" in names:  # the transaction is rolled back, and nothing was dispatched
        raise HTTPException(422, "a name is empty")
    await db.commit()
    return {"job": job.id}


@app.get("/contacts")
async def contacts(db: Db) -> list[str]:
    """List the imported names."""
    return list(await db.scalars(select(Contact.name).order_by(Contact.id)))


@app.get("/notices")
async def notices(db: Db) -> list[str]:
    """List the notices."""
    return list(await db.scalars(select(Notice.text).order_by(Notice.id)))
