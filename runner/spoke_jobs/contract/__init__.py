"""What the runner and the operator share, and nothing else: change it with both in mind.

Operator N must work with library N-1 and the reverse, so every value here that crosses between them (names of fields,
environment variables, exit codes, the termination message) is only ever added to within one API version.

The room imports neither SQL nor Kubernetes nor kopf.
"""

CONTRACT_VERSION = 1
"""Version of the environment, exit codes and termination message; the operator sends it, the pod checks it."""
