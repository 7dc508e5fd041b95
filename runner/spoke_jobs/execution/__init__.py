"""One attempt of a job, the same under every runner: claim it, keep its lease, run the function, record the end."""
