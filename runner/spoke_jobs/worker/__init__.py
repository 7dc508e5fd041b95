"""``spoke-jobs worker``: claim jobs of the ``legacy`` runner and run them in child processes.

The supervisor never runs a job's code. A job that hangs, crashes or runs out of memory affects its child process only.

`supervisor.py` runs `claiming.py`, `enforcing.py` (timeouts, cancellations), `memory_watch.py`, `child_exits.py` (why a
child ended), `suspect_types.py` (what it holds back) and `signal_state.py`; `job_loop.py` is the event loop that jobs
share. Metrics: `worker_metrics.py`, `worker_endpoint.py`, which counts of the ledger only what an index
has.
"""
