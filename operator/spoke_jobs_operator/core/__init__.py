"""What the operator decides: pure functions on frozen values, no I/O, no clock, no Kubernetes client."""
