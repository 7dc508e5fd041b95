"""The page on which people upload contacts and see how far the import is. It needs SPOKE_PROGRESS_KEY.

The upload's answer has an address with a token, for one hour and that one import. The page gives it to the element
``<spoke-progress>`` of the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from pydantic import PositiveInt
from starlette.types import Receive, Scope, Send

from spoke_jobs import JobRequest
from spoke_jobs.settings import load_settings

_PAGES = Path(__file__).parent / "pages"
_MOUNT = "/progress"
_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_NO_KEY = "set SPOKE_PROGRESS_KEY to follow imports in a browser: `openssl rand -hex 32` makes a key"


def add_upload_page(app: FastAPI) -> None:
    """Add the page, its script and the progress of jobs."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if app.state.progress is None:
            raise HTTPException(404, _NO_KEY)
        await app.state.progress(scope, receive, send)

    app.mount(_MOUNT, serve)
    app.add_api_route("/campaigns/{campaign_id}/upload", upload_page, include_in_schema=False)
    app.add_api_route("/pages/upload.js", upload_script, include_in_schema=False)


@contextmanager
def serving_progress(app: FastAPI) -> Iterator[None]:
    """Serve the progress of jobs within the block, if there is a key for its tokens."""
    if not _has_key():
        app.state.progress = None
        yield
        return
    from spoke_jobs.web import progress  # needs the package spoke-jobs[web]

    app.state.progress = progress(messages=True)
    try:
        yield
    finally:
        app.state.progress.close()


def progress_address(job: JobRequest) -> str | None:
    """Return where the sender of a file may follow its import; None without a key."""
    return f"{_MOUNT}/{job.progress_token(valid_for=3600)}" if _has_key() else None


def upload_page(campaign_id: PositiveInt) -> FileResponse:
    """Show the page."""
    if not _has_key():
        raise HTTPException(404, _NO_KEY)
    return FileResponse(_PAGES / "upload.html", headers={"Content-Security-Policy": _POLICY})


def upload_script() -> FileResponse:
    """Return the page's script."""
    return FileResponse(_PAGES / "upload.js")


def _has_key() -> bool:
    return bool(load_settings().progress_keys)
