"""The dashboard without a mouse."""

from __future__ import annotations

import pytest
from tests.contract.ledger import new_job
from tests.integration.web.browser.tab import Tab
from tests.waiting import eventually

from spoke_jobs.ledger.sql_ledger import SqlLedger

pytestmark = pytest.mark.long


def focused(tab: Tab) -> str:
    """The text, or the label, of what has the focus."""
    text = "(element) => element.labels?.length ? element.labels[0].innerText : element.innerText"
    return str(tab.page.locator("*:focus").evaluate(text)) if tab.page.locator("*:focus").count() else ""


def press(tab: Tab, *keys: str) -> None:
    for key in keys:
        tab.page.keyboard.press(key)


@pytest.fixture
def jobs(ledger: SqlLedger, request: pytest.FixtureRequest) -> list[str]:
    """The ids of three jobs, as their list shows them."""
    made = [ledger.insert(new_job(job_type=f"keys_{request.node.name}")) for _ in range(3)]
    return [str(job.id) for job in reversed(made)]


def open_list(tab: Tab, jobs: list[str]) -> None:
    tab.open(f"/jobs/{jobs[0]}")
    tab.open(f"/jobs?type={tab.heading().partition(': ')[2]}")


def test_keys_move_along_the_list_and_open_a_job(tab: Tab, jobs: list[str]) -> None:
    open_list(tab, jobs)
    moves = []
    for key in "jjjjkkkkj":
        press(tab, key)
        moves.append(focused(tab))
    first, second, third = jobs
    assert moves == [first, second, third, third, second, first, first, first, second]
    ring = tab.page.locator("*:focus").evaluate("(link) => getComputedStyle(link).outlineStyle")
    assert ring == "solid", "it is seen which one it is"
    press(tab, "Enter")
    tab.page.wait_for_url(f"**/jobs/{second}")


def test_escape_leaves_the_list(tab: Tab, jobs: list[str]) -> None:
    open_list(tab, jobs)
    press(tab, "k")
    assert focused(tab) == jobs[-1], "from below"
    press(tab, "Escape")
    assert focused(tab) == ""


def test_slash_searches(tab: Tab) -> None:
    tab.open("/audit")
    press(tab, "/")
    assert focused(tab) == "By (* for any characters)"
    tab.page.keyboard.type("j/k")
    assert tab.page.get_by_label("By (* for any characters)").input_value() == "j/k", "in a field, keys are letters"


def test_slash_leads_to_the_page_with_a_search(tab: Tab) -> None:
    tab.open("/queues")
    press(tab, "/")
    tab.page.wait_for_url("**/jobs#type")
    eventually(lambda: focused(tab) == "Type (* for any characters)", "the field has the focus")


def test_a_browsers_own_keys_are_its_own(tab: Tab, jobs: list[str]) -> None:
    open_list(tab, jobs)
    for key in ("Control+j", "Alt+j", "Meta+j", "Shift+J"):
        press(tab, key)
        assert focused(tab) == "", key


def test_keys_can_be_turned_off(tab: Tab, jobs: list[str]) -> None:
    """WCAG 2.1.4: somebody who speaks to their computer may press them by mistake."""
    open_list(tab, jobs)
    box = tab.page.get_by_label("Keys:")
    box.uncheck()
    box.blur()
    press(tab, "j", "/")
    assert focused(tab) == ""
    tab.page.reload()
    assert not box.is_checked(), "the browser keeps the choice"
    box.check()
    press(tab, "j")
    assert focused(tab) == jobs[0]


@pytest.mark.parametrize("path", ["/", "/failures", "/queues", "/schedules", "/batches", "/tasks", "/audit"])
def test_there_is_something_to_move_to_on_each_page_with_a_list(tab: Tab, path: str) -> None:
    tab.open(path)
    press(tab, "j")
    assert focused(tab) != ""


def test_the_way_past_the_navigation(tab: Tab) -> None:
    tab.open("/jobs")
    press(tab, "Tab")
    assert focused(tab) == "Skip to the content"
    assert tab.page.get_by_text("Skip to the content").bounding_box()["x"] >= 0  # type: ignore[index]
    press(tab, "Enter", "Tab")
    assert focused(tab) == "State"
