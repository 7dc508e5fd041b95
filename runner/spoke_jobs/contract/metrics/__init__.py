"""The catalogue of metrics: what each process reports, and how Prometheus' families are made from it."""
