"""Normalize single values: telephone numbers to E.164, US zip codes to five digits."""

from __future__ import annotations

import re

import phonenumbers

_NO_NUMBER = frozenset({"", "-", "n/a", "na", "none", "null", "nan"})
_SPREADSHEET_NUMBER = re.compile(r"\d+\.0")
_ZIP = re.compile(r"(\d{3,5})(?:\.0)?|(\d{3,5})[ -]?(\d{4})")


def is_missing(number: str) -> bool:
    """Whether a value of the number's column means that there is no number."""
    return number.strip().casefold() in _NO_NUMBER


def to_e164(number: str, country: str) -> str | None:
    """Return a telephone number in E.164, or None if it is invalid.

    :param country: ISO 3166 code in capitals, for a number without a country code.
    """
    number = number.strip()
    if _SPREADSHEET_NUMBER.fullmatch(number):
        number = number.removesuffix(".0")  # some programs write a column of numbers with an empty value as fractions
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        return None
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def to_zip(zip_code: str, country: str) -> str:
    """Return a postal code as it is stored: in the US its first five digits, elsewhere as written.

    Spreadsheets treat US codes as numbers and drop their leading zeros. They are restored: ``2134`` becomes ``02134``.
    A value that isn't a US code stays unchanged.
    """
    zip_code = zip_code.strip()
    if country != "US":
        return zip_code
    short = _ZIP.fullmatch(zip_code)
    if short:
        return (short[1] or short[2]).zfill(5)
    return zip_code[:5] if re.match(r"\d{5}", zip_code, re.ASCII) else zip_code
