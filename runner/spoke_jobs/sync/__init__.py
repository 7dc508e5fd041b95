"""``spoke-jobs sync``: the process that keeps ledger and cluster consistent. See docs/architecture/sync.md."""
