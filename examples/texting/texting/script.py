"""A campaign's script: the message with placeholders for each contact's values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from texting.models import Contact

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_ALWAYS = ("firstName", "lastName")
"""The fields of every contact."""


def filled(script: str, contact: Contact) -> str:
    """Render the script for one contact. Placeholders without a value become empty."""
    values = {**contact.custom_fields, "firstName": contact.first_name, "lastName": contact.last_name}
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], ""), script)


def unknown_names(script: str, custom_fields: Iterable[str]) -> Sequence[str]:
    """List the names in the script that no contact can have a value for, each once."""
    known = {*_ALWAYS, *custom_fields}
    return [name for name in dict.fromkeys(_PLACEHOLDER.findall(script)) if name not in known]
