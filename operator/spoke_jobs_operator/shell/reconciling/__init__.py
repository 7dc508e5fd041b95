"""Carry out decisions: the work queue and its worker, live reads, throttled status writes."""
