"""``spoke-jobs sync``: the process that keeps ledger and cluster in step. See docs/architecture/sync.md."""
