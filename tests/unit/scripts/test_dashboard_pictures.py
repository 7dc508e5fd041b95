"""The pictures of the dashboard: which pages they show, and the page that shows them."""

from __future__ import annotations

import re

from scripts.pictures.dashboard import FOLDER, PAGES, SCREENS, gallery
from tests.contract.dashboard_scene import ROUTES

NO_PAGES = {"/changes", "/bulk/cancel", "/jobs/#/output"}
"""The stream of changes, a page that looks like another one, and the output, which the page of its job shows, too."""


def test_each_page_has_pictures() -> None:
    shown = {re.sub(r"\{.*\}", "#", path).partition("?")[0] for _, path in PAGES.values()}
    routes = {re.sub(r"\{.*\}", "#", path) for method, path in ROUTES if method == "GET"}
    assert shown == routes - NO_PAGES


def test_the_page_shows_all_pictures_that_there_are() -> None:
    page = (FOLDER / "README.md").read_text()
    assert page == gallery(), "run scripts/pictures/draw dashboard"
    assert set(re.findall(r"\((dashboard\S*)\)", page)) == {path.name for path in FOLDER.glob("dashboard*.png")}


def test_pictures_are_of_light_and_dark_screens_and_of_a_phone() -> None:
    assert {screen.dark for screen in SCREENS.values()} == {False, True}
    assert min(screen.width for screen in SCREENS.values()) < 400
