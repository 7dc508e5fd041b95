"""The ledger: the tables that record all dispatched jobs and how they ended, and the only code that writes them.

``tables`` defines the tables; ``port`` is the interface that the rest of the library uses, with two implementations,
``sql_ledger`` and ``memory``, which pass one contract suite; ``lifecycle`` and ``claims`` have the guarded statements;
``engine`` opens a database; ``after_commit`` runs effects after a caller's transaction; ``migrations`` is the schema's
history. docs/architecture/ledger.md says what the other folders hold.

A column is a field of `model.py` and a migration in `migrations/versions/`; a table or an index also stands in
`tables.py`, a right to it in `access/privileges.py`. A transition is decided in `lifecycle/transitions.py`; may a job
start? `claims/eligibility.py`, for claims, counts, sync and `why`.
"""
