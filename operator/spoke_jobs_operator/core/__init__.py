"""The operator's decisions: pure functions on frozen values, without I/O, clock or Kubernetes client."""
