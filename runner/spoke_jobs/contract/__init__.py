"""The contract: what runner and operator agree on. What is not about jobs is in :mod:`spoke_jobs.shared`.

Operator N must work with library N-1, and the reverse. Within one API version, values that cross between them (names of
fields, environment variables, exit codes, the termination message) may therefore be added, but not changed or removed.

This package imports neither SQLAlchemy, nor a Kubernetes client, nor kopf.
"""

CONTRACT_VERSION = 1
"""Version of the environment, exit codes and termination message; the operator sends it, the pod checks it."""
