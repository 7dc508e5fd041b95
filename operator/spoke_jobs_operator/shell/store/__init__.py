"""The copy of the cluster in memory."""
