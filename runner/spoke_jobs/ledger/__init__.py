"""The ledger: the tables that say what was dispatched and how it ended, and the only code that writes them.

``tables`` what there is; ``port`` what the rest of the library asks of a ledger; ``sql`` and ``memory`` the two that
answer (one contract suite runs against both); ``transitions`` and ``claims`` the guarded statements; ``engine`` how a
database is opened; ``after_commit`` effects of a caller's transaction; ``migrations`` the schema's history.
"""
