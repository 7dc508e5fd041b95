"""Make the text of pages from templates, and serve the files that they need."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, tzinfo
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import jinja2
from markupsafe import Markup, escape

from spoke_jobs.shared.clean_text import visible
from spoke_jobs.web.answers import Page
from spoke_jobs.web.viewer import Viewer

_STATIC = {
    "dashboard.css": "text/css; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "keys.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "switches.js": "text/javascript; charset=utf-8",
    "zone.js": "text/javascript; charset=utf-8",
}
"""The files, with their media types."""
_PLACES = (
    ("/", "Overview"),
    ("/jobs", "Jobs"),
    ("/failures", "Failures"),
    ("/queues", "Queues"),
    ("/schedules", "Schedules"),
    ("/batches", "Batches"),
    ("/tasks", "Tasks"),
    ("/cluster", "Cluster"),
    ("/audit", "Audit"),
)
"""The pages to which each page has a link."""
_OF_ALL = frozenset({"/tasks", "/cluster"})
"""Those that only viewers of all organizations may see."""


def new_templates() -> jinja2.Environment:
    """Return the templates. Every text is escaped, for HTML and against characters that are invisible or turn text."""

    def finalize(value: object) -> object:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("spoke_jobs.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["marked"] = _marked
    return templates


def _marked(text: str) -> Markup:
    """Escape a text, and mark what stands between backticks as code, as the sentences of `why` write commands."""
    parts = [escape(visible(part)) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one is left over
        return Markup("`").join(parts)
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _places(viewer: Viewer) -> tuple[tuple[str, str], ...]:
    return tuple(place for place in _PLACES if viewer.sees_all or place[0] not in _OF_ALL)


class PageRendering:
    """Renders pages."""

    def __init__(self) -> None:
        self._static = {name: files("spoke_jobs.web").joinpath("static", name).read_bytes() for name in _STATIC}
        self._versions = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in self._static.items()}
        self._templates = new_templates()
        self._templates.globals |= {"versions": self._versions, "zone_cookie": COOKIE}

    def static_file(self, name: str) -> tuple[bytes, str] | None:
        """Return a file and its media type; None if there is none of this name."""
        return (self._static[name], _STATIC[name]) if name in self._static else None

    def is_version(self, name: str, version: str | None) -> bool:
        """Whether a file has this version. During an update, a page of one release may ask a process of another one."""
        return self._versions.get(name) == version

    def text(
        self, page: Page, viewer: Viewer | None, *, root: str, here: str, signs_in: bool, token: str, zone: str
    ) -> str:
        """Render a page.

        :param viewer: None for a page that anybody may see.
        :param root: the path at which the dashboard is mounted.
        :param here: the path of the request.
        :param signs_in: whether people sign in by a form.
        :param token: the token of the page's forms.
        :param zone: the reader's time zone.
        """
        shared = {
            "root": root,
            "here": here,
            "places": _places(viewer) if viewer is not None else (),
            "viewer": viewer,
            "signs_in": signs_in,
            "token": token,
            "live": page.live,
            "reader_zone": zone,
        }
        return self._templates.get_template(page.template).render(shared | dict(page.values))


@cache
def page_rendering() -> PageRendering:
    """Return the rendering of this process: all its dashboards have the same templates, which are compiled once."""
    return PageRendering()


COOKIE = "spoke-jobs-zone"
_LONGEST_NAME = 64


def reader_zone(cookies: Mapping[str, str]) -> tzinfo:
    """Return the zone that a request's cookies name; UTC if they name none that this machine knows."""
    name = cookies.get(COOKIE, "")
    if not name or len(name) > _LONGEST_NAME:
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # a folder or a file that is no zone, a bad name, an unknown one
        return UTC
