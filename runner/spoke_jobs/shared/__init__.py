"""What every process of runner and operator needs, and what is not about jobs.

API errors, backoff, rates, lenient readers, texts, probes and metrics, logs. This package imports nothing of ours.
"""
