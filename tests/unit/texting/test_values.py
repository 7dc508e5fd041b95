"""Numbers and zip codes."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from texting.contacts_csv.values import is_missing, to_e164, to_zip

written_numbers = st.one_of(
    st.text(max_size=20),
    st.text(alphabet="0123456789 ()+-.x/", max_size=20),
    st.from_regex(r"\+?1?[ -]?\(?[2-9][0-9]{2}\)?[ .-]?[0-9]{3}[ .-]?[0-9]{4}", fullmatch=True),
)


@pytest.mark.parametrize(
    "number",
    [
        *("(212) 555-0100", "212-555-0100", "212.555.0100", "2125550100", "+1 212 555 0100", "1-212-555-0100"),
        *("2125550100.0", " 212 555 0100 ", "\u202a+1 212 555 0100\u202c", "2125550100", "212-555-0100 x12"),
    ],
)
def test_reads_numbers_as_people_and_spreadsheets_write_them(number: str) -> None:
    assert to_e164(number, "US") == "+12125550100"


@pytest.mark.parametrize("number", ["555-0100", "123 456 7890", "call me", "+1 000 555 0100", "99999999999999", "1.5"])
def test_a_number_that_nobody_can_have_is_none(number: str) -> None:
    assert to_e164(number, "US") is None


def test_the_country_is_for_numbers_that_name_none() -> None:
    assert to_e164("020 7946 0018", "GB") == "+442079460018"
    assert to_e164("+44 20 7946 0018", "US") == "+442079460018"
    assert to_e164("020 7946 0018", "US") is None


@given(written_numbers)
def test_says_what_phonenumbers_says(number: str) -> None:
    try:
        parsed = phonenumbers.parse(number.strip().removesuffix(".0"), "US")
        valid = phonenumbers.is_valid_number(parsed)
    except phonenumbers.NumberParseException:
        valid = False
    got = to_e164(number, "US")
    assert (got is not None) == valid
    if got is not None:
        assert got == phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
        assert to_e164(got, "GB") == got


@pytest.mark.parametrize("blank", ["", "  ", "-", "N/A", "none", "NULL", "nan"])
def test_a_blank_is_missing(blank: str) -> None:
    assert is_missing(blank)
    assert not is_missing("call me")


@given(st.integers(501, 99_950).map("{:05}".format), st.integers(0, 9_999).map("{:04}".format))
def test_us_zips_keep_five_digits_and_their_leading_zeros(zip_code: str, plus_four: str) -> None:
    shortened = zip_code.lstrip("0")
    for written in (
        zip_code,
        f"{zip_code}-{plus_four}",
        f"{zip_code}{plus_four}",
        shortened,
        f"{shortened}.0",
        f"{shortened}-{plus_four}",
        f" {zip_code} ",
    ):
        assert to_zip(written, "US") == zip_code


@pytest.mark.parametrize(
    ("written", "kept"), [("K1A 0B6", "K1A 0B6"), ("", ""), ("12", "12"), ("02134 Boston", "02134")]
)
def test_what_is_no_us_zip_stays(written: str, kept: str) -> None:
    assert to_zip(written, "US") == kept


def test_zips_elsewhere_stay() -> None:
    assert to_zip(" 2134 ", "AU") == "2134"
    assert to_zip("123456", "IN") == "123456"
