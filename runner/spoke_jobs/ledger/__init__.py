"""The ledger: the tables that record all dispatched jobs and how they ended, and the only code that writes them.

``tables`` defines the tables; ``sql_ledger`` is what the rest of the library uses, and ``memory_ledger`` the same for
tests without a database; ``lifecycle`` and ``claims`` have the guarded statements;
``engine`` opens a database; ``after_commit`` runs effects after a caller's transaction; ``migrations`` is the schema's
history. docs/architecture/ledger.md says what the other folders hold.

A column is a field of `model.py` and a migration in `migrations/versions/`; a table or an index also stands in
`tables.py`, a right to it in `access/privileges.py`. A transition is decided in `lifecycle/transitions.py`; may a job
start? `claims/eligibility.py`, for claims, counts, sync and `why`.
"""
