"""``spoke-jobs sync``: the process that keeps ledger and cluster consistent. See docs/architecture/sync.md.

`leader_loop.py` runs `effects.py` and counts; `decide.py` copies outcomes to rows; `limit_publisher.py` publishes
limits, `template_rules.py` checks PodTemplates, `auto_sizes.py` chooses requests, `worker_sets.py` and
`sync_metrics.py` tell the load, `usage_metrics.py` the usage. `undecided.py` has what follows an error in a decision.
"""
