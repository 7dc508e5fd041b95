"""What the long-running processes share: logging, signals, and the server of probes and metrics."""
