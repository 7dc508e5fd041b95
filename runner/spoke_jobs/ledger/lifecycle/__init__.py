"""The states of a job from its dispatch to its end: what each transition writes, and its statements.

`transitions.py` has the rules; `inserts.py`, `finish.py`, `retries.py`, `held_claims.py` (many at once) and
`checkpoints.py` the statements. A change by hand of when a job starts: `start_rules.py`, `start_changes.py`.
"""
