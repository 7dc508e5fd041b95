"""Run one attempt of a job, the same way under every runner: keep its lease, call the function, record the end.

`context.py` is what a job sees as `ctx`; `attempt.py` has the sequence of an attempt and `attempt_decisions.py` its
decisions; `thread_attempt.py` and, in the worker, `worker/async_child.py` drive it; `run_sequence.py` is what jobs and
tasks share. `lease.py` decides about heartbeats, `lease_keeper.py` has their threads. Steps: `attempt_checkpoints.py`.
Measurement: `usage_meter.py`, `process_memory.py`. A pod's entrypoint: `pod.py`, of a standby pod also
`standby_endpoint.py`.
"""
