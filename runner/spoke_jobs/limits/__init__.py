"""An application's limits, rates and pauses: their values, and the decision whether a job may start. Pure.

`job_limit.py` has the values, `admission.py` the decision, `limit_file.py` the file of `limits apply`;
`operator_limits.py` and `published_limits.py` are the ledger's limits under `kubernetes`.
"""
