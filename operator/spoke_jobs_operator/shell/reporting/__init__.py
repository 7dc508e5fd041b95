"""Report to others: logs, Events, the published state, the status of SpokeLimits."""
