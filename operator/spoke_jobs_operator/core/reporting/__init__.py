"""What the operator reports: Events, counts, the published state, the status of SpokeLimits."""
