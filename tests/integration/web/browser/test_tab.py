"""What goes wrong in a tab is noted: otherwise the tests of this folder would pass whatever happens."""

from __future__ import annotations

import pytest
from tests.integration.web.browser.tab import Tab
from tests.waiting import eventually

pytestmark = pytest.mark.long

INLINE = "() => document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')"
OTHER_SITE = "http://127.0.0.2:9/"
SCRIPT = """() => {
  const script = document.createElement("script");
  script.textContent = "window.ran = true";
  document.body.append(script);
}"""


@pytest.mark.parametrize(
    ("wrong", "noted"),
    [
        pytest.param("() => { setTimeout(() => { throw new Error('oh') }) }", "JavaScript: oh", id="an error"),
        pytest.param("() => console.error('oh')", "console: oh", id="an error in the console"),
        pytest.param(INLINE, "Content Security Policy", id="an inline style"),
        pytest.param(SCRIPT, "Content Security Policy", id="an inline script"),
        pytest.param("() => fetch('/nothing')", "a status of 404", id="an answer with an error"),
        pytest.param(
            f"() => fetch('{OTHER_SITE}').catch(() => {{}})", "Content Security Policy", id="a fetch elsewhere"
        ),
        pytest.param("() => { setTimeout(() => alert('oh')) }", "dialog: oh", id="a dialog"),
    ],
)
def test_it_is_noted(tab: Tab, wrong: str, noted: str) -> None:
    tab.open("/")
    assert tab.problems == []
    tab.page.evaluate(wrong)

    def is_noted() -> bool:
        tab.page.evaluate("() => 1")  # what the browser has to say arrives meanwhile
        return any(noted in problem for problem in tab.problems)

    eventually(is_noted, noted, state=lambda: tab.problems)
    assert tab.page.evaluate("() => window.ran === undefined")
    tab.problems.clear()


def test_a_page_of_another_site_is_noted(tab: Tab) -> None:
    with pytest.raises(Exception, match="ERR_"):
        tab.page.goto(OTHER_SITE)
    assert f"a request to another site: {OTHER_SITE}" in tab.problems
    tab.problems.clear()


def test_findings_are_found_in_each_mode(tab: Tab) -> None:
    tab.open("/")
    tab.page.evaluate(
        """() => {
          document.querySelector("main").insertAdjacentHTML("beforeend", '<input id="nameless">');
          const wide = document.createElement("p");
          wide.textContent = "wide";
          wide.style.inlineSize = "400px";
          document.querySelector("main").append(wide);
        }"""
    )
    found = tab.findings()
    assert {finding.partition(": ")[0] for finding in found if ": label: #nameless: " in finding} == {
        "light",
        "dark",
        "phone",
    }
    assert any(finding.startswith("phone: the page is ") for finding in found)
