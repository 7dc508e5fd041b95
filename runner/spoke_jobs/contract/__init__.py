"""The contract: what runner and operator agree on. What is not about jobs is in :mod:`spoke_jobs.shared`.

Operator N must work with library N-1, and the reverse. Within one API version, values that cross between them (names of
fields, environment variables, exit codes, the termination message) may therefore be added, but not changed or removed.

This package imports neither SQLAlchemy, nor a Kubernetes client, nor kopf.

Jobs and cluster: `custom_resources/` (the SpokeJob's fields, and `custom_resources/kinds.py`, a row for each kind of
object, from which definitions, Roles, watches and `check` follow), `executors.py` (who starts a job, by runner and
lane), `retry.py` (budget and backoff), `limit_model.py` and `limit_scopes.py` (which limits apply), `start_rate.py`,
`standby.py`, `operator_state.py`, `failed_decisions.py`. Words: `causes.py`, `task_causes.py`, `wait_reasons.py`,
`wait_text.py`, `why_codes.py`, `quota_message.py`. Metrics: `metrics/`. A change of one of these tables needs `make
generate`.
"""

CONTRACT_VERSION = 1
"""Version of the environment, exit codes and termination message; the operator sends it, the pod checks it."""
