"""A tab of a browser, and what goes wrong in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:  # it is not installed where other tests run
    from playwright.sync_api import ConsoleMessage, Dialog, Error, Locator, Page, Request

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice")
"""Of axe-core: WCAG 2.2, levels A and AA, and what its authors advise."""
_MODES = {"light": ("light", 1280, 800), "dark": ("dark", 1280, 800), "phone": ("light", 320, 640)}
"""The color scheme, the width and the height. At 320 pixels, WCAG 1.4.10 lets nothing scroll in two directions."""
_FOUND = """async (tags) => {
  const found = await axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] });
  return found.violations.flatMap((rule) =>
    rule.nodes.map((node) => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`));
}"""
_TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
_STATUS = re.compile(r"(?:responded with a status of|^Response Status Error Code) (\d+)")
"""What Chromium and htmx write to the console about an answer with an error."""
_STAYS_OPEN = ("eventsource", "fetch", "xhr")
"""What a browser gives up without an error when somebody leaves a page."""


class Tab:
    """A tab, of a browser that knows no other one.

    It notes errors of JavaScript and of the console, among them violations of the Content-Security-Policy and answers
    with an error; requests that fail; requests to other sites; and dialogs.

    :param site: the origin of its pages.
    :param others: other origins that its pages may ask.
    :param axe: the file of axe-core.
    """

    def __init__(self, page: Page, site: str, others: Sequence[str], axe: Path) -> None:
        self.page = page
        self.problems: list[str] = []
        self._origins = (site, *others)
        self._icons = [f"{origin}/favicon.ico" for origin in others]  # the browser asks for it, and they have none
        self._axe = axe
        self._expected: set[int] = set()
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)
        page.on("dialog", self._on_dialog)
        page.on("request", self._on_request)
        page.on("requestfailed", self._on_failure)

    def expect_status(self, status: int) -> None:
        """Let answers have this status from now on: the browser writes each to its console."""
        self._expected.add(status)

    def open(self, path: str, status: int = 200) -> None:
        """Open a page by its address."""
        if status >= 400:
            self.expect_status(status)
        answer = self.page.goto(path)
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}, and not {status}"

    def path(self) -> str:
        """Return the path and the query of the page's address."""
        parts = urlsplit(self.page.url)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def link(self, name: str) -> Locator:
        """Find the link with this text."""
        return self.page.get_by_role("link", name=name, exact=True)

    def button(self, name: str) -> Locator:
        """Find the button with this name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def see(self, text: str | re.Pattern[str]) -> None:
        """Wait until somebody sees this text."""
        self.page.get_by_text(text).locator("visible=true").first.wait_for()

    def sees(self, text: str) -> bool:
        """Whether somebody sees this text now."""
        return self.page.get_by_text(text).locator("visible=true").count() > 0

    def heading(self) -> str:
        """Return the page's main heading."""
        return self.page.locator("h1").inner_text()

    def findings(self) -> list[str]:
        """Look at the page as a person with a light or a dark screen or a phone, and return what keeps people out."""
        self.page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        self.page.evaluate(self._axe.read_text())
        found = []
        for mode, (scheme, width, height) in _MODES.items():
            self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            self.page.set_viewport_size({"width": width, "height": height})
            found += [f"{mode}: {finding}" for finding in self.page.evaluate(_FOUND, list(RULES))]
            if (excess := self.page.evaluate(_TOO_WIDE)) > 0:
                found.append(f"{mode}: the page is {excess} px wider than the screen")
        return found

    def _on_console(self, message: ConsoleMessage) -> None:
        status, url = _STATUS.search(message.text), message.location.get("url", "")
        if message.type not in ("error", "warning") or (status is not None and int(status[1]) in self._expected):
            return
        if url not in self._icons:
            self.problems.append(f"console: {message.text} ({url})")

    def _on_error(self, error: Error) -> None:
        self.problems.append(f"JavaScript: {error.message}")

    def _on_dialog(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith(tuple(f"{origin}/" for origin in self._origins)):
            self.problems.append(f"a request to another site: {request.url[:200]}")

    def _on_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED" or request.resource_type not in _STAYS_OPEN:
            self.problems.append(f"{request.method} {request.url} failed: {request.failure}")
