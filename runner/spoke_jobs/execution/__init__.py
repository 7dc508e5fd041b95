"""Run one attempt of a job, the same way under every runner: keep its lease, call the function, record the end."""
