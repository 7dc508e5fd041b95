"""Which jobs may start, the search for them, and their claims: one, or many at once.

`eligibility.py` has the conditions: name one in `CLAIMABLE` for all claims; its field `unmet` is what `why` says of it.
Claims: `single_claim.py`, `bulk.py`, `limited_claims.py`, `unlimited_jobs.py`, asked for by `claim_request.py`. The
search for due jobs: `due_jobs.py`, `claim_search.py`, `claim_cursor.py`, `claim_route.py`, `claim_repair.py`; turns
among organizations: `claim_turns.py`, `turn_search.py`.
"""
