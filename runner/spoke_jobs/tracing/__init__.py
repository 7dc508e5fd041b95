"""Spans of OpenTelemetry for dispatches, attempts and tasks. Imported only if the setting `SPOKE_TRACES` is on.

`span_values.py` has names and attributes, `tracing_middleware.py` says which spans there are, and the trace that a
histogram names.
"""
