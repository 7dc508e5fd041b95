"""Read contacts files as organizations export them: bytes in, contacts out. No database, clock or network."""

from texting.contacts_csv.headings import Columns
from texting.contacts_csv.reading import ContactRow, ContactsFile, LeftOut, Reason, open_contacts
from texting.contacts_csv.refusals import MissingColumns, NotACsv, RefusedFile

__all__ = [
    "Columns",
    "ContactRow",
    "ContactsFile",
    "LeftOut",
    "MissingColumns",
    "NotACsv",
    "Reason",
    "RefusedFile",
    "open_contacts",
]
