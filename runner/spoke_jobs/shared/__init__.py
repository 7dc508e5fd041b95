"""What every process of runner and operator needs, and what is not about jobs.

API errors, backoff, rates, lenient readers, texts, probes and metrics, logs. This package imports nothing of ours.

Readers of what others wrote: `strict_json.py`, `clean_text.py`, `object_fields.py`; add each new reader to
tests/readers.py. For all processes: `api_errors.py`, `token_bucket.py`, `backoff.py`, `probe_server.py`,
`metric_exposition.py`, `log_setup.py`, `otel_setup.py`.
"""
