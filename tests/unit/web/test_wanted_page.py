"""The page to which *Sign in* leads: one of the dashboard, whatever a link says."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.web.wanted_page import LIMIT, OVERVIEW, local_page, sign_in_address, wanted_page

SITE = "https://jobs.test"
ROOT = "/ops"
REFUSED = (
    "",
    "jobs",
    "//evil.test",
    "/\\evil.test",
    "\\\\evil.test",
    "/\t/evil.test",
    "/\n/evil.test",
    "\t//evil.test",
    " //evil.test",
    "///evil.test",
    "https://evil.test/",
    "https:evil.test",
    "javascript:alert(1)",
    "/jobs\\..\\..\\admin",
    "/../admin",
    "/jobs/../../admin",
    "/jobs/%2e%2E/.%2e/admin",
    "/./jobs",
    "/jobs\r\nSet-Cookie: a=b",
    "/jobs\x00",
    "/jobs\x7f",
    "/jobs ",
    "/jobs\u3002",
    "/" + "a" * LIMIT,
)


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_leads_to_the_overview(text: str) -> None:
    assert local_page(text) == OVERVIEW


@pytest.mark.parametrize("text", ["/", "/jobs", "/jobs/7", "/jobs?type=a%2Fb*&state=failed", "/jobs?type=//a/../b"])
def test_a_page_of_the_dashboard_is_kept(text: str) -> None:
    assert local_page(text) == text


TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="/\\.%2eE:@?#\t\n\r evil", max_size=12),
    st.text(max_size=8).map(lambda text: "/" + text),
)


def as_browsers_read(text: str) -> str:
    """Remove and replace what browsers do before they look for a host (WHATWG URL)."""
    stripped = re.sub(r"[\t\n\r]", "", text.strip("".join(map(chr, range(0x21)))))
    before, mark, query = stripped.partition("?")
    return before.replace("\\", "/") + mark + query


@given(TEXTS)
@example("/\\/evil.test")
@example("/.//evil.test")
@example("/%2e%2e//evil.test")
def test_no_text_leads_out_of_the_dashboard(text: str) -> None:
    for root in ("", ROOT):
        found = root + local_page(text)
        read = as_browsers_read(found)
        assert read == found
        whole = urljoin(f"{SITE}{root}/sign-in", read.replace("%2e", ".").replace("%2E", "."))
        assert whole.startswith(f"{SITE}{root}/")
        assert urlsplit(whole).netloc == "jobs.test"


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1), max_size=3), st.binary())
def test_what_was_asked_for_is_found_again(segments: list[str], query: bytes) -> None:
    path = "/" + "/".join(segments)
    wanted = wanted_page(path, query)
    assert wanted == OVERVIEW or urlsplit(SITE + wanted).path.startswith("/")
    given_back = parse_qs(urlsplit(sign_in_address(wanted)).query).get("next", [OVERVIEW])[0]
    assert given_back == local_page(given_back) == wanted


def test_an_address_with_any_filter_is_kept() -> None:
    assert wanted_page("/jobs", b"type=a%5Cb&key=%C3%A9 \\") == "/jobs?type=a%5Cb&key=%C3%A9%20%5C"
    assert sign_in_address("/jobs?type=a&state=failed") == "/sign-in?next=%2Fjobs%3Ftype%3Da%26state%3Dfailed"
    assert sign_in_address(wanted_page("/", b"")) == "/sign-in"
